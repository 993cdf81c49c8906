// nbd_load: a client of NBD servers for tests and benches: measures, records what was answered, or
// exercises a disk and compares every read (workloads.h).
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "tests/system/nbd_load/workloads.h"

int main(int argc, char** argv) {
    using namespace antipode;
    nbd_load::Options options;
    CLI::App line("A client of NBD servers, for tests and benches");
    line.require_subcommand(1);
    std::function<Result<>()> run;
    const auto add = [&](const char* name, const char* what, auto workload) {
        CLI::App* made = line.add_subcommand(name, what);
        made->add_option("URI", options.uris, "a connection for each")->required();
        made->add_option("--seed", options.seed);
        made->add_option("--depth", options.depth, "commands in flight")
            ->check(CLI::Range(1, 1024));
        made->add_option("--block", options.block_bytes)->check(CLI::Range(512, 1 << 20));
        made->add_option("--span", options.span_bytes, "bytes of the disk that are used; 0: all");
        made->callback([&run, &options, workload] {
            run = [&options, workload] { return workload(options); };
        });
        return made;
    };
    CLI::App* measure = add("measure", "how fast, one line of JSON", nbd_load::measure);
    measure->add_option("--operation", options.operation)
        ->check(CLI::IsMember({"read", "write", "write-then-flush"}));
    measure->add_flag("--fua", options.fua);
    measure->add_option("--seconds", options.seconds);
    CLI::App* record = add("record", "numbered writes, and which were answered", nbd_load::record);
    record->add_option("--operations", options.operations);
    record->add_option("--first-number", options.first_number);
    add("exercise", "random operations on an empty disk, every read compared", nbd_load::exercise)
        ->add_option("--operations", options.operations);
    CLI11_PARSE(line, argc, argv);
    std::signal(SIGPIPE, SIG_IGN);
    const auto done = run();
    std::fflush(stdout);
    if (done) return 0;
    std::fprintf(stderr, "nbd_load: %s\n", done.error().to_string().c_str());
    return 1;
}
