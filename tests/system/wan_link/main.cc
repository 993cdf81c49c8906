// wan_link: a wide area network in a process. Forwards TCP and UDP between addresses with delay,
// jitter, loss, limited bandwidth, reordering and cuts (wan.h has the commands).
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <sys/prctl.h>

#include "tests/system/wan_link/console.h"

int main(int argc, char** argv) {
    using namespace antipode;
    CLI::App app("An emulator of long lines, for tests and the demo");
    std::vector<std::string> commands;
    std::string control;
    uint64_t seed = 1;
    bool standard_input = false;
    app.add_option("--command", commands, "A command to start with; may be given again")
        ->allow_extra_args(false);
    app.add_option("--control", control, "Take commands on this unix socket");
    app.add_flag("--stdin", standard_input, "Take commands on standard input; its end ends this");
    app.add_option("--seed", seed, "Of all chance");
    CLI11_PARSE(app, argc, argv);

    std::signal(SIGPIPE, SIG_IGN);
    ::prctl(PR_SET_TIMERSLACK, 1);  // by default a timer may be 50 us late
    boost::asio::io_context context(1);
    wan::Wan wan(context, seed);
    wan::Console console(context, wan);
    for (const std::string& command : commands) {
        if (auto done = wan.execute(command); !done) {
            std::fprintf(stderr, "wan_link: %s: %s\n", command.c_str(),
                         done.error().context.c_str());
            return 1;
        }
    }
    if (!control.empty()) {
        if (auto listening = console.listen(control); !listening) {
            std::fprintf(stderr, "wan_link: --control %s\n", listening.error().context.c_str());
            return 1;
        }
    }
    if (standard_input) console.read_standard_input();
    std::puts("ready");
    std::fflush(stdout);
    context.run();
    return 0;
}
