#include "disksync/service/group_config.h"

#include <algorithm>
#include <set>
#include <toml++/toml.h>

#include "disksync/disk_metadata.h"
#include "disksync/local_store.h"

namespace antipode::disksync {
namespace {

constexpr size_t kDisksMax = 64;
constexpr double kBytesMax = 9.0e15;

// One table of the file. Remembers which keys were read, so that the rest can be refused.
class Section {
  public:
    Section(const toml::table* table, std::string name, const std::string& path)
        : table_(table), name_(std::move(name)), path_(path) {}

    bool has(const char* key) const { return table_ != nullptr && table_->contains(key); }
    Result<> text(const char* key, std::string& out) {
        const toml::node* node = find(key);
        if (node == nullptr) return {};
        const auto value = node->value_exact<std::string>();
        if (!value || value->empty()) return bad(key, "is no text in quotes");
        out = *value;
        return {};
    }
    Result<> file(const char* key, std::string& out) {
        FT_TRY_VOID(text(key, out));
        if (!has(key) || out.front() == '/' || is_nbd_uri(out)) return {};
        const size_t slash = path_.rfind('/');
        if (slash != std::string::npos) out = path_.substr(0, slash + 1) + out;
        return {};
    }
    Result<> name(const char* key, Name& out) {
        std::string given;
        FT_TRY_VOID(text(key, given));
        if (!has(key)) return missing(key);
        const auto parsed = Name::parse(given, where(key));
        if (!parsed) return bad(key, "is no name: " + parsed.error().context);
        out = *parsed;
        return {};
    }
    template <typename Number>
    Result<> number(const char* key, Number& out, double low, double high) {
        const toml::node* node = find(key);
        if (node == nullptr) return {};
        const auto value = node->value<int64_t>();
        if (!value || !node->is_integer() || static_cast<double>(*value) < low ||
            static_cast<double>(*value) > high) {
            return bad(key, fmt::format("is no whole number from {} to {}", low, high));
        }
        out = static_cast<Number>(*value);
        return {};
    }
    Result<> milliseconds(const char* key, Duration& out, double low, double high) {
        auto value = std::chrono::duration_cast<std::chrono::milliseconds>(out).count();
        FT_TRY_VOID(number(key, value, low, high));
        out = std::chrono::milliseconds(value);
        return {};
    }
    Result<> yes_no(const char* key, bool& out) {
        const toml::node* node = find(key);
        if (node == nullptr) return {};
        if (!node->is_boolean()) return bad(key, "is neither true nor false");
        out = node->value<bool>().value_or(out);
        return {};
    }
    // One of a few words; `words` in the order of the values, which begin with 1.
    template <typename Value>
    Result<> word(const char* key, Value& out, const std::vector<std::string>& words) {
        std::string given;
        FT_TRY_VOID(text(key, given));
        if (!has(key)) return {};
        const auto found = std::find(words.begin(), words.end(), given);
        if (found == words.end()) {
            return bad(key,
                       fmt::format("is \"{}\", allowed are: {}", given, fmt::join(words, ", ")));
        }
        out = static_cast<Value>(found - words.begin() + 1);
        return {};
    }
    Result<> policy(const char* key, SplitPolicy& out) {
        std::string given;
        FT_TRY_VOID(text(key, given));
        if (!has(key)) return {};
        const auto parsed = parse_split_policy(given);
        if (!parsed)
            return bad(key, fmt::format("is \"{}\", which is no split-brain policy", given));
        out = *parsed;
        return {};
    }
    Result<> schedule(const char* key, RateSchedule& out) {
        const toml::node* node = find(key);
        if (node == nullptr) return {};
        const toml::array* entries = node->as_array();
        if (entries == nullptr) return bad(key, "is no array of texts");
        for (const toml::node& entry : *entries) {
            const auto text = entry.value_exact<std::string>();
            if (!text) return bad(key, "has an entry that is no text in quotes");
            if (const auto added = out.add(*text); !added) {
                return bad(key, "has an entry that is none: " + added.error().context);
            }
        }
        return {};
    }
    Result<> address(const char* key, LinkAddress& out) {
        std::string given;
        FT_TRY_VOID(text(key, given));
        const size_t colon = given.rfind(':');
        if (colon == std::string::npos || colon == 0 || colon + 1 == given.size()) {
            return bad(key, fmt::format("is \"{}\", expected HOST:PORT", given));
        }
        out = {given.substr(0, colon), given.substr(colon + 1)};
        if (out.host.front() == '[' && out.host.back() == ']') {
            out.host = out.host.substr(1, out.host.size() - 2);
        }
        return {};
    }
    Result<> nothing_else() const {
        if (table_ == nullptr) return {};
        for (const auto& [key, node] : *table_) {
            if (read_.contains(std::string(key.str()))) continue;
            return fail(Errc::invalid_argument, "{}:{}: {} is not known", path_,
                        node.source().begin.line, where(std::string(key.str())));
        }
        return {};
    }
    Failure missing(const char* key) const {
        return fail(Errc::invalid_argument, "{}: {} is missing", path_, where(key));
    }
    Failure bad(const char* key, const std::string& what) const {
        return fail(Errc::invalid_argument, "{}:{}: {} {}", path_,
                    table_->get(key)->source().begin.line, where(key), what);
    }
    const toml::node* find(const char* key) {
        read_.insert(key);
        return table_ == nullptr ? nullptr : table_->get(key);
    }

