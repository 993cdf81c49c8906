#include "replicator/vmm/config.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <set>
#include <sstream>

#include "replicator/vmm/layout.h"

namespace antipode::vmm {
namespace {

namespace json = boost::json;

constexpr size_t kFileBytesMax = 1 << 20;

// Reads one JSON object and remembers which keys were asked for, so that the rest can be refused.
class ObjectReader {
  public:
    ObjectReader(const json::object& object, std::string where)
        : object_(object), where_(std::move(where)) {}

    // Without a fallback it must be there, and say something.
    Result<std::string> text(const char* key, const char* fallback = nullptr) {
        const auto* value = find(key);
        if (value == nullptr) {
            if (fallback != nullptr) return std::string(fallback);
            return fail(Errc::invalid_argument, "{}.{} is missing", where_, key);
        }
        if (!value->is_string()) return wrong(key, "a string");
        if (value->as_string().empty() && fallback == nullptr) return wrong(key, "set to anything");
        return std::string(value->as_string());
    }
    Result<uint64_t> number(const char* key, uint64_t low, uint64_t high) {
        const auto* value = find(key);
        if (value == nullptr) return fail(Errc::invalid_argument, "{}.{} is missing", where_, key);
        boost::system::error_code error;
        const auto result = value->to_number<uint64_t>(error);
        if (error || result < low || result > high) {
            return wrong(key, fmt::format("a whole number from {} to {}", low, high));
        }
        return result;
    }
    Result<bool> flag(const char* key) {
        const auto* value = find(key);
        if (value == nullptr) return false;
        if (!value->is_bool()) return wrong(key, "true or false");
        return value->as_bool();
    }
    Result<void> no_other_keys() const {
        for (const auto& member : object_) {
            if (!asked_.contains(std::string(member.key()))) {
                return fail(Errc::invalid_argument, "{}.{} is not a setting", where_,
                            std::string_view(member.key()));
            }
        }
        return {};
    }

