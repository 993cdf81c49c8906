#include "replicator/control/pair_config.h"

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <set>
#include <toml++/toml.h>

namespace antipode::control {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;

// One section; remembers which keys were asked for, so that the rest can be refused by line.
class Section {
  public:
    enum class Need { required, optional };

    static Result<Section> find(const toml::table& file, const char* name,
                                const std::string& origin, Need need) {
        const auto* node = file.get(name);
        if (node == nullptr && need == Need::optional) return Section(nullptr, name, origin);
        if (node == nullptr) {
            return fail(Errc::invalid_argument, "{}: section [{}] is missing", origin, name);
        }
        const auto* table = node->as_table();
        if (table == nullptr) {
            return fail(Errc::invalid_argument, "{}: {} is not a section", origin, name);
        }
        return Section(table, name, origin);
    }

    Result<std::string> text(const char* key) {
        const auto* node = get(key);
        if (node == nullptr) return missing(key);
        const auto value = node->value_exact<std::string>();
        if (!value || value->empty()) return wrong(key, *node, "a string with text in it");
        return *value;
    }
    Result<std::string> path(const char* key) {
        FT_TRY(std::string value, text(key));
        if (value.front() == '/') return value;
        return (std::filesystem::path(origin_).parent_path() / value).string();
    }
    // Empty where it is not given.
    Result<std::string> text_or_nothing(const char* key) {
        if (get(key) == nullptr) return std::string();
        return text(key);
    }
    Result<std::string> path_or_nothing(const char* key) {
        if (get(key) == nullptr) return std::string();
        return path(key);
    }
    Result<Name> name(const char* key) {
        FT_TRY(const std::string value, text(key));
        return Name::parse(value, where(key));
    }
    Result<uint64_t> number(const char* key, uint64_t fallback, uint64_t low, uint64_t high) {
        const auto* node = get(key);
        if (node == nullptr) return fallback;
        const auto value = node->value_exact<int64_t>();
        if (!value || *value < 0 || static_cast<uint64_t>(*value) < low ||
            static_cast<uint64_t>(*value) > high) {
            return wrong(key, *node, fmt::format("a whole number from {} to {}", low, high));
        }
        return static_cast<uint64_t>(*value);
    }
    std::string where(const char* key) const {
        return fmt::format("{}: {}.{}", origin_, name_, key);
    }
    Result<void> no_other_keys() const {
        if (table_ == nullptr) return {};
        for (const auto& [key, node] : *table_) {
            if (asked_.contains(std::string(key.str()))) continue;
            return fail(Errc::invalid_argument, "{}:{}: {}.{} is not a setting", origin_,
                        node.source().begin.line, name_, key.str());
        }
        return {};
    }

  private:
    Section(const toml::table* table, std::string name, std::string origin)
        : table_(table), name_(std::move(name)), origin_(std::move(origin)) {}
    const toml::node* get(const char* key) {
        asked_.insert(key);
        return table_ == nullptr ? nullptr : table_->get(key);
    }
    Failure missing(const char* key) const {
        return fail(Errc::invalid_argument, "{} is missing", where(key));
    }
    Failure wrong(const char* key, const toml::node& node, std::string_view expected) const {
        return fail(Errc::invalid_argument, "{}:{}: {}.{} is not {}", origin_,
                    node.source().begin.line, name_, key, expected);
    }

