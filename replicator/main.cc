// antipode-replicator: runs one protected VM at one site.
#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <systemd/sd-daemon.h>

#include "common/base/log.h"
#include "replicator/control/confinement.h"
#include "replicator/control/link_test.h"
#include "replicator/control/node.h"
#include "replicator/control/restore.h"
#include "replicator/control/system_journal.h"
#include "replicator/control/watchdog.h"
#include "replicator/replay/probe.h"
#include "replicator/stream/curve_keys.h"

namespace antipode {
namespace {

constexpr int kExitFailed = 1;

int report(const Error& error) {
    std::fprintf(stderr, "antipode-replicator: %s\n", error.to_string().c_str());
    return kExitFailed;
}

enum class Form : uint8_t { text, json };

int probe(const replay::ProbeOptions& options, Form form) {
    const auto report = replay::probe_host(options);
    const auto text = form == Form::json ? replay::to_json(report) : replay::to_text(report);
    std::fputs(text.c_str(), stdout);
    return replay::exit_code(report);
}

int run(const std::string& directory) {
    auto config = control::load_node_config(directory);
    if (!config) return report(config.error());
    set_log_identity(fmt::format("{}@{}", config->pair.pair, config->pair.site));
    // Before any thread is there: what it starts and forks inherits it.
    if (const auto confined = control::confine_process(); !confined) {
        logger("control").warn("{}", confined.error().to_string());
    }
    control::SystemJournal journal(std::string(config->pair.pair.view()),
                                   std::string(config->pair.site.view()));
    config->on_event = [&journal](const control::Event& event) { journal.write(event); };
    boost::asio::io_context context(1);
    auto node = control::Node::start(context, std::move(*config));
    if (!node) return report(node.error());
    boost::asio::signal_set signals(context, SIGTERM, SIGINT);
    signals.async_wait([&](const boost::system::error_code& error, int number) {
        if (error) return;
        sd_notify(0, "STOPPING=1");
        (*node)->shutdown(fmt::format("signal {}", number));
        signals.cancel();
    });
    sd_notify(0, "READY=1");
    auto watchdog = control::Watchdog::for_systemd(context, (*node)->watched_parts());
    (*node)->on_shutdown([&] {
        signals.cancel();
        watchdog.reset();
    });
    context.run();
    if (const auto& failure = (*node)->failure()) return report(*failure);
    return (*node)->exit_code();
}

int check(const std::string& directory) {
    const auto config = control::load_node_config(directory);
    if (!config) return report(config.error());
    if (const auto files = control::check_files(*config); !files) return report(files.error());
    std::printf("%s: pair %s, site %s: good\n", directory.c_str(),
                std::string(config->pair.pair.view()).c_str(),
                std::string(config->pair.site.view()).c_str());
    return 0;
}

struct LinkTestArguments {
    double seconds = 5;
    double wait_seconds = 60;
    bool json = false;
};

int link_test(const std::string& directory, const LinkTestArguments& arguments) {
    const auto pair = control::load_pair_config(directory + "/pair.toml");
    if (!pair) return report(pair.error());
    set_log_identity(fmt::format("{}@{}", pair->pair, pair->site));
    control::LinkTestOptions options;
    const auto duration = [](double seconds) {
        return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    };
    options.seconds = duration(arguments.seconds);
    options.patience = duration(arguments.wait_seconds);
    boost::asio::io_context context(1);
    const auto measured = control::run_link_test(context, *pair, options);
    if (!measured) return report(measured.error());
    const auto text = arguments.json ? to_json_text(*measured) + "\n" : control::to_text(*measured);
    std::fputs(text.c_str(), stdout);
    return 0;
}

int keygen(const std::string& directory) {
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) return report(errno_error(error.value(), directory));
    const auto channel =
        stream::write_new_curve_keys(directory + "/channel.key", directory + "/channel.pub");
    if (!channel) return report(channel.error());
    const auto heartbeat = stream::write_new_heartbeat_key(directory + "/heartbeat.key");
    if (!heartbeat) return report(heartbeat.error());
    std::printf(
        "%s: channel.key (secret), channel.pub (for the peer), heartbeat.key (for both sites)\n",
        directory.c_str());
    return 0;
}

// Done, or said why not.
int finish(const Result<void>& done) {
    return done ? 0 : report(done.error());
}

int snapshot(const std::string& directory, const std::string& name) {
    const auto made = control::request_snapshot(directory, name);
    if (!made) return report(made.error());
    std::printf("%s\n", made->c_str());
    return 0;
}

struct SnapshotCommands {
    CLI::App* take = nullptr;
    CLI::App* restore = nullptr;
    CLI::App* dump = nullptr;
    std::string directory;
    std::string name;
    std::string file;
    bool overwrite = false;
    bool disks_only = false;
    bool network = false;
    bool pieces = false;