  private:
    const json::value* find(const char* key) {
        asked_.insert(key);
        return object_.if_contains(key);
    }
    Failure wrong(const char* key, std::string_view expected) const {
        return fail(Errc::invalid_argument, "{}.{} is not {}", where_, key, expected);
    }
    const json::object& object_;
    std::string where_;
    std::set<std::string> asked_;
};

std::string resolve(const std::string& path, const std::string& origin) {
    const bool is_uri = path.find("://") != std::string::npos || path.rfind("nbd:", 0) == 0;
    if (path.empty() || path.front() == '/' || is_uri) return path;
    return (std::filesystem::path(origin).parent_path() / path).string();
}

Result<MacAddress> parse_mac(const std::string& text, const std::string& where) {
    constexpr size_t kCharacters = 17;
    MacAddress mac{};
    bool valid = text.size() == kCharacters;
    for (size_t i = 0; valid && i < mac.size(); ++i) {
        const char* digits = text.data() + 3 * i;
        const auto parsed = std::from_chars(digits, digits + 2, mac[i], 16);
        valid = parsed.ec == std::errc() && parsed.ptr == digits + 2;
        if (i + 1 < mac.size()) valid = valid && digits[2] == ':';
    }
    if (!valid) {
        return fail(Errc::invalid_argument,
                    "{} is \"{}\", not a MAC address like 06:00:00:00:00:01", where, text);
    }
    if ((mac[0] & 1) != 0) {
        return fail(Errc::invalid_argument, "{} is {}, a multicast address", where, text);
    }
    return mac;
}

Result<void> parse_boot(const json::object& object, const std::string& origin, VmConfig& config) {
    ObjectReader reader(object, origin + ": boot-source");
    FT_TRY(const auto kernel, reader.text("kernel_image_path"));
    FT_TRY(const auto initrd, reader.text("initrd_path", ""));
    FT_TRY(config.boot_args, reader.text("boot_args", ""));
    config.kernel_image_path = resolve(kernel, origin);
    config.initrd_path = resolve(initrd, origin);
    if (config.boot_args.size() > layout::kCommandLineBytesMax / 2) {
        return fail(Errc::invalid_argument, "{}: boot-source.boot_args has {} characters, {} fit",
                    origin, config.boot_args.size(), layout::kCommandLineBytesMax / 2);
    }
    return reader.no_other_keys();
}

Result<TscPolicy> parse_tsc(const std::string& text, const std::string& origin) {
    if (text == "hidden") return TscPolicy::hidden;
    if (text == "frozen") return TscPolicy::frozen;
    if (text == "live") return TscPolicy::live;
    return fail(Errc::invalid_argument,
                "{}: machine-config.tsc is \"{}\", not hidden, frozen or live", origin, text);
}

Result<ProtectionMode> parse_mode(const std::string& text, const std::string& origin) {
    if (text == "lockstep") return ProtectionMode::lockstep;
    if (text == "checkpoint") return ProtectionMode::checkpoint;
    if (text == "auto") return ProtectionMode::automatic;
    return fail(Errc::invalid_argument,
                "{}: machine-config.mode is \"{}\", not lockstep, checkpoint or auto", origin,
                text);
}

Result<void> parse_machine(const json::object& object, const std::string& origin,
                           VmConfig& config) {
    ObjectReader reader(object, origin + ": machine-config");
    FT_TRY(const auto vcpus, reader.number("vcpu_count", 1, VmConfig::kVcpusMax));
    FT_TRY(config.mem_size_mib, reader.number("mem_size_mib", 2, VmConfig::kMemoryMibMax));
    config.vcpu_count = static_cast<uint32_t>(vcpus);
    FT_TRY(const auto tsc, reader.text("tsc", "hidden"));
    FT_TRY(config.tsc, parse_tsc(tsc, origin));
    FT_TRY(const auto mode, reader.text("mode", "lockstep"));
    FT_TRY(config.mode, parse_mode(mode, origin));
    if (config.vcpu_count > 1 && config.mode != ProtectionMode::checkpoint) {
        return fail(Errc::invalid_argument,
                    "{}: machine-config.vcpu_count is {}, and {} can have 1: "
                    "use \"mode\": \"checkpoint\"",
                    origin, config.vcpu_count, mode);
    }
    if (config.tsc == TscPolicy::live && config.mode != ProtectionMode::checkpoint) {
        return fail(Errc::invalid_argument,
                    "{}: machine-config.tsc is live, which {} cannot replay: use \"hidden\", "
                    "or \"mode\": \"checkpoint\"",
                    origin, mode);
    }
    return reader.no_other_keys();
}

Result<void> parse_drive(const json::object& object, const std::string& where,
                         const std::string& origin, VmConfig& config) {
    ObjectReader reader(object, where);
    DriveConfig drive;
    FT_TRY(drive.drive_id, reader.text("drive_id"));
    FT_TRY(const auto path, reader.text("path_on_host"));
    FT_TRY(drive.is_read_only, reader.flag("is_read_only"));
    FT_TRY(drive.is_root_device, reader.flag("is_root_device"));
    FT_TRY_VOID(Name::parse(drive.drive_id, where + ".drive_id"));
    drive.path_on_host = resolve(path, origin);
    config.drives.push_back(std::move(drive));
    return reader.no_other_keys();
}

Result<void> parse_network(const json::object& object, const std::string& where,
                           const std::string& origin, VmConfig& config) {
    ObjectReader reader(object, where);
    NetworkConfig network;
    const std::string default_mac =
        fmt::format("06:00:0a:00:00:{:02x}", config.networks.size() + 1);
    FT_TRY(network.iface_id, reader.text("iface_id"));
    FT_TRY(network.host_dev_name, reader.text("host_dev_name"));
    FT_TRY(const auto mac, reader.text("guest_mac", default_mac.c_str()));
    FT_TRY(network.guest_mac, parse_mac(mac, where + ".guest_mac"));
    FT_TRY_VOID(Name::parse(network.iface_id, where + ".iface_id"));
    if (network.host_dev_name.rfind("unix:", 0) == 0) {
        network.host_dev_name = "unix:" + resolve(network.host_dev_name.substr(5), origin);
    }
    config.networks.push_back(std::move(network));
    return reader.no_other_keys();
}

using ItemParser = Result<void> (*)(const json::object&, const std::string&, const std::string&,
                                    VmConfig&);

Result<void> parse_list(const json::value& value, const char* key, const std::string& origin,
                        ItemParser parse_item, VmConfig& config) {
    if (!value.is_array()) return fail(Errc::invalid_argument, "{}: {} is not a list", origin, key);
    size_t index = 0;
    for (const auto& item : value.as_array()) {
        const std::string where = fmt::format("{}: {}[{}]", origin, key, index++);
        if (!item.is_object()) return fail(Errc::invalid_argument, "{} is not an object", where);
        FT_TRY_VOID(parse_item(item.as_object(), where, origin, config));
    }
    return {};
}

Result<void> parse_member(std::string_view key, const json::value& value, const std::string& origin,
                          VmConfig& config) {
    if (key == "drives") return parse_list(value, "drives", origin, parse_drive, config);
    if (key == "network-interfaces") {
        return parse_list(value, "network-interfaces", origin, parse_network, config);
    }
    if (key != "boot-source" && key != "machine-config" && key != "entropy") {
        return fail(Errc::invalid_argument, "{}: {} is not a setting", origin, key);
    }
    if (!value.is_object()) {
        return fail(Errc::invalid_argument, "{}: {} is not an object", origin, key);
    }
    if (key == "boot-source") return parse_boot(value.as_object(), origin, config);
    if (key == "entropy") {
        config.has_entropy = true;
        return ObjectReader(value.as_object(), origin + ": entropy").no_other_keys();
    }
    return parse_machine(value.as_object(), origin, config);
}

Result<void> check_ids(const VmConfig& config, const std::string& origin) {
    std::set<std::string> ids;
    const auto is_root = [](const DriveConfig& drive) { return drive.is_root_device; };
    if (std::count_if(config.drives.begin(), config.drives.end(), is_root) > 1) {
        return fail(Errc::invalid_argument, "{}: two drives have is_root_device", origin);
    }
    for (const auto& drive : config.drives) {
        if (!ids.insert(drive.drive_id).second) {
            return fail(Errc::invalid_argument, "{}: two drives have the drive_id {}", origin,
                        drive.drive_id);
        }
    }
    ids.clear();
    for (const auto& network : config.networks) {
        if (!ids.insert(network.iface_id).second) {
            return fail(Errc::invalid_argument, "{}: two network-interfaces have the iface_id {}",
                        origin, network.iface_id);
        }
    }
    return {};
}

}  // namespace

Result<VmConfig> parse_vm_config(std::string_view text, const std::string& origin) {
    boost::system::error_code error;
    json::stream_parser parser;
    size_t at = parser.write_some(text.data(), text.size(), error);
    if (!error && at < text.size()) {
        const auto rest = text.find_first_not_of(" \t\r\n", at);
        if (rest != std::string_view::npos) error = json::error::extra_data;
    }
    if (!error) parser.finish(error);
    if (error) {
        const auto line = std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n');
        return fail(Errc::invalid_argument, "{}: line {}: not JSON: {}", origin, line + 1,
                    error.message());
    }
    const json::value value = parser.release();
    if (!value.is_object()) return fail(Errc::invalid_argument, "{}: not an object", origin);
    VmConfig config;
    for (const auto& member : value.as_object()) {
        FT_TRY_VOID(parse_member(member.key(), member.value(), origin, config));
    }
    for (const char* needed : {"boot-source", "machine-config"}) {
        if (!value.as_object().contains(needed)) {
            return fail(Errc::invalid_argument, "{}: {} is missing", origin, needed);
        }
    }
    FT_TRY_VOID(check_ids(config, origin));
    const size_t devices =
        config.drives.size() + config.networks.size() + (config.has_entropy ? 1 : 0);
    if (devices > layout::kVirtioIrqs.size()) {
        return fail(Errc::invalid_argument, "{}: {} devices, {} fit", origin, devices,
                    layout::kVirtioIrqs.size());
    }
    return config;
}

Result<VmConfig> load_vm_config(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno(errno, "{}", path);
    std::string text(kFileBytesMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    if (text.size() > kFileBytesMax) {
        return fail(Errc::invalid_argument, "{}: is larger than {} bytes", path, kFileBytesMax);
    }
    return parse_vm_config(text, path);
}

std::string root_argument(const VmConfig& config) {
    for (size_t i = 0; i < config.drives.size(); ++i) {
        if (!config.drives[i].is_root_device) continue;
        return fmt::format(" root=/dev/vd{} {}", static_cast<char>('a' + i),
                           config.drives[i].is_read_only ? "ro" : "rw");
    }
    return "";
}

std::string format_mac(const MacAddress& mac) {
    return fmt::format("{:02x}", fmt::join(mac, ":"));
}

}  // namespace antipode::vmm
