#include "replicator/control/pair_config.h"

#include <array>
#include <charconv>

#include "common/base/check.h"
#include "common/base/toml_section.h"

namespace antipode::control {
namespace {

using Need = TomlSection::Need;

Result<> read_mib(TomlSection& section, const char* key, uint64_t& bytes, uint64_t low,
                  uint64_t high) {
    uint64_t mib = bytes >> 20;
    FT_TRY_VOID(section.number(key, mib, low, high));
    bytes = mib << 20;
    return {};
}

Result<> read_self_help(TomlSection& section, const char* key, SelfHelp& self_help) {
    std::string word;
    FT_TRY_VOID(section.text(key, word));
    if (!word.empty() && word != "automatic" && word != "wait") {
        return fail(Errc::invalid_argument, "{} is \"{}\", not \"automatic\" or \"wait\"",
                    section.where(key), word);
    }
    if (word == "wait") self_help = SelfHelp::wait;
    return {};
}

Result<> read_pair(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.name("name", config.pair));
    FT_TRY_VOID(section.name("site", config.site));
    FT_TRY_VOID(section.name("peer_site", config.peer_site));
    std::string role;
    FT_TRY_VOID(section.text("role", role, Need::required));
    FT_TRY_VOID(section.path("state_directory", config.state_directory, Need::required));
    if (role != "primary" && role != "backup" && role != "spare") {
        return fail(Errc::invalid_argument,
                    "{} is \"{}\", not \"primary\", \"backup\" or \"spare\"", section.where("role"),
                    role);
    }
    if (config.site == config.peer_site) {
        return fail(Errc::invalid_argument, "{} and peer_site are both {}", section.where("site"),
                    config.site);
    }
    FT_TRY_VOID(read_self_help(section, "rejoin", config.rejoin));
    FT_TRY_VOID(read_self_help(section, "reclaim", config.reclaim));
    FT_TRY_VOID(read_mib(section, "seed_undo_max_mib", config.seed_undo_bytes_max, 0,
                         config.seed_undo_bytes_max >> 20));
    config.first_role = role == "primary"  ? PairConfig::FirstRole::primary
                        : role == "backup" ? PairConfig::FirstRole::backup
                                           : PairConfig::FirstRole::spare;
    return section.nothing_else();
}

Result<> check_endpoint(const std::string& endpoint, const std::string& where) {
    if (endpoint.rfind("tcp://", 0) != 0) {
        return fail(Errc::invalid_argument, "{} is \"{}\", not tcp://ADDRESS:PORT", where,
                    endpoint);
    }
    FT_TRY_VOID(parse_host_port(std::string_view(endpoint).substr(6), where));
    return {};
}

Result<> read_channel(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.text("listen", config.channel_listen, Need::required));
    FT_TRY_VOID(section.text("peer", config.channel_peer, Need::required));
    FT_TRY_VOID(section.path("own_key", config.channel_own_key, Need::required));
    FT_TRY_VOID(section.path("peer_key", config.channel_peer_key, Need::required));
    FT_TRY_VOID(check_endpoint(config.channel_listen, section.where("listen")));
    FT_TRY_VOID(check_endpoint(config.channel_peer, section.where("peer")));
    std::string schedule;
    FT_TRY_VOID(section.text("bulk_schedule", schedule));
    FT_TRY(config.bulk_schedule,
           BandwidthSchedule::parse(schedule, section.where("bulk_schedule")));
    FT_TRY_VOID(section.flag("long_window", config.long_window));
    FT_TRY_VOID(section.path("capture", config.capture_path));
    FT_TRY_VOID(read_mib(section, "capture_mib", config.capture_bytes_max, 1, 1 << 20));
    return section.nothing_else();
}

