#include "replicator/control/durable_file.h"

#include <array>
#include <boost/endian/buffers.hpp>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

namespace antipode::control {
namespace {

using boost::endian::little_uint32_buf_t;
using boost::endian::little_uint64_buf_t;

constexpr uint64_t kMagic = 0x6574617473747061;  // "aptstate"
constexpr uint32_t kVersion = 1;
constexpr off_t kSlotBytes = 4096;
constexpr size_t kBootIdBytes = 40;

struct Slot {
    little_uint64_buf_t magic;
    little_uint32_buf_t version;
    little_uint32_buf_t role;
    little_uint64_buf_t sequence;
    little_uint64_buf_t epoch;
    little_uint64_buf_t live_epoch;
    little_uint64_buf_t store;
    little_uint32_buf_t disk;
    little_uint32_buf_t divergence;
    std::array<char, kBootIdBytes> boot_id;
    little_uint64_buf_t checksum;  // XXH64 of everything before it
};
static_assert(sizeof(Slot) == 104);

uint64_t checksum_of(const Slot& slot) {
    return XXH64(&slot, offsetof(Slot, checksum), 0);
}

bool valid(const Slot& slot) {
    return slot.magic.value() == kMagic && slot.checksum.value() == checksum_of(slot);
}

template <typename Enum>
bool read_enum(uint32_t raw, Enum last, Enum& value) {
    if (raw < 1 || raw > static_cast<uint32_t>(last)) return false;
    value = static_cast<Enum>(raw);
    return true;
}

Result<DurableRecord> decode(const Slot& slot, const std::string& path) {
    if (slot.version.value() != kVersion) {
        return fail(Errc::version, "{}: version is {}, expected {}", path, slot.version.value(),
                    kVersion);
    }
    DurableRecord record;
    record.state.epoch = Epoch(slot.epoch.value());
    record.state.live_epoch = Epoch(slot.live_epoch.value());
    record.state.store = wire::StoreIdentity(slot.store.value());
    if (!read_enum(slot.role.value(), failover::DurableRole::halted, record.state.role) ||
        !read_enum(slot.disk.value(), wire::DiskCopy::complete, record.state.disk) ||
        !read_enum(slot.divergence.value(), failover::Divergence::diverged,
                   record.state.divergence)) {
        return fail(Errc::corrupt, "{}: role, disk or divergence is not known", path);
    }
    record.boot_id.assign(slot.boot_id.data(), strnlen(slot.boot_id.data(), kBootIdBytes));
    return record;
}

Result<void> sync_directory(const std::string& directory) {
    const UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || fsync(fd.get()) != 0) return fail_errno(errno, "{}", directory);
    return {};
}

}  // namespace

Result<std::string> read_boot_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string id;
    if (!std::getline(file, id) || id.empty()) {
        return fail(Errc::io, "/proc/sys/kernel/random/boot_id: cannot be read");
    }
    return id.substr(0, kBootIdBytes - 1);
}

Result<DurableFile> DurableFile::open(const std::string& directory) {
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) return fail_errno(error.value(), "state directory {}", directory);
    const std::string path = directory + "/failover.state";
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(errno, "{}", path);
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        return fail(Errc::busy, "{}: another process runs this pair", path);
    }
    FT_TRY_VOID(sync_directory(directory));
    DurableFile file(std::move(fd), path);
    FT_TRY_VOID(file.load());
    return file;
}

Result<void> DurableFile::load() {
    struct stat info {};
    if (fstat(fd_.get(), &info) != 0) return fail_errno(errno, "{}", path_);
    std::optional<Slot> newest;
    for (off_t i = 0; i < 2; ++i) {
        Slot slot{};
        const ssize_t bytes = pread(fd_.get(), &slot, sizeof slot, i * kSlotBytes);
        if (bytes < 0) return fail_errno(errno, "{}", path_);
        if (bytes != sizeof slot || !valid(slot)) continue;
        if (!newest || slot.sequence.value() > newest->sequence.value()) newest = slot;
    }
    if (!newest) {
        // A first write that was torn was never confirmed: nothing was promised by it. It cannot
        // reach beyond the first slot.
        if (info.st_size <= kSlotBytes) return {};
        return fail(Errc::corrupt, "{}: neither copy is valid", path_);
    }
    sequence_ = newest->sequence.value();
    FT_TRY(loaded_, decode(*newest, path_));
    return {};
}

Result<void> DurableFile::store(const DurableRecord& record) {
    Slot slot{};
    slot.magic = kMagic;
    slot.version = kVersion;
    slot.role = static_cast<uint32_t>(record.state.role);
    slot.sequence = sequence_ + 1;
    slot.epoch = record.state.epoch.value();
    slot.live_epoch = record.state.live_epoch.value();
    slot.store = record.state.store.value();
    slot.disk = static_cast<uint32_t>(record.state.disk);
    slot.divergence = static_cast<uint32_t>(record.state.divergence);
    std::memcpy(slot.boot_id.data(), record.boot_id.data(),
                std::min(record.boot_id.size(), kBootIdBytes - 1));
    slot.checksum = checksum_of(slot);
    const off_t at = static_cast<off_t>(sequence_ % 2) * kSlotBytes;
    const ssize_t bytes = pwrite(fd_.get(), &slot, sizeof slot, at);
    if (bytes < 0) return fail_errno(errno, "{}", path_);
    if (bytes != sizeof slot) return fail(Errc::no_space, "{}: only {} bytes fit", path_, bytes);
    if (fdatasync(fd_.get()) != 0) return fail_errno(errno, "{}", path_);
    ++sequence_;
    return {};
}

}  // namespace antipode::control
