#include "disksync/service/group_config.h"

#include <algorithm>

#include "common/base/toml_section.h"
#include "disksync/disk_metadata.h"
#include "disksync/local_store.h"

namespace antipode::disksync {
namespace {

constexpr size_t kDisksMax = 64;
constexpr uint64_t kBytesMax = 9'000'000'000'000'000;

using Need = TomlSection::Need;

Result<> read_policy(TomlSection& section, const char* key, SplitPolicy& out) {
    std::string given;
    FT_TRY_VOID(section.text(key, given));
    if (!section.has(key)) return {};
    const auto parsed = parse_split_policy(given);
    if (!parsed) return section.wrong(key, "a split-brain policy");
    out = *parsed;
    return {};
}

Result<> read_address(TomlSection& section, const char* key, LinkAddress& out) {
    std::string given;
    FT_TRY_VOID(section.text(key, given, Need::required));
    const size_t colon = given.rfind(':');
    if (colon == std::string::npos || colon == 0 || colon + 1 == given.size()) {
        return section.bad(key, fmt::format("is \"{}\", not HOST:PORT", given));
    }
    out = {given.substr(0, colon), given.substr(colon + 1)};
    if (out.host.front() == '[' && out.host.back() == ']') {
        out.host = out.host.substr(1, out.host.size() - 2);
    }
    return {};
}

Result<> read_link(TomlSection section, GroupConfig& config) {
    FT_TRY_VOID(section.name("peer", config.peer));
    config.listens = section.has("listen");
    if (section.has("listen") == section.has("connect")) {
        return fail(Errc::invalid_argument,
                    "{}: link: exactly one of listen and connect is needed: one site listens, "
                    "the other connects",
                    config.path);
    }
    FT_TRY_VOID(read_address(section, config.listens ? "listen" : "connect", config.address));
    (void)section.find("listen");
    (void)section.find("connect");
    FT_TRY_VOID(section.path("ca", config.tls.ca));
    FT_TRY_VOID(section.path("crl", config.tls.crl));
    FT_TRY_VOID(section.path("certificate", config.tls.certificate));
    FT_TRY_VOID(section.path("key", config.tls.key));
    FT_TRY_VOID(section.needs({"ca", "certificate", "key"}));
    FT_TRY_VOID(section.milliseconds("silence_ms", config.node.silence_max, 500, 600'000));
    FT_TRY_VOID(section.word("compression", config.compression, {"none", "always", "automatic"}));
    return section.nothing_else();
}

Result<> read_replication(TomlSection section, NodeConfig& node) {
    FT_TRY_VOID(section.word("mode", node.mode, {"async", "semi-sync", "sync"}));
    FT_TRY_VOID(section.word("congestion", node.congestion, {"block", "pull-ahead"}));
    FT_TRY_VOID(section.word("peer_lost", node.peer_lost, {"go-on", "wait"}));
    FT_TRY_VOID(section.word("disk_error", node.local_error, {"detach", "report"}));
    FT_TRY_VOID(section.number("backlog_bytes_max", node.backlog_bytes_max, 65536, kBytesMax));
    FT_TRY_VOID(section.milliseconds("durable_interval_ms", node.durable_interval, 1, 60'000));
    FT_TRY_VOID(section.milliseconds("promotion_wait_ms", node.promotion_wait, 100, 60'000));
    return section.nothing_else();
}

Result<> read_resync(TomlSection section, GroupConfig& config) {
    NodeConfig& node = config.node;
    FT_TRY_VOID(section.word("checksum", node.checksum, {"automatic", "always", "never"}));
    FT_TRY_VOID(section.number("rate_max_bytes", node.resync_rate_max, 0, kBytesMax));
    FT_TRY_VOID(section.number("rate_min_bytes", node.resync_rate_min, 65536, kBytesMax));
    FT_TRY_VOID(section.number("window_bytes", node.resync_window_bytes, 65536, 10'000'000'000));
    FT_TRY_VOID(section.flag("keep_undo", node.keep_undo));
    FT_TRY_VOID(section.number("undo_bytes_max", node.undo_bytes_max, 1 << 20, kBytesMax));
    FT_TRY_VOID(section.flag("verify_repairs", node.verify_repairs));
    std::string schedule;
    FT_TRY_VOID(section.text("schedule", schedule));
    FT_TRY(config.schedule, BandwidthSchedule::parse(schedule, section.where("schedule")));
    return section.nothing_else();
}

Result<> read_split(TomlSection section, SplitPolicies& policies) {
    FT_TRY_VOID(read_policy(section, "no_primary", policies.no_primary));
    FT_TRY_VOID(read_policy(section, "one_primary", policies.one_primary));
    FT_TRY_VOID(read_policy(section, "two_primaries", policies.two_primaries));
    return section.nothing_else();
}

Result<> read_disk(TomlSection section, GroupConfig& config) {
    DiskPaths disk;
    FT_TRY_VOID(section.name("name", disk.name));
    FT_TRY_VOID(section.text("store", disk.store, Need::required));
    if (!is_nbd_uri(disk.store)) FT_TRY_VOID(section.path("store", disk.store));
    FT_TRY_VOID(section.path("metadata", disk.metadata));
    if (disk.metadata.empty()) {
        if (is_nbd_uri(disk.store)) return section.missing("metadata");
        disk.metadata = metadata_path_of(disk.store);
    }
    FT_TRY_VOID(section.path("undo", disk.undo));
    if (disk.undo.empty()) disk.undo = undo_path_of(disk.metadata);
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
        FT_TRY_VOID(read_disk(TomlSection(one.as_table(), "disk", config.path), config));
    }
    std::sort(config.disks.begin(), config.disks.end(),
              [](const DiskPaths& one, const DiskPaths& other) { return one.name < other.name; });
    return {};
}

Result<GroupConfig> read_all(const toml::table& file, const std::string& path) {
    GroupConfig config;
    config.path = path;
    TomlSection top(file, path);
    FT_TRY_VOID(top.name("group", config.node.pair));
    FT_TRY_VOID(top.path("control_socket", config.control_socket));
    FT_TRY_VOID(top.path("journal", config.journal));
    FT_TRY_VOID(top.flag("promote_on_open", config.promote_on_open));
    FT_TRY_VOID(top.number("store_threads", config.store_threads, 1, 64));
    FT_TRY_VOID(top.milliseconds("store_reconnect_ms", config.store_reconnect, 0, 3'600'000));
    if (config.control_socket.empty()) {
        config.control_socket = fmt::format("/run/antipode/disks/{}.sock", config.node.pair);
    }
    FT_TRY(TomlSection link, top.section("link", Need::required));
    FT_TRY(TomlSection replication, top.section("replication"));
    FT_TRY(TomlSection resync, top.section("resync"));
    FT_TRY(TomlSection split, top.section("split_brain"));
    FT_TRY_VOID(read_link(std::move(link), config));
    FT_TRY_VOID(read_replication(std::move(replication), config.node));
    FT_TRY_VOID(read_resync(std::move(resync), config));
    FT_TRY_VOID(read_split(std::move(split), config.node.split));
    FT_TRY_VOID(read_disks(top.find("disk"), config));
    FT_TRY_VOID(top.nothing_else());
    if (config.journal.empty()) config.journal = config.disks.front().metadata + ".events";
    return config;
}

}  // namespace

Result<GroupConfig> load_group_config(const std::string& path) {
    FT_TRY(const toml::table file, load_toml(path));
    return read_all(file, path);
}

}  // namespace antipode::disksync