Result<> read_heartbeat(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.text("listen", config.heartbeat_listen, Need::required));
    FT_TRY_VOID(section.text("peer", config.heartbeat_peer, Need::required));
    FT_TRY_VOID(section.path("key", config.heartbeat_key, Need::required));
    FT_TRY_VOID(section.milliseconds("interval_ms", config.heartbeat_interval, 5, 1000));
    FT_TRY_VOID(parse_host_port(config.heartbeat_listen, section.where("listen")));
    FT_TRY_VOID(parse_host_port(config.heartbeat_peer, section.where("peer")));
    FT_TRY_VOID(section.text("second_listen", config.second_heartbeat_listen));
    FT_TRY_VOID(section.text("second_peer", config.second_heartbeat_peer));
    if (config.second_heartbeat_listen.empty() != config.second_heartbeat_peer.empty()) {
        const bool has_listen = config.second_heartbeat_peer.empty();
        return fail(Errc::invalid_argument, "{} is missing, for there is {}",
                    section.where(has_listen ? "second_peer" : "second_listen"),
                    has_listen ? "second_listen" : "second_peer");
    }
    if (!config.second_heartbeat_listen.empty()) {
        FT_TRY_VOID(
            parse_host_port(config.second_heartbeat_listen, section.where("second_listen")));
        FT_TRY_VOID(parse_host_port(config.second_heartbeat_peer, section.where("second_peer")));
    }
    return section.nothing_else();
}

Result<> read_next_site(TomlSection section, PairConfig& config) {
    PeerConfig& next = config.next_site.emplace();
    FT_TRY_VOID(section.name("site", next.site));
    FT_TRY_VOID(section.text("channel", next.channel, Need::required));
    FT_TRY_VOID(section.path("channel_key", next.channel_key, Need::required));
    FT_TRY_VOID(section.text("heartbeat", next.heartbeat, Need::required));
    FT_TRY_VOID(section.path("heartbeat_key", next.heartbeat_key, Need::required));
    FT_TRY_VOID(section.text("second_heartbeat", next.second_heartbeat));
    FT_TRY_VOID(check_endpoint(next.channel, section.where("channel")));
    FT_TRY_VOID(parse_host_port(next.heartbeat, section.where("heartbeat")));
    FT_TRY_VOID(section.seconds("spare_after_s", config.spare_after, 1, 86'400));
    if (next.site == config.site || next.site == config.peer_site) {
        return fail(Errc::invalid_argument, "{} is {}, which is pair.{} already",
                    section.where("site"), next.site,
                    next.site == config.site ? "site" : "peer_site");
    }
    if (!next.second_heartbeat.empty()) {
        FT_TRY_VOID(parse_host_port(next.second_heartbeat, section.where("second_heartbeat")));
    }
    if (next.second_heartbeat.empty() != config.second_heartbeat_listen.empty()) {
        return fail(Errc::invalid_argument, "{} and heartbeat.second_listen need each other",
                    section.where("second_heartbeat"));
    }
    return section.nothing_else();
}

// A pair has two sites, or a third one; with more, two forces at once could get one epoch.
Result<> check_site_count(const toml::table& file, const std::string& origin,
                          const PairConfig& config) {
    const toml::node* next = file.get("next_site");
    if (next != nullptr && next->is_array()) {
        return fail(Errc::invalid_argument,
                    "{}:{}: next_site is given more than once: a pair has three sites at most",
                    origin, next->source().begin.line);
    }
    if (next == nullptr && config.first_role == PairConfig::FirstRole::spare) {
        return fail(
            Errc::invalid_argument,
            "{}: pair.role is \"spare\", so next_site has to name the other of the two sites "
            "beside pair.peer_site",
            origin);
    }
    return {};
}

Result<> read_tiebreaker(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.text("address", config.tiebreaker_address, Need::required));
    FT_TRY_VOID(section.path("ca", config.tiebreaker_ca, Need::required));
    FT_TRY_VOID(section.path("crl", config.tiebreaker_crl));
    FT_TRY_VOID(section.path("certificate", config.tiebreaker_certificate, Need::required));
    FT_TRY_VOID(section.path("key", config.tiebreaker_key, Need::required));
    FT_TRY_VOID(parse_host_port(config.tiebreaker_address, section.where("address")));
    return section.nothing_else();
}

Result<> read_control(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.path("socket", config.control_socket, Need::required));
    return section.nothing_else();
}

