#include "replicator/control/drill_overlay.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/log.h"

namespace antipode::control {
namespace {

Result<UniqueFd> create_file(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(errno, "{}", path);
    return fd;
}

Result<void> read_whole(int fd, uint64_t offset_bytes, std::span<std::byte> data) {
    while (!data.empty()) {
        const ssize_t got = pread(fd, data.data(), data.size(), static_cast<off_t>(offset_bytes));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return fail_errno(got < 0 ? errno : EIO, "drill overlay");
        data = data.subspan(static_cast<size_t>(got));
        offset_bytes += static_cast<uint64_t>(got);
    }
    return {};
}

Result<void> write_whole(int fd, uint64_t offset_bytes, std::span<const std::byte> data) {
    while (!data.empty()) {
        const ssize_t put = pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset_bytes));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return fail_errno(put < 0 ? errno : EIO, "drill overlay");
        data = data.subspan(static_cast<size_t>(put));
        offset_bytes += static_cast<uint64_t>(put);
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<DrillOverlay>> DrillOverlay::create(const std::string& path,
                                                           uint64_t drive_bytes) {
    FT_TRY(auto saved, create_file(path + ".saved"));
    FT_TRY(auto own, create_file(path + ".own"));
    const uint64_t chunks = (drive_bytes + kChunkBytes - 1) / kChunkBytes;
    const size_t map_bytes = sizeof(Shared) + 2 * sizeof(Word) * ((chunks + 63) / 64);
    void* map = mmap(nullptr, map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return fail_errno(errno, "drill overlay of {} bytes", drive_bytes);
    return std::unique_ptr<DrillOverlay>(
        new DrillOverlay(std::move(saved), std::move(own), map, map_bytes, drive_bytes));
}

DrillOverlay::DrillOverlay(UniqueFd saved, UniqueFd own, void* map, size_t map_bytes,
                           uint64_t drive_bytes)
    : saved_fd_(std::move(saved)),
      own_fd_(std::move(own)),
      map_(map),
      map_bytes_(map_bytes),
      drive_bytes_(drive_bytes),
      shared_(new (map) Shared{}),
      saved_(reinterpret_cast<Word*>(static_cast<std::byte*>(map) + sizeof(Shared))),
      own_(saved_ + (map_bytes - sizeof(Shared)) / sizeof(Word) / 2),
      chunk_(std::make_unique<std::byte[]>(kChunkBytes)) {
    static_assert(Word::is_always_lock_free, "shared between processes");
}

DrillOverlay::~DrillOverlay() {
    munmap(map_, map_bytes_);
}

bool DrillOverlay::has(const Word* bits, uint64_t chunk) {
    return (bits[chunk / 64].load(std::memory_order_acquire) >> (chunk % 64) & 1) != 0;
}

void DrillOverlay::mark(Word* bits, uint64_t chunk) {
    bits[chunk / 64].fetch_or(uint64_t{1} << (chunk % 64), std::memory_order_acq_rel);
    shared_->chunks.fetch_add(1);
}

uint64_t DrillOverlay::chunk_bytes(uint64_t chunk) const {
    return std::min(kChunkBytes, drive_bytes_ - chunk * kChunkBytes);
}

uint64_t DrillOverlay::bytes() const {
    return shared_->chunks.load() * kChunkBytes;
}

void DrillOverlay::save(uint64_t offset_bytes, uint64_t length_bytes, const ReadDrive& read_drive) {
    if (length_bytes == 0 || offset_bytes >= drive_bytes_ || broken()) return;
    const uint64_t last = (std::min(offset_bytes + length_bytes, drive_bytes_) - 1) / kChunkBytes;
    for (uint64_t chunk = offset_bytes / kChunkBytes; chunk <= last; ++chunk) {
        if (has(saved_, chunk)) continue;
        const std::span<std::byte> data(chunk_.get(), chunk_bytes(chunk));
        auto kept = read_drive(chunk * kChunkBytes, data);
        if (kept) kept = write_whole(saved_fd_.get(), chunk * kChunkBytes, data);
        if (!kept) {
            logger("drill").warn("the drill ends: {}", kept.error().to_string());
            shared_->broken.store(true);
            return;
        }
        mark(saved_, chunk);
    }
}

// `data` is the whole chunk.
Result<void> DrillOverlay::read_chunk(uint64_t chunk, std::span<std::byte> data,
                                      const ReadDrive& read_drive) {
    if (has(own_, chunk)) return read_whole(own_fd_.get(), chunk * kChunkBytes, data);
    return read_original(chunk, data, read_drive);
}

Result<void> DrillOverlay::read_original(uint64_t chunk, std::span<std::byte> data,
                                         const ReadDrive& read_drive) {
    const uint64_t at = chunk * kChunkBytes;
    if (!has(saved_, chunk)) {
        FT_TRY_VOID(read_drive(at, data));
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (!has(saved_, chunk)) return {};
    }
    return read_whole(saved_fd_.get(), at, data);
}

Result<void> DrillOverlay::read(uint64_t offset_bytes, std::span<std::byte> data,
                                const ReadDrive& read_drive) {
    while (!data.empty()) {
        const uint64_t chunk = offset_bytes / kChunkBytes;
        const uint64_t within = offset_bytes % kChunkBytes;
        if (offset_bytes >= drive_bytes_) return fail(Errc::invalid_argument, "behind the drive");
        const size_t part = std::min<size_t>(data.size(), chunk_bytes(chunk) - within);
        const std::span<std::byte> whole(chunk_.get(), chunk_bytes(chunk));
        FT_TRY_VOID(read_chunk(chunk, whole, read_drive));
        std::copy_n(whole.begin() + static_cast<ptrdiff_t>(within), part, data.begin());
        data = data.subspan(part);
        offset_bytes += part;
    }
    return {};
}

Result<void> DrillOverlay::write(uint64_t offset_bytes, std::span<const std::byte> data,
                                 const ReadDrive& read_drive) {
    while (!data.empty()) {
        const uint64_t chunk = offset_bytes / kChunkBytes;
        const uint64_t within = offset_bytes % kChunkBytes;
        if (offset_bytes >= drive_bytes_) return fail(Errc::invalid_argument, "behind the drive");
        const size_t part = std::min<size_t>(data.size(), chunk_bytes(chunk) - within);
        if (has(own_, chunk)) {
            FT_TRY_VOID(write_whole(own_fd_.get(), offset_bytes, data.first(part)));
        } else {
            const std::span<std::byte> whole(chunk_.get(), chunk_bytes(chunk));
            if (part < whole.size()) FT_TRY_VOID(read_chunk(chunk, whole, read_drive));
            std::copy_n(data.begin(), part, whole.begin() + static_cast<ptrdiff_t>(within));
            FT_TRY_VOID(write_whole(own_fd_.get(), chunk * kChunkBytes, whole));
            mark(own_, chunk);
        }
        data = data.subspan(part);
        offset_bytes += part;
    }
    return {};
}

}  // namespace antipode::control