    const toml::table* table_;
    std::string name_;
    std::string origin_;
    std::set<std::string> asked_;
};

using Need = Section::Need;

Result<void> read_pair(const toml::table& file, const std::string& origin, PairConfig& config) {
    FT_TRY(Section section, Section::find(file, "pair", origin, Need::required));
    FT_TRY(config.pair, section.name("name"));
    FT_TRY(config.site, section.name("site"));
    FT_TRY(config.peer_site, section.name("peer_site"));
    FT_TRY(const auto role, section.text("role"));
    FT_TRY(config.state_directory, section.path("state_directory"));
    if (role != "primary" && role != "backup") {
        return fail(Errc::invalid_argument, "{} is \"{}\", not \"primary\" or \"backup\"",
                    section.where("role"), role);
    }
    if (config.site == config.peer_site) {
        return fail(Errc::invalid_argument, "{} and peer_site are both {}", section.where("site"),
                    config.site);
    }
    FT_TRY(const auto rejoin, section.text_or_nothing("rejoin"));
    if (!rejoin.empty() && rejoin != "automatic" && rejoin != "wait") {
        return fail(Errc::invalid_argument, "{} is \"{}\", not \"automatic\" or \"wait\"",
                    section.where("rejoin"), rejoin);
    }
    if (rejoin == "wait") config.rejoin = PairConfig::Rejoin::wait;
    config.first_role =
        role == "primary" ? PairConfig::FirstRole::primary : PairConfig::FirstRole::backup;
    return section.no_other_keys();
}

Result<void> check_endpoint(const std::string& endpoint, const std::string& where) {
    if (endpoint.rfind("tcp://", 0) != 0) {
        return fail(Errc::invalid_argument, "{} is \"{}\", not tcp://ADDRESS:PORT", where,
                    endpoint);
    }
    FT_TRY_VOID(parse_host_port(std::string_view(endpoint).substr(6), where));
    return {};
}

Result<void> read_channel(const toml::table& file, const std::string& origin, PairConfig& config) {
    FT_TRY(Section section, Section::find(file, "channel", origin, Need::required));
    FT_TRY(config.channel_listen, section.text("listen"));
    FT_TRY(config.channel_peer, section.text("peer"));
    FT_TRY(config.channel_own_key, section.path("own_key"));
    FT_TRY(config.channel_peer_key, section.path("peer_key"));
    FT_TRY_VOID(check_endpoint(config.channel_listen, section.where("listen")));
    FT_TRY_VOID(check_endpoint(config.channel_peer, section.where("peer")));
    FT_TRY(const std::string schedule, section.text_or_nothing("bulk_schedule"));
    FT_TRY(config.bulk_schedule,
           stream::BandwidthSchedule::parse(schedule, section.where("bulk_schedule")));
    FT_TRY(config.capture_path, section.path_or_nothing("capture"));
    FT_TRY(const auto capture_mib, section.number("capture_mib", 1024, 1, 1 << 20));
    config.capture_bytes_max = capture_mib << 20;
    return section.no_other_keys();
}

Result<void> read_heartbeat(const toml::table& file, const std::string& origin,
                            PairConfig& config) {
    FT_TRY(Section section, Section::find(file, "heartbeat", origin, Need::required));
    FT_TRY(config.heartbeat_listen, section.text("listen"));
    FT_TRY(config.heartbeat_peer, section.text("peer"));
    FT_TRY(config.heartbeat_key, section.path("key"));
    FT_TRY(const auto interval_ms, section.number("interval_ms", 20, 5, 1000));
    FT_TRY_VOID(parse_host_port(config.heartbeat_listen, section.where("listen")));
    FT_TRY_VOID(parse_host_port(config.heartbeat_peer, section.where("peer")));
    FT_TRY(config.second_heartbeat_listen, section.text_or_nothing("second_listen"));
    FT_TRY(config.second_heartbeat_peer, section.text_or_nothing("second_peer"));
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
    config.heartbeat_interval = std::chrono::milliseconds(interval_ms);
    return section.no_other_keys();
}

Result<void> read_tiebreaker(const toml::table& file, const std::string& origin,
                             PairConfig& config) {
    FT_TRY(Section section, Section::find(file, "tiebreaker", origin, Need::required));
    FT_TRY(config.tiebreaker_address, section.text("address"));
    FT_TRY(config.tiebreaker_ca, section.path("ca"));
    FT_TRY(config.tiebreaker_certificate, section.path("certificate"));
    FT_TRY(config.tiebreaker_key, section.path("key"));
    FT_TRY_VOID(parse_host_port(config.tiebreaker_address, section.where("address")));
    return section.no_other_keys();
}

Result<void> read_rest(const toml::table& file, const std::string& origin, PairConfig& config) {
    FT_TRY(Section control, Section::find(file, "control", origin, Need::required));
    FT_TRY(config.control_socket, control.path("socket"));
    FT_TRY_VOID(control.no_other_keys());
    FT_TRY(Section replay, Section::find(file, "replay", origin, Need::optional));
    FT_TRY(const auto digest_ms, replay.number("digest_interval_ms", 1000, 0, 3'600'000));
    FT_TRY(const auto buffer_mib, replay.number("log_buffer_mib", 64, 4, 4096));
    config.digest_interval = std::chrono::milliseconds(digest_ms);
    config.log_buffer_bytes = buffer_mib << 20;
    return replay.no_other_keys();
}

Result<void> read_checkpoint(const toml::table& file, const std::string& origin,
                             PairConfig& config) {
    FT_TRY(Section section, Section::find(file, "checkpoint", origin, Need::optional));
    FT_TRY(const auto delay_ms, section.number("output_delay_ms", 100, 2, 10'000));
    FT_TRY(const auto bandwidth_mib, section.number("bandwidth_mib", 0, 0, 100'000));
    config.checkpoint_output_delay = std::chrono::milliseconds(delay_ms);
    config.checkpoint_bandwidth = bandwidth_mib << 20;
    return section.no_other_keys();
}

Result<void> read_drill(const toml::table& file, const std::string& origin, PairConfig& config) {
    const toml::node* node = file.get("drill");
    if (node == nullptr) return {};
    const auto bad = [&](const toml::node& at, const char* what) {
        return fail(Errc::invalid_argument, "{}:{}: [drill] {}", origin, at.source().begin.line,
                    what);
    };
    const toml::table* section = node->as_table();
    if (section == nullptr) return bad(*node, "is not a section");
    for (const auto& [key, value] : *section) {
        if (key.str() != "taps") return bad(value, "knows no other key than taps");
        const toml::array* taps = value.as_array();
        if (taps == nullptr) return bad(value, "taps is not an array of names");
        for (const auto& each : *taps) {
            const auto name = each.value<std::string>();
            if (!name || name->empty()) return bad(each, "taps is not an array of names");
            config.drill_taps.push_back(*name);
        }
    }
    return {};
}

}  // namespace

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
    toml::table file;
    try {
        file = toml::parse(text, origin);
    } catch (const toml::parse_error& error) {
        return fail(Errc::invalid_argument, "{}:{}: {}", origin, error.source().begin.line,
                    error.description());
    }
    static const std::set<std::string_view> kSections{
        "pair", "channel", "heartbeat", "tiebreaker", "control", "replay", "checkpoint", "drill"};
    for (const auto& [key, node] : file) {
        if (!kSections.contains(key.str())) {
            return fail(Errc::invalid_argument, "{}:{}: [{}] is not a section", origin,
                        node.source().begin.line, key.str());
        }
    }
    PairConfig config;
    FT_TRY_VOID(read_pair(file, origin, config));
    FT_TRY_VOID(read_channel(file, origin, config));
    FT_TRY_VOID(read_heartbeat(file, origin, config));
    FT_TRY_VOID(read_tiebreaker(file, origin, config));
    FT_TRY_VOID(read_rest(file, origin, config));
    FT_TRY_VOID(read_checkpoint(file, origin, config));
    FT_TRY_VOID(read_drill(file, origin, config));
    return config;
}

Result<PairConfig> load_pair_config(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno(errno, "{}", path);
    std::string text(kFileBytesMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    if (text.size() > kFileBytesMax) {
        return fail(Errc::invalid_argument, "{}: is larger than {} bytes", path, kFileBytesMax);
    }
    return parse_pair_config(text, path);
}

}  // namespace antipode::control