Result<> read_replay(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.milliseconds("digest_interval_ms", config.digest_interval, 0, 3'600'000));
    FT_TRY_VOID(read_mib(section, "log_buffer_mib", config.log_buffer_bytes, 4, 4096));
    return section.nothing_else();
}

Result<> read_checkpoint(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.milliseconds("output_delay_ms", config.checkpoint_output_delay, 2, 10'000));
    FT_TRY_VOID(read_mib(section, "bandwidth_mib", config.checkpoint_bandwidth, 0, 100'000));
    return section.nothing_else();
}

Result<> read_auto(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.seconds("lockstep_after_s", config.lockstep_after, 1, 86'400));
    return section.nothing_else();
}

Result<> read_drill(TomlSection section, PairConfig& config) {
    FT_TRY_VOID(section.texts("taps", config.drill_taps));
    return section.nothing_else();
}

Result<PairConfig> from_table(const toml::table& file, const std::string& origin) {
    struct Section {
        const char* name;
        Need need;
        Result<> (*read)(TomlSection, PairConfig&);
    };
    static constexpr std::array kSections{
        Section{"pair", Need::required, read_pair},
        Section{"channel", Need::required, read_channel},
        Section{"heartbeat", Need::required, read_heartbeat},
        Section{"tiebreaker", Need::required, read_tiebreaker},
        Section{"control", Need::required, read_control},
        Section{"replay", Need::optional, read_replay},
        Section{"checkpoint", Need::optional, read_checkpoint},
        Section{"auto", Need::optional, read_auto},
        Section{"drill", Need::optional, read_drill},
    };
    PairConfig config;
    TomlSection top(file, origin);
    for (const Section& each : kSections) {
        FT_TRY(TomlSection section, top.section(each.name, each.need));
        FT_TRY_VOID(each.read(std::move(section), config));
    }
    FT_TRY_VOID(check_site_count(file, origin, config));
    if (file.contains("next_site")) {
        FT_TRY(TomlSection section, top.section("next_site", Need::optional));
        FT_TRY_VOID(read_next_site(std::move(section), config));
    }
    FT_TRY_VOID(top.nothing_else());
    return config;
}

}  // namespace

PeerConfig PairConfig::peer(const Name& which) const {
    if (next_site && next_site->site == which) return *next_site;
    FT_CHECK(which == peer_site, "{} is no other site of {}", which, pair);
    return {peer_site,      channel_peer,          channel_peer_key,
            heartbeat_peer, second_heartbeat_peer, heartbeat_key};
}

std::optional<PeerConfig> PairConfig::beside(const Name& which) const {
    if (!next_site) return std::nullopt;
    return peer(which == peer_site ? next_site->site : peer_site);
}

wire::Sites PairConfig::sites() const {
    if (!next_site) return {};
    const Name& third = first_role == FirstRole::spare ? site : next_site->site;
    const Name& first = first_role == FirstRole::spare ? next_site->site : site;
    wire::Sites all = wire::sorted_sites(first, peer_site);
    all[2] = third;
    return all;
}

Result<HostPort> parse_host_port(std::string_view text, const std::string& where) {
    const auto colon = text.rfind(':');
    const auto failure = [&]() -> Failure {
        return fail(Errc::invalid_argument, "{} is \"{}\", not HOST:PORT", where, text);
    };
    if (colon == std::string_view::npos || colon == 0) return failure();
    HostPort result;
    std::string_view host = text.substr(0, colon);
    if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    const std::string_view port = text.substr(colon + 1);
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), result.port);
    if (host.empty() || host.find_first_of("[]") != std::string_view::npos ||
        parsed.ec != std::errc() || parsed.ptr != port.data() + port.size() || result.port == 0) {
        return failure();
    }
    result.host = host;
    return result;
}

Result<PairConfig> parse_pair_config(std::string_view text, const std::string& origin) {
    FT_TRY(const toml::table file, parse_toml(text, origin));
    return from_table(file, origin);
}

Result<PairConfig> load_pair_config(const std::string& path) {
    FT_TRY(const toml::table file, load_toml(path));
    return from_table(file, path);
}

}  // namespace antipode::control
