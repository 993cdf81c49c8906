// disksync: the command for replicated disks. docs/OPERATIONS.md shows its use.
#include <CLI/CLI.hpp>
#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <csignal>
#include <ctime>
#include <iostream>

#include "disksync/service/control_socket.h"
#include "disksync/service/group.h"
#include "disksync/service/metadata_tool.h"

namespace antipode::disksync {
namespace {

namespace json = boost::json;

struct Options {
    std::string config;
    std::string disk;
    std::string mode;
    bool as_json = false;
    bool force = false;
    bool at_point = false;
    std::string confirmed;
    std::vector<std::string> carried;
    std::string replaced;
    std::string undo_file;
    std::string out_file;
    bool has_data = false;
    bool both_empty = false;
    bool unchecked = false;
    bool preview = false;
    bool discard_local = false;
    bool repair = false;
    uint64_t first = 0;
    uint64_t count = ~uint64_t{0};
    uint64_t rate = 0;
};
using Command = std::function<Result<>()>;

std::string text_of(const json::value& value) {
    return value.is_string() ? std::string(value.as_string()) : json::serialize(value);
}

Result<json::object> ask(const Options& options, const std::string& line) {
    FT_TRY(const GroupConfig config, load_group_config(options.config));
    auto answered = env::LineSocket::ask(kControlSocket, config.control_socket, line);
    if (!answered) {
        return fail(Errc::unreachable, "group {} is not served here: {}", config.node.pair,
                    answered.error().context);
    }
    boost::system::error_code error;
    const json::value value = json::parse(*answered, error);
    if (error || !value.is_object()) {
        return fail(Errc::protocol, "{}: an answer that is no JSON object", config.control_socket);
    }
    if (const json::value* refused = value.as_object().if_contains("error")) {
        return fail(Errc::denied, "{}", text_of(*refused));
    }
    return value.as_object();
}

Result<> order(const Options& options, const std::string& line) {
    FT_TRY_VOID(ask(options, line));
    return {};
}

// Local time of Unix seconds.
std::string time_of(const json::value& seconds) {
    const auto since = static_cast<std::time_t>(seconds.to_number<int64_t>());
    std::tm local{};
    std::array<char, 32> text{};
    ::localtime_r(&since, &local);
    return {text.data(), std::strftime(text.data(), text.size(), "%F %T", &local)};
}

void print_disk(const json::object& disk) {
    const auto field = [&](const char* key) { return text_of(disk.at(key)); };
    std::cout << "  " << field("name") << "  " << field("role") << " " << field("state");
    if (disk.contains("peer_state")) std::cout << " / peer " << field("peer_state");
    std::cout << "  marked " << field("marked_blocks") << "  " << field("phase");
    if (disk.contains("blocks_left")) {
        const double left = disk.at("blocks_left").to_number<double>();
        const double total = disk.at("blocks_total").to_number<double>();
        const double percent = total > 0 ? 100.0 * (total - left) / total : 0;
        std::cout << fmt::format(" {:.1f}% {:.1f} MB/s", percent,
                                 disk.at("bytes_per_second").to_number<double>() / 1e6);
        if (disk.contains("seconds_left")) {
            std::cout << fmt::format(", {:.0f} s left",
                                     disk.at("seconds_left").to_number<double>());
        }
    }
    if (disk.at("paused").as_bool()) std::cout << " paused";
    if (disk.contains("verify_ended_at")) {
        std::cout << "  verified " << time_of(disk.at("verify_ended_at")) << ": "
                  << field("verify_differences") << " differences in " << field("verify_blocks")
                  << " blocks" << (disk.at("verify_complete").as_bool() ? "" : ", broken off");
    }
    if (!field("reason").empty()) std::cout << "  (" << field("reason") << ")";
    std::cout << "\n";
    const json::value* kept = disk.if_contains("kept_undo");
    if (kept == nullptr) return;
    for (const json::value& each : kept->as_array()) {
        const json::object& undo = each.as_object();
        std::cout << "    kept since " << time_of(undo.at("kept_at")) << ": "
                  << text_of(undo.at("file")) << ", " << text_of(undo.at("bytes")) << " bytes\n";
    }
}

// When a consistent point was, as far as that is known.
std::string moment_of(const json::object& point) {
    if (const json::value* time = point.if_contains("time")) return "of " + time_of(*time);
    if (const json::value* since = point.if_contains("not_before")) {
        return "of no earlier than " + time_of(*since);
    }
    return "of an unknown time";
}

void print_point(const json::object& status) {
    const json::object& point = status.at("consistent_point").as_object();
    const bool exists = point.at("exists").as_bool();
    std::cout << "  consistent point: "
              << (exists ? moment_of(point) : "none, " + text_of(point.at("reason"))) << "; "
              << text_of(point.at("views_open")) << " views open\n";
}

Result<> status_command(const Options& options) {
    FT_TRY(const json::object status, ask(options, "status"));
    if (options.as_json) {
        std::cout << json::serialize(status) << "\n";
        return {};
    }
    std::cout << text_of(status.at("group")) << "  " << text_of(status.at("link")) << " to "
              << text_of(status.at("peer"));
    if (!text_of(status.at("link_reason")).empty()) {
        std::cout << " (" << text_of(status.at("link_reason")) << ")";
    }
    std::cout << "  " << text_of(status.at("mode")) << "  backlog "
              << text_of(status.at("backlog_bytes")) << " bytes\n";
    for (const json::value& disk : status.at("disks").as_array()) print_disk(disk.as_object());
    print_point(status);
    return {};
}

// Says what is given up, and does it where that was confirmed.
Result<> promote_at_point(const Options& options) {
    FT_TRY(const json::object status, ask(options, "status"));
    const json::object& point = status.at("consistent_point").as_object();
    if (!point.at("exists").as_bool()) {
        return fail(Errc::denied, "there is no consistent point to go on from: {}",
                    text_of(point.at("reason")));
    }
    const std::string group = text_of(status.at("group"));
    std::cout << group << " goes on from its last consistent point, " << moment_of(point)
              << ". What was written at the peer after that is given up.\n";
    for (const json::value& value : status.at("disks").as_array()) {
        const json::object& disk = value.as_object();
        std::cout << "  " << text_of(disk.at("name")) << "  " << text_of(disk.at("state"))
                  << "  generation " << text_of(disk.at("generation")) << ": "
                  << text_of(disk.at("undo_blocks"))
                  << " blocks of 64 KiB that had come go back to what they were\n";
    }
    if (options.confirmed != group) {
        return fail(Errc::denied, "nothing has been done; to do it: --confirm {}", group);
    }
    return order(options, "promote at-point");
}

Result<> promote_command(const Options& options) {
    if (options.at_point && options.force) {
        return fail(Errc::invalid_argument, "promote: --force or --at-point, not both");
    }
    if (options.at_point) return promote_at_point(options);
    if (!options.confirmed.empty()) {
        return fail(Errc::invalid_argument, "promote: --confirm goes with --at-point");
    }
    return order(options, options.force ? "promote force" : "promote");
}

Result<> events_command(const Options& options) {
    FT_TRY(const json::object answer, ask(options, "events"));
    for (const json::value& event : answer.at("events").as_array()) {
        std::cout << json::serialize(event) << "\n";
    }
    return {};
}

// Of one choice in a split brain: what the side that gives way loses.
std::string loss_of(const json::object& preview) {
    const auto count = preview.at("blocks_lost").to_number<uint64_t>();
    std::string text = fmt::format("{}{} blocks of 64 KiB are lost",
                                   preview.at("exact").as_bool() ? "" : "at least ", count);
    const json::value& since = preview.at("lost_since");
    if (since.to_number<int64_t>() == 0) return text;
    return text + ", written since " + time_of(since);
}

Result<> resolve_command(const Options& options) {
    if (options.preview == options.discard_local) {
        return fail(Errc::invalid_argument, "resolve: say --preview or --discard-local");
    }
    if (options.discard_local) {
        FT_TRY_VOID(order(options, "demote"));
        return order(options, "discard-mine");
    }
    FT_TRY(const json::object status, ask(options, "status"));
    for (const json::value& value : status.at("disks").as_array()) {
        const json::object& disk = value.as_object();
        if (!disk.contains("if_this_site_wins")) {
            return fail(Errc::unreachable, "disk {}: the peer's copy is not known yet",
                        text_of(disk.at("name")));
        }
        std::cout << text_of(disk.at("name")) << "  " << text_of(disk.at("decision")) << ": "
                  << text_of(disk.at("decision_reason"))
                  << "\n  if this site wins: " << loss_of(disk.at("if_this_site_wins").as_object())
                  << "\n  if the peer wins:  " << loss_of(disk.at("if_the_peer_wins").as_object())
                  << "\n";
    }
    return {};
}

// DISK=GENERATION, as `carry` prints it.
Result<CarriedCopies> carried_copies(const std::vector<std::string>& words) {
    CarriedCopies copies;
    for (const std::string& word : words) {
        const size_t equals = word.find('=');
        uint64_t generation = 0;
        const char* const end = word.data() + word.size();
        const char* const number = equals == std::string::npos ? end : word.data() + equals + 1;
        const auto read = std::from_chars(number, end, generation, 16);
        if (read.ec != std::errc() || read.ptr != end || generation == 0) {
            return fail(Errc::invalid_argument, "--carried \"{}\": expected DISK=GENERATION", word);
        }
        copies[word.substr(0, equals)] = Generation(generation);
    }
    return copies;
}

Result<> carry_command(const Options& options) {
    FT_TRY(const json::object answer, ask(options, "carry"));
    for (const auto& [disk, generation] : answer.at("carried").as_object()) {
        std::cout << disk << "=" << text_of(generation) << "\n";
    }
    return {};
}

Result<> create_command(const Options& options) {
    const int ways = (options.has_data ? 1 : 0) + (options.both_empty ? 1 : 0) +
                     (options.carried.empty() ? 0 : 1) + (options.replaced.empty() ? 0 : 1);
    if (ways > 1) {
        return fail(Errc::invalid_argument,
                    "create: one of --has-data, --both-empty, --carried and --replace, or none");
    }
    if (options.unchecked && !options.both_empty) {
        return fail(Errc::invalid_argument, "create: --unchecked goes with --both-empty");
    }
    if (!options.replaced.empty()) {
        return replace_disk(options.config, options.replaced, std::cout);
    }
    FT_TRY(const GroupConfig config, load_group_config(options.config));
    if (!options.carried.empty()) {
        FT_TRY(const CarriedCopies copies, carried_copies(options.carried));
        return create_group(config, FirstContents::carried, copies);
    }
    const FirstContents contents = options.has_data     ? FirstContents::data
                                   : options.unchecked  ? FirstContents::called_empty
                                   : options.both_empty ? FirstContents::empty
                                                        : FirstContents::blank;
    return create_group(config, contents);
}

// The daemon without NBD: for a site that only holds the copy.
Result<> attach_command(const Options& options) {
    FT_TRY(const GroupConfig config, load_group_config(options.config));
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr);
    FT_TRY(const std::unique_ptr<Group> group, Group::start(config));
    int which = 0;
    sigwait(&ends, &which);
    group->stop();
    return {};
}

std::string verify_line(const Options& options) {
    if (options.count == ~uint64_t{0} && options.first == 0) return "verify " + options.disk;
    return fmt::format("verify {} {} {}", options.disk, options.first, options.count);
}

CLI::App* add(CLI::App& line, const std::string& name, const std::string& what, Options& options,
              Command& command, Command action) {
    CLI::App* made = line.add_subcommand(name, what);
    made->add_option("CONFIG", options.config, "the group's configuration file")->required();
    made->callback([&command, action = std::move(action)] { command = action; });
    return made;
}

void describe_orders(CLI::App& line, Options& options, Command& command) {
    const auto say = [&](const char* name, const char* what) {
        return add(line, name, what, options, command,
                   [&options, text = std::string(name)] { return order(options, text); });
    };
    say("demote", "end being primary, cleanly");
    say("invalidate", "this copy counts for nothing: a full resync from the peer");
    say("outdate", "the peer is known to have newer data");
    say("resync", "send every block to the peer again");
    say("pause", "pause resync and verify, at the side that sends");
    say("resume", "go on");
    say("disconnect", "end the connection and make none");
    say("connect", "connect again");
    CLI::App* promote = add(line, "promote", "this site's copy becomes the one that is written",
                            options, command, [&options] { return promote_command(options); });
    promote->add_flag("--force", options.force, "although the peer may have newer data");
    promote->add_flag("--at-point", options.at_point,
                      "in the middle of a resync, from the last consistent point; shows first what "
                      "that gives up");
    promote->add_option("--confirm", options.confirmed, "GROUP: with --at-point: does it");
    add(line, "rate", "the most a resync may send, bytes a second; 0 = no limit", options, command,
        [&options] { return order(options, fmt::format("rate {}", options.rate)); })
        ->add_option("BYTES", options.rate)
        ->required();
    add(line, "mode", "async, semi-sync or sync, until the next start", options, command,
        [&options] { return order(options, "mode " + options.mode); })
        ->add_option("MODE", options.mode)
        ->required();
    CLI::App* verify = add(line, "verify", "compare the copies, and mend", options, command,
                           [&options] { return order(options, verify_line(options)); });
    verify->add_option("DISK", options.disk)->required();
    verify->add_option("--first", options.first, "block of 64 KiB");
    verify->add_option("--count", options.count, "blocks");
    add(line, "resize", "take up the size of a store that has grown", options, command,
        [&options] { return order(options, "resize " + options.disk); })
        ->add_option("DISK", options.disk)
        ->required();
}

void describe(CLI::App& line, Options& options, Command& command) {
    line.require_subcommand(1);
    CLI::App* create = add(line, "create", "make the metadata of every disk of a group", options,
                           command, [&options] { return create_command(options); });
    create->add_flag("--has-data", options.has_data, "this copy has the data");
    create->add_flag("--both-empty", options.both_empty,
                     "both copies are of zeroes; what is not a hole is read");
    create->add_flag("--unchecked", options.unchecked,
                     "with --both-empty: nothing is read; both copies are known to be equal");
    create->add_option("--carried", options.carried,
                       "DISK=GENERATION: the store is a copy that was carried here");
    create->add_option("--replace", options.replaced,
                       "DISK, that has Failed: its store is mended or another one; only its "
                       "metadata is made anew");
    add(line, "carry", "before a copy of the stores is made, to be carried to a new peer", options,
        command, [&options] { return carry_command(options); });
    add(line, "attach", "hold this site's copy, without serving it", options, command,
        [&options] { return attach_command(options); });
    add(line, "status", "roles, states, progress", options, command, [&options] {
        return status_command(options);
    })->add_flag("--json", options.as_json);
    add(line, "events", "what happened, newest last", options, command,
        [&options] { return events_command(options); });
    CLI::App* resolve = add(line, "resolve", "a split brain: look, or give way", options, command,
                            [&options] { return resolve_command(options); });
    resolve->add_flag("--preview", options.preview, "what each choice would lose");
    resolve->add_flag("--discard-local", options.discard_local, "this site gives way");
    add(line, "dump-metadata", "all that a disk's metadata says, as JSON", options, command,
        [&options] { return dump_metadata(options.config, options.disk, std::cout); })
        ->add_option("DISK", options.disk)
        ->required();
    CLI::App* check =
        add(line, "check", "check the metadata of a group that is not served", options, command,
            [&options] { return check_metadata(options.config, options.repair, std::cout); });
    check->add_flag("--repair", options.repair, "write back what could be saved");
    CLI::App* exported =
        add(line, "undo-export", "write what an undo file holds to a sparse raw file", options,
            command, [&options] {
                return export_undo(options.config, options.disk, options.undo_file,
                                   options.out_file, std::cout);
            });
    exported->add_option("DISK", options.disk)->required();
    exported->add_option("UNDO", options.undo_file, "NAME.undo.TIME, as the status lists it")
        ->required();
    exported->add_option("OUT", options.out_file, "is made, and must not be there")->required();
    add(line, "undo", "put disks back to what they were before a resync that has not ended",
        options, command,
        [&options] { return undo_resync(options.config, options.disk, std::cout); })
        ->add_option("DISK", options.disk, "default: all disks of the group");
    describe_orders(line, options, command);
}

}  // namespace
}  // namespace antipode::disksync

int main(int argc, char** argv) {
    using namespace antipode;
    disksync::Options options;
    disksync::Command command;
    CLI::App line("disksync: replicated disks");
    disksync::describe(line, options, command);
    CLI11_PARSE(line, argc, argv);
    const auto done = command();
    if (!done) {
        std::cerr << "disksync: " << done.error().to_string() << "\n";
        return 1;
    }
    return 0;
}
