#include "web/pairing/vm_files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <toml++/toml.h>
#include <unistd.h>

#include "common/base/unique_fd.h"
#include "web/child.h"

namespace antipode::web {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFileBytesMax = 128 * 1024;
constexpr uint16_t kFirstPort = 7100;
constexpr auto kKeygenLimit = std::chrono::seconds(20);
constexpr mode_t kSecretMode = 0640;  // the replicator reads by the group of the folder
constexpr std::string_view kStage = ".pairing";
// In the order in which they are put in place: pair.toml makes it a pair.
constexpr std::array kFiles{"vm.json",  "channel.key",   "channel.pub",
                            "peer.pub", "heartbeat.key", "pair.toml"};

bool is_secret(std::string_view file) {
    return file.ends_with(".key");
}

Result<std::string> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno(errno, "{}", path);
    std::string text(kFileBytesMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    if (text.size() > kFileBytesMax) {
        return fail(Errc::limit, "{}: is larger than {} bytes", path, kFileBytesMax);
    }
    return text;
}

Result<> write_file(const std::string& path, std::string_view text, mode_t mode) {
    const UniqueFd fd(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) return fail_errno(errno, "{}", path);
    if (::fchmod(fd.get(), mode) != 0) return fail_errno(errno, "{}: chmod", path);
    while (!text.empty()) {
        const ssize_t written = ::write(fd.get(), text.data(), text.size());
        if (written < 0) return fail_errno(errno, "{}: write", path);
        text.remove_prefix(static_cast<size_t>(written));
    }
    if (::fsync(fd.get()) != 0) return fail_errno(errno, "{}: fsync", path);
    return {};
}

Result<> sync_directory(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) return fail_errno(errno, "{}: fsync", path);
    return {};
}

Result<> remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "{}", path);
    return {};
}

// A folder of ours with this mode whatever the umask; the group, and set-group-ID, are those of the
// folder above, which is how the replicator may read what is in it.
Result<> make_directory(const std::string& path, mode_t mode) {
    if (::mkdir(path.c_str(), mode) != 0) return fail_errno(errno, "{}", path);
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return fail_errno(errno, "{}", path);
    const mode_t wanted = mode | (info.st_mode & S_ISGID);
    if ((info.st_mode & 07777) != wanted && ::chmod(path.c_str(), wanted) != 0) {
        return fail_errno(errno, "{}: chmod", path);
    }
    // Linux takes set-group-ID away silently from one who is not in the group.
    if (::stat(path.c_str(), &info) != 0) return fail_errno(errno, "{}", path);
    if ((info.st_mode & 07777) != wanted) {
        return fail(Errc::denied, "{}: its group {} is none of this daemon's", path, info.st_gid);
    }
    return {};
}

// The folder of a VM, which may be root's (`antipode-web vm add`) and is not touched then.
Result<> need_vm_directory(const std::string& path, std::string_view vm) {
    if (::access(path.c_str(), F_OK) != 0) return make_directory(path, 0750);
    if (::access(path.c_str(), W_OK | X_OK) != 0) {
        return fail(Errc::denied,
                    "{}: this page may not write there; as root: antipode-web vm add {}", path, vm);
    }
    return {};
}

std::string endpoint(const std::string& address, uint16_t port) {
    const bool six = address.find(':') != std::string::npos;
    return six ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
}

// The ports that a pair.toml listens on.
void add_ports(const std::string& path, std::set<uint16_t>& ports) {
    try {
        const toml::table file = toml::parse_file(path);
        for (const char* section : {"channel", "heartbeat"}) {
            const auto listen = file[section]["listen"].value<std::string>();
            if (!listen) continue;
            const size_t colon = listen->rfind(':');
            if (colon == std::string::npos) continue;
            ports.insert(static_cast<uint16_t>(std::atoi(listen->c_str() + colon + 1)));
        }
    } catch (const toml::parse_error&) {
        return;  // its own replicator says what is wrong with it
    }
}

}  // namespace

// Every text in it is a Name, an address that was parsed, or a path of the settings.
std::string pair_toml(const PairPlan& plan) {
    return fmt::format(
        R"([pair]
name = "{}"
site = "{}"
peer_site = "{}"
role = "{}"
state_directory = "/var/lib/antipode/{}"

[channel]
listen = "tcp://{}"
peer = "tcp://{}"
own_key = "channel.key"
peer_key = "peer.pub"

[heartbeat]
listen = "{}"
peer = "{}"
key = "heartbeat.key"

[tiebreaker]
address = "{}"
ca = "{}/ca.pem"
certificate = "{}/site.pem"
key = "{}/site.key"

[control]
socket = "/run/antipode/{}.sock"
)",
        plan.pair, plan.site, plan.peer_site, plan.role, plan.pair,
        endpoint(plan.own_address, plan.channel_port),
        endpoint(plan.peer_address, plan.peer_channel_port),
        endpoint(plan.own_address, plan.heartbeat_port),
        endpoint(plan.peer_address, plan.peer_heartbeat_port), plan.tiebreaker, plan.credentials,
        plan.credentials, plan.credentials, plan.pair);
}

std::string VmFiles::path(std::string_view vm, std::string_view file) const {
    std::string out = directory_ + "/" + std::string(vm);
    if (!file.empty()) out += "/" + std::string(file);
    return out;
}

bool VmFiles::is_paired(std::string_view vm) const {
    return ::access(path(vm, "pair.toml").c_str(), F_OK) == 0;
}