  private:
    std::string where(const std::string& key) const {
        return name_.empty() ? key : name_ + "." + key;
    }
    const toml::table* table_;
    std::string name_;
    const std::string& path_;
    std::set<std::string> read_;
};

Result<> read_link(Section section, GroupConfig& config) {
    FT_TRY_VOID(section.name("peer", config.peer));
    config.listens = section.has("listen");
    if (section.has("listen") == section.has("connect")) {
        return fail(Errc::invalid_argument,
                    "{}: link: exactly one of listen and connect is needed: one site listens, "
                    "the other connects",
                    config.path);
    }
    FT_TRY_VOID(section.address(config.listens ? "listen" : "connect", config.address));
    (void)section.find("listen");
    (void)section.find("connect");
    FT_TRY_VOID(section.file("ca", config.tls.ca));
    FT_TRY_VOID(section.file("crl", config.tls.crl));
    FT_TRY_VOID(section.file("certificate", config.tls.certificate));
    FT_TRY_VOID(section.file("key", config.tls.key));
    for (const char* key : {"ca", "certificate", "key"}) {
        if (!section.has(key)) return section.missing(key);
    }
    FT_TRY_VOID(section.milliseconds("silence_ms", config.node.silence_max, 500, 600'000));
    FT_TRY_VOID(section.word("compression", config.compression, {"none", "always", "automatic"}));
    return section.nothing_else();
}

Result<> read_replication(Section section, NodeConfig& node) {
    FT_TRY_VOID(section.word("mode", node.mode, {"async", "semi-sync", "sync"}));
    FT_TRY_VOID(section.word("congestion", node.congestion, {"block", "pull-ahead"}));
    FT_TRY_VOID(section.word("peer_lost", node.peer_lost, {"go-on", "wait"}));
    FT_TRY_VOID(section.word("disk_error", node.local_error, {"detach", "report"}));
    FT_TRY_VOID(section.number("backlog_bytes_max", node.backlog_bytes_max, 65536, kBytesMax));
    FT_TRY_VOID(section.milliseconds("durable_interval_ms", node.durable_interval, 1, 60'000));
    return section.nothing_else();
}

Result<> read_resync(Section section, GroupConfig& config) {
    NodeConfig& node = config.node;
    FT_TRY_VOID(section.word("checksum", node.checksum, {"automatic", "always", "never"}));
    FT_TRY_VOID(section.number("rate_max_bytes", node.resync_rate_max, 0, kBytesMax));
    FT_TRY_VOID(section.number("rate_min_bytes", node.resync_rate_min, 65536, kBytesMax));
    FT_TRY_VOID(section.number("window_bytes", node.resync_window_bytes, 65536, 1e10));
    FT_TRY_VOID(section.yes_no("keep_undo", node.keep_undo));
    FT_TRY_VOID(section.number("undo_bytes_max", node.undo_bytes_max, 1 << 20, kBytesMax));
    FT_TRY_VOID(section.yes_no("verify_repairs", node.verify_repairs));
    FT_TRY_VOID(section.schedule("schedule", config.schedule));
    return section.nothing_else();
}

Result<> read_split(Section section, SplitPolicies& policies) {
    FT_TRY_VOID(section.policy("no_primary", policies.no_primary));
    FT_TRY_VOID(section.policy("one_primary", policies.one_primary));
    FT_TRY_VOID(section.policy("two_primaries", policies.two_primaries));
    return section.nothing_else();
}

Result<> read_disk(Section section, GroupConfig& config) {
    DiskPaths disk;
    FT_TRY_VOID(section.name("name", disk.name));
    FT_TRY_VOID(section.file("store", disk.store));
    if (disk.store.empty()) return section.missing("store");
    FT_TRY_VOID(section.file("metadata", disk.metadata));
    if (disk.metadata.empty()) {
        if (is_nbd_uri(disk.store)) return section.missing("metadata");
        disk.metadata = metadata_path_of(disk.store);
    }
    FT_TRY_VOID(section.file("undo", disk.undo));
    if (disk.undo.empty()) disk.undo = disk.metadata + ".undo";
    for (const DiskPaths& other : config.disks) {
        if (other.name == disk.name) return section.bad("name", "is given to two disks");
        if (other.store == disk.store) return section.bad("store", "is used by two disks");
    }
    config.disks.push_back(std::move(disk));
    return section.nothing_else();
}

Result<> read_disks(const toml::node* node, GroupConfig& config) {
    const toml::array* array = node == nullptr ? nullptr : node->as_array();
    if (array == nullptr || array->empty() || array->size() > kDisksMax) {
        return fail(Errc::invalid_argument, "{}: disk: 1 to {} tables [[disk]] are needed",
                    config.path, kDisksMax);
    }
    for (const toml::node& one : *array) {
        if (!one.is_table()) {
            return fail(Errc::invalid_argument, "{}:{}: disk is no table", config.path,
                        one.source().begin.line);
        }
        FT_TRY_VOID(read_disk(Section(one.as_table(), "disk", config.path), config));
    }
    std::sort(config.disks.begin(), config.disks.end(),
              [](const DiskPaths& one, const DiskPaths& other) { return one.name < other.name; });
    return {};
}

Result<GroupConfig> read_all(const toml::table& file, const std::string& path) {
    GroupConfig config;
    config.path = path;
    Section top(&file, "", config.path);
    FT_TRY_VOID(top.name("group", config.node.pair));
    FT_TRY_VOID(top.file("control_socket", config.control_socket));
    FT_TRY_VOID(top.file("journal", config.journal));
    FT_TRY_VOID(top.yes_no("promote_on_open", config.promote_on_open));
    FT_TRY_VOID(top.number("store_threads", config.store_threads, 1, 64));
    FT_TRY_VOID(top.milliseconds("store_reconnect_ms", config.store_reconnect, 0, 3'600'000));
    if (config.control_socket.empty()) {
        config.control_socket = fmt::format("/run/antipode/disks/{}.sock", config.node.pair);
    }
    const auto section = [&](const char* name) {
        const toml::node* node = top.find(name);
        return Section(node == nullptr ? nullptr : node->as_table(), name, config.path);
    };
    FT_TRY_VOID(read_link(section("link"), config));
    FT_TRY_VOID(read_replication(section("replication"), config.node));
    FT_TRY_VOID(read_resync(section("resync"), config));
    FT_TRY_VOID(read_split(section("split_brain"), config.node.split));
    FT_TRY_VOID(read_disks(top.find("disk"), config));
    FT_TRY_VOID(top.nothing_else());
    if (config.journal.empty()) config.journal = config.disks.front().metadata + ".events";
    return config;
}

}  // namespace

Result<GroupConfig> load_group_config(const std::string& path) {
    try {
        const toml::table file = toml::parse_file(path);
        return read_all(file, path);
    } catch (const toml::parse_error& error) {
        return fail(Errc::invalid_argument, "{}:{}: {}", path, error.source().begin.line,
                    error.description());
    }
}

}  // namespace antipode::disksync
