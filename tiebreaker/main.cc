// antipode-tiebreaker: the daemon at the third site, and its administration. See
// docs/OPERATIONS.md.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>

#include "tiebreaker/admin.h"
#include "tiebreaker/daemon.h"

namespace antipode::tiebreaker {
namespace {

struct Options {
    std::string config = "/etc/antipode/tiebreaker/tiebreaker.toml";
    std::string pair;
    std::string file;
    size_t lines = 100;
};

Result<> check(const Options& options) {
    FT_TRY(const Config config, load_config(options.config));
    auto tls = env::make_mutual_tls(env::TlsRole::server, config.tls);
    if (!tls) return fail(std::move(tls).error());
    if (config.store == StoreKind::etcd) FT_TRY_VOID(etcd::check(config.etcd.client));
    fmt::print("{}: sound\n", options.config);
    return {};
}

using Command = std::function<Result<>(const Config&, const Options&)>;

void add_config(CLI::App& command, Options& options) {
    command.add_option("config,--config", options.config, "the configuration")
        ->capture_default_str();
}

using Commands = std::vector<std::pair<CLI::App*, Command>>;

Commands add_admin(CLI::App& admin, Options& options) {
    Commands commands;
    const auto add = [&](const char* name, const char* help, Command command) {
        commands.emplace_back(admin.add_subcommand(name, help), std::move(command));
        return commands.back().first;
    };
    add("list", "every pair's record",
        [](const Config& config, const Options&) { return admin_list(config); });
    CLI::App* history = add("history", "what was decided, newest last",
                            [](const Config& config, const Options& given) {
                                return admin_history(config, given.pair, given.lines);
                            });
    history->add_option("pair", options.pair, "of this pair only");
    history->add_option("--lines", options.lines, "so many")->capture_default_str();
    add("forget", "no site may go on with this pair any more; its epoch is kept",
        [](const Config& config, const Options& given) { return admin_forget(config, given.pair); })
        ->add_option("pair", options.pair)
        ->required();
    add("backup", "a consistent copy, beside a running daemon (of etcd: `etcdctl snapshot save`)",
        [](const Config& config, const Options& given) { return admin_backup(config, given.file); })
        ->add_option("file", options.file)
        ->required();
    add("restore",
        "put a copy back, under a new identity; the daemon must be stopped. etcd is put back with "
        "`etcdctl snapshot restore`; then this, without a FILE, gives it its new identity",
        [](const Config& config, const Options& given) {
            return admin_restore(config, given.file);
        })
        ->add_option("file", options.file, "with kind = \"sqlite\"");
    add("adopt",
        "follow an etcd store that this machine has not served yet: you vouch that etcd was not "
        "put back from a backup",
        [](const Config& config, const Options&) { return admin_adopt(config); });
    add("verify", "check every record and the chain of history",
        [](const Config& config, const Options&) { return admin_verify(config); });
    add("status", "of the running daemon",
        [](const Config& config, const Options&) { return admin_ask(config, "status"); });
    add("metrics", "of the running daemon, for Prometheus",
        [](const Config& config, const Options&) { return admin_ask(config, "metrics"); });
    return commands;
}

int main_of(int argc, char** argv) {
    CLI::App app("antipode-tiebreaker: decides, once and durably, which site of a pair may go on");
    app.require_subcommand(1);
    Options options;
    CLI::App* run = app.add_subcommand("run", "serve, until SIGTERM");
    add_config(*run, options);
    CLI::App* check_command =
        app.add_subcommand("check", "look at the configuration, start nothing");
    add_config(*check_command, options);
    CLI::App* admin = app.add_subcommand("admin", "look at the records, and look after them");
    admin->add_option("--config", options.config, "the configuration")->capture_default_str();
    admin->require_subcommand(1);
    const Commands commands = add_admin(*admin, options);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (run->parsed()) return run_daemon(options.config);
    Result<> done;
    if (check_command->parsed()) {
        done = check(options);
    } else {
        for (const auto& [command, function] : commands) {
            if (!command->parsed()) continue;
            const auto config = load_config(options.config);
            done = config ? function(*config, options) : fail(config.error());
        }
    }
    if (done) return 0;
    fmt::print(stderr, "antipode-tiebreaker: {}\n", done.error().context);
    return 1;
}

}  // namespace
}  // namespace antipode::tiebreaker

int main(int argc, char** argv) {
    return antipode::tiebreaker::main_of(argc, argv);
}