    void add_to(CLI::App& app) {
        take = app.add_subcommand(
            "snapshot",
            "Write the running VM of the pair in DIR, with memory and disks, to a file");
        take->add_option("DIR", directory, "Directory with pair.toml")->required();
        take->add_option("NAME", name, "Of the file in the state directory's snapshots/")
            ->required();
        restore = app.add_subcommand("restore",
                                     "Run a VM from a snapshot file, by itself and unprotected");
        restore->add_option("FILE", file, "The snapshot")->required();
        restore->add_option("DIR", directory, "Directory with vm.json")->required();
        restore->add_flag("--overwrite", overwrite, "Drives that exist lose what they hold");
        restore->add_flag("--disks-only", disks_only, "Fill the drives and end");
        restore->add_flag("--network", network,
                          "Join the interfaces of vm.json; not while the VM runs elsewhere");
        dump = app.add_subcommand("dump-snapshot", "Check a snapshot file and print what is in it");
        dump->add_option("FILE", file, "The snapshot")->required();
        dump->add_flag("--pieces", pieces, "A line for each piece");
    }
    // Nothing: none of these was asked for.
    std::optional<int> run() const {
        if (take->parsed()) return snapshot(directory, name);
        if (dump->parsed()) {
            return finish(control::dump_snapshot(
                file, pieces ? control::DumpDetail::pieces : control::DumpDetail::summary));
        }
        if (!restore->parsed()) return std::nullopt;
        using Options = control::RestoreOptions;
        Options options;
        options.file = file;
        options.directory = directory;
        if (overwrite) options.existing = Options::Existing::overwrite;
        if (disks_only) options.until = Options::Until::the_drives_are_filled;
        if (network) options.network = Options::Network::taps_of_vm_json;
        return finish(control::restore_snapshot(options));
    }
};

}  // namespace
}  // namespace antipode

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);
    CLI::App app("Antipode replicator: records, streams and replays one protected VM");
    app.set_version_flag("--version", ANTIPODE_VERSION);
    app.require_subcommand(1);
    auto* probe = app.add_subcommand("probe",
                                     "Find out what this host can do for a protected VM. Exit code "
                                     "0: lockstep and checkpoint mode, 10: lockstep only, 11: "
                                     "checkpoint only, 1: neither");
    bool json = false;
    antipode::replay::ProbeOptions probe_options;
    probe->add_flag("--json", json, "Print JSON");
    probe->add_option("--runs", probe_options.torture_runs, "Replays of the torture guest")
        ->check(CLI::Range(1, 100000));
    probe->add_option("--seed", probe_options.seed, "Of what the torture guest is given");
    std::string directory;
    auto* run = app.add_subcommand("run", "Run the site of a pair described in DIR");
    run->add_option("DIR", directory, "Directory with vm.json and pair.toml")->required();
    auto* check = app.add_subcommand("check", "Check DIR and everything it names, start nothing");
    check->add_option("DIR", directory, "Directory with vm.json and pair.toml")->required();
    auto* keygen = app.add_subcommand("keygen", "Make the keys of a site's channel and heartbeats");
    keygen->add_option("DIR", directory, "Directory to write them to")->required();
    antipode::LinkTestArguments line;
    auto* link_test = app.add_subcommand(
        "link-test", "Measure the line of the pair in DIR; run it at both sites at the same time");
    link_test->add_option("DIR", directory, "Directory with pair.toml")->required();
    link_test->add_option("--seconds", line.seconds, "For each of the three measurements")
        ->check(CLI::Range(0.5, 3600.0))
        ->capture_default_str();
    link_test->add_option("--wait", line.wait_seconds, "Seconds to wait for the other site")
        ->check(CLI::Range(1.0, 86400.0))
        ->capture_default_str();
    link_test->add_flag("--json", line.json, "Figures as one line of JSON");
    antipode::SnapshotCommands snapshots;
    snapshots.add_to(app);
    CLI11_PARSE(app, argc, argv);
    if (const auto done = snapshots.run()) return *done;
    if (probe->parsed()) {
        return antipode::probe(probe_options, json ? antipode::Form::json : antipode::Form::text);
    }
    if (run->parsed()) return antipode::run(directory);
    if (check->parsed()) return antipode::check(directory);
    if (link_test->parsed()) return antipode::link_test(directory, line);
    return antipode::keygen(directory);
}