Result<std::vector<VmFiles::Vm>> VmFiles::list() const {
    std::vector<Vm> out;
    std::error_code error;
    for (fs::directory_iterator at(directory_, error), end; !error && at != end;
         at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (name == "example" || !Name::parse(name, "VM")) continue;
        if (::access(path(name, "vm.json").c_str(), F_OK) != 0) continue;
        out.push_back({name, is_paired(name)});
    }
    if (error) return fail(errno_error(error.value(), directory_));
    std::sort(out.begin(), out.end(), [](const Vm& a, const Vm& b) { return a.name < b.name; });
    return out;
}

Result<std::string> VmFiles::definition(std::string_view vm) const {
    return read_file(path(vm, "vm.json"));
}

uint16_t VmFiles::free_ports() const {
    std::set<uint16_t> taken;
    std::error_code error;
    for (fs::directory_iterator at(directory_, error), end; !error && at != end;
         at.increment(error)) {
        if (at->path().filename() == "example") continue;
        add_ports((at->path() / "pair.toml").string(), taken);
        add_ports((at->path() / kStage / "pair.toml").string(), taken);
    }
    for (uint16_t port = kFirstPort; port < kFirstPort + 800; port += 2) {
        if (!taken.contains(port) && !taken.contains(port + 1)) return port;
    }
    return kFirstPort;
}

Result<std::string> VmFiles::begin(std::string_view vm) const {
    abandon(vm);
    FT_TRY_VOID(need_vm_directory(path(vm), vm));
    const std::string stage = path(vm, kStage);
    FT_TRY_VOID(make_directory(stage, 0750));
    ChildCommand command;
    command.argv = {replicator_, "keygen", stage};
    command.time_limit = kKeygenLimit;
    FT_TRY(const ChildOutcome made, run_child(command));
    if (made.exit_code != 0) {
        return fail(Errc::io, "{} keygen: {}", replicator_, made.output.substr(0, 300));
    }
    for (const char* file : kFiles) {
        const std::string made_path = stage + "/" + file;
        if (is_secret(file) && ::chmod(made_path.c_str(), kSecretMode) != 0) {
            return fail_errno(errno, "{}: chmod", made_path);
        }
    }
    return prepared(vm, "channel.pub");
}

Result<> VmFiles::prepare(std::string_view vm, std::string_view file, std::string_view text) const {
    return write_file(path(vm, kStage) + "/" + std::string(file), text,
                      is_secret(file) ? kSecretMode : 0644);
}

Result<std::string> VmFiles::prepared(std::string_view vm, std::string_view file) const {
    return read_file(path(vm, kStage) + "/" + std::string(file));
}

Result<> VmFiles::adopt(std::string_view from, std::string_view vm) const {
    abandon(vm);
    FT_TRY_VOID(need_vm_directory(path(vm), vm));
    const std::string old_path = path(from, kStage);
    const std::string new_path = path(vm, kStage);
    if (::rename(old_path.c_str(), new_path.c_str()) != 0) {
        return fail_errno(errno, "{} to {}", old_path, new_path);
    }
    ::rmdir(path(from).c_str());
    return {};
}

Result<> VmFiles::move_in(std::string_view vm, const std::string& file) const {
    const std::string from = path(vm, kStage) + "/" + file;
    if (::access(from.c_str(), F_OK) != 0) return {};  // moved by an earlier try, or not ours
    const std::string to = path(vm, file);
    if (::rename(from.c_str(), to.c_str()) != 0) return fail_errno(errno, "{} to {}", from, to);
    return {};
}

Result<> VmFiles::finish(std::string_view vm) const {
    if (is_paired(vm)) {
        if (::access((path(vm, kStage) + "/pair.toml").c_str(), F_OK) != 0) return {};
        return fail(Errc::already_exists, "{}: is there already", path(vm, "pair.toml"));
    }
    return replace(vm);
}

Result<> VmFiles::replace(std::string_view vm) const {
    FT_TRY_VOID(sync_directory(path(vm, kStage)));
    for (const char* file : kFiles) FT_TRY_VOID(move_in(vm, file));
    FT_TRY_VOID(sync_directory(path(vm)));
    abandon(vm);
    return {};
}

Result<> VmFiles::add(const Name& vm, const std::string& definition_file) const {
    const std::string folder = path(vm.view());
    const std::string target = path(vm.view(), "vm.json");
    std::string text;
    if (!definition_file.empty()) {
        FT_TRY(text, read_file(definition_file));
        if (::access(target.c_str(), F_OK) == 0) {
            return fail(Errc::already_exists, "{}: is there already", target);
        }
    } else if (::access(target.c_str(), F_OK) != 0) {
        return fail(Errc::not_found, "{}: there is no definition; give one with --definition",
                    target);
    }
    struct stat above {};
    if (::stat(directory_.c_str(), &above) != 0) return fail_errno(errno, "{}", directory_);
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(errno, "{}", folder);
    if (!text.empty()) FT_TRY_VOID(write_file(target, text, 0640));
    const uid_t self = ::geteuid();
    for (const std::string& each : {folder, target}) {
        if (::lchown(each.c_str(), self, above.st_gid) != 0) return fail_errno(errno, "{}", each);
    }
    if (::chmod(target.c_str(), 0640) != 0) return fail_errno(errno, "{}", target);
    if (::chmod(folder.c_str(), 03770) != 0) return fail_errno(errno, "{}", folder);
    return sync_directory(folder);
}

void VmFiles::abandon(std::string_view vm) const {
    std::error_code ignored;
    fs::remove_all(path(vm, kStage), ignored);
}

Result<> VmFiles::unpair(std::string_view vm) const {
    // pair.toml first: without it nothing starts any more.
    for (auto at = kFiles.rbegin(); at != kFiles.rend(); ++at) {
        if (std::string_view(*at) == "vm.json") continue;
        FT_TRY_VOID(remove_file(path(vm, *at)));
    }
    return sync_directory(path(vm));
}

}  // namespace antipode::web
