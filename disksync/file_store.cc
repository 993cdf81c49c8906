#include "disksync/file_store.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <utility>

#include "common/base/check.h"
#include "common/base/freer.h"
#include "common/base/log.h"

namespace antipode::disksync {

namespace {

constexpr uint32_t kSectorBytes = 512;
constexpr uint64_t kZeroChunkBytes = uint64_t{1} << 20;
constexpr size_t kBounceAlignmentBytes = 4096;

using AlignedBuffer = std::unique_ptr<std::byte, Freer<std::free>>;

AlignedBuffer aligned_buffer(size_t bytes) {
    const size_t rounded =
        (bytes + kBounceAlignmentBytes - 1) / kBounceAlignmentBytes * kBounceAlignmentBytes;
    return AlignedBuffer(
        static_cast<std::byte*>(std::aligned_alloc(kBounceAlignmentBytes, rounded)));
}

Result<uint64_t> size_of(int fd, const std::string& path, bool is_block_device) {
    uint64_t size = 0;
    if (is_block_device) {
        if (::ioctl(fd, BLKGETSIZE64, &size) != 0) {
            return fail_errno(errno, "disk {}: asking for its size", path);
        }
        return size;
    }
    struct stat status {};
    if (::fstat(fd, &status) != 0) return fail_errno(errno, "disk {}: fstat", path);
    return static_cast<uint64_t>(status.st_size);
}

// What O_DIRECT needs; block devices tell, files get the page size that every file system accepts.
uint32_t direct_alignment(int fd, bool is_block_device) {
    int sector = 0;
    if (is_block_device && ::ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0) {
        return static_cast<uint32_t>(sector);
    }
    return kBounceAlignmentBytes;
}

Result<> check_size(const std::string& path, uint64_t size, const StoreOptions& options,
                    uint32_t alignment) {
    if (size == 0) return fail(Errc::invalid_argument, "disk {}: is empty", path);
    if (size % alignment != 0) {
        return fail(Errc::invalid_argument, "disk {}: its size, {} bytes, is not a multiple of {}",
                    path, size, alignment);
    }
    if (options.size_bytes_expected && *options.size_bytes_expected != size) {
        return fail(Errc::invalid_argument, "disk {}: has {} bytes, expected {}", path, size,
                    *options.size_bytes_expected);
    }
    return {};
}

}  // namespace

Result<> FileStore::lock_image(int fd, const std::string& path, StoreAccess access) {
    struct flock lock {};
    lock.l_type = access == StoreAccess::read_write ? F_WRLCK : F_RDLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return {};
    if (errno == EAGAIN || errno == EACCES) {
        return fail(Errc::busy, "disk {}: is in use by another process (its lock is taken)", path);
    }
    return fail_errno(errno, "disk {}: locking it", path);
}

Result<std::unique_ptr<FileStore>> FileStore::open(const std::string& path,
                                                   const StoreOptions& options) {
    const bool writable = options.access == StoreAccess::read_write;
    struct stat status {};
    // Looked at first: O_EXCL without O_CREAT has a meaning for block devices only.
    if (::stat(path.c_str(), &status) != 0) return fail_errno(errno, "disk {}", path);
    const bool is_block_device = S_ISBLK(status.st_mode);
    if (!is_block_device && !S_ISREG(status.st_mode)) {
        return fail(Errc::invalid_argument, "disk {}: is neither a file nor a block device", path);
    }
    int flags = O_CLOEXEC | (writable ? O_RDWR : O_RDONLY);
    if (is_block_device && writable) flags |= O_EXCL;
    if (options.direct_io == DirectIo::yes) flags |= O_DIRECT;
    UniqueFd fd(::open(path.c_str(), flags));
    if (!fd) {
        if (errno == EBUSY) return fail(Errc::busy, "disk {}: is in use by the system", path);
        if (errno == EINVAL && options.direct_io == DirectIo::yes) {
            return fail(Errc::unsupported, "disk {}: its file system has no direct I/O", path);
        }
        return fail_errno(errno, "disk {}: opening it", path);
    }
    FT_TRY_VOID(lock_image(fd.get(), path, options.access));
    FT_TRY(const uint64_t size, size_of(fd.get(), path, is_block_device));
    const uint32_t alignment = options.direct_io == DirectIo::yes
                                   ? direct_alignment(fd.get(), is_block_device)
                                   : kSectorBytes;
    FT_TRY_VOID(check_size(path, size, options, alignment));
    return std::unique_ptr<FileStore>(
        new FileStore(std::move(fd), path, options,
                      is_block_device ? Kind::block_device : Kind::regular_file, size, alignment));
}

FileStore::FileStore(UniqueFd fd, std::string path, const StoreOptions& options, Kind kind,
                     uint64_t size_bytes, uint32_t alignment_bytes)
    : fd_(std::move(fd)),
      path_(std::move(path)),
      options_(options),
      kind_(kind),
      size_bytes_(size_bytes),
      alignment_bytes_(alignment_bytes) {
    for (uint32_t index = 0; index < options_.thread_count; ++index) {
        threads_.emplace_back([this] { worker(); });
    }
}

FileStore::~FileStore() {
    if (auto closed = close(); !closed) logger("disksync").error("{}", closed.error().to_string());
}

Result<> FileStore::submit(StoreRequest&& request) {
    FT_TRY_VOID(check_request(*this, options_.access, request));
    {
        const std::lock_guard lock(mutex_);
        if (closing_) return fail(Errc::closed, "disk {}: is closed", path_);
        if (queue_.size() + running_ >= options_.requests_in_flight_max) {
            return fail(Errc::busy, "disk {}: {} requests are in flight", path_,
                        options_.requests_in_flight_max);
        }
        queue_.push_back(std::move(request));
    }
    changed_.notify_one();
    return {};
}

Result<> FileStore::run_here(const StoreRequest& request) {
    FT_TRY_VOID(check_request(*this, options_.access, request));
    return execute(request);
}

Result<> FileStore::close() {
    const std::lock_guard only_one(close_mutex_);
    if (threads_.empty()) return {};
    std::deque<StoreRequest> cancelled;
    {
        const std::lock_guard lock(mutex_);
        closing_ = true;
        cancelled.swap(queue_);
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) {
        FT_CHECK(thread.get_id() != std::this_thread::get_id(),
                 "disk {}: closed by one of its own completions", path_);
        thread.join();
    }
    threads_.clear();
    for (StoreRequest& request : cancelled) {
        request.done(fail(Errc::closed, "disk {}: closed before the {} at {} began", path_,
                          to_string(request.operation), request.offset_bytes));
    }
    return options_.access == StoreAccess::read_write ? flush() : Result<>();
}

void FileStore::worker() {
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
        if (queue_.empty()) return;  // closing; close() has taken what was left
        StoreRequest request = std::move(queue_.front());
        queue_.pop_front();
        ++running_;
        lock.unlock();
        Result<> result = last_look(*this, request);
        if (result) result = execute(request);
        // Given back before the completion runs, so that it may submit the next one.
        lock.lock();
        --running_;
        lock.unlock();
        request.done(std::move(result));
        request = StoreRequest();  // what the completion holds ends here, without the lock
        lock.lock();
    }
}

Result<> FileStore::execute(const StoreRequest& request) {
    switch (request.operation) {
        case StoreOperation::read:
            return read(request);
        case StoreOperation::write:
            return write(request);
        case StoreOperation::flush:
            return flush();
        case StoreOperation::discard:
            return discard(request);
        case StoreOperation::write_zeroes:
            return write_zeroes(request);
    }
    return fail(Errc::invalid_argument, "disk {}: unknown operation", path_);
}

Failure FileStore::error_at(int error_number, const StoreRequest& request) const {
    return fail_errno(error_number, "disk {}: {} at {} of {} bytes", path_,
                      to_string(request.operation), request.offset_bytes, request.length_bytes);
}

bool FileStore::needs_bounce(const void* address) const {
    return options_.direct_io == DirectIo::yes &&
           reinterpret_cast<uintptr_t>(address) % alignment_bytes_ != 0;
}

Result<> FileStore::read(const StoreRequest& request) {
    AlignedBuffer bounce;
    std::byte* target = request.buffer.data();
    if (needs_bounce(target)) {
        bounce = aligned_buffer(request.buffer.size());
        target = bounce.get();
    }
    size_t done = 0;
    while (done < request.buffer.size()) {
        const ssize_t got = ::pread(fd_.get(), target + done, request.buffer.size() - done,
                                    static_cast<off_t>(request.offset_bytes + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return error_at(errno, request);
        if (got == 0) {
            return fail(Errc::io, "disk {}: ends at {}, expected {} bytes: it was made smaller",
                        path_, request.offset_bytes + done, size_bytes());
        }
        done += static_cast<size_t>(got);
    }
    if (bounce) std::memcpy(request.buffer.data(), bounce.get(), request.buffer.size());
    return {};
}

Result<> FileStore::write(const StoreRequest& request) {
    Result<> result;
    if (needs_bounce(request.buffer.data())) {
        const AlignedBuffer bounce = aligned_buffer(request.buffer.size());
        std::memcpy(bounce.get(), request.buffer.data(), request.buffer.size());
        result =
            write_bytes({bounce.get(), request.buffer.size()}, request.offset_bytes, request.fua);
    } else {
        result = write_bytes(request.buffer, request.offset_bytes, request.fua);
    }
    if (!result && result.error().code == Errc::io) {
        logger("disksync").warn("{}", result.error().to_string());
    }
    return result;
}

Result<> FileStore::write_bytes(std::span<const std::byte> bytes, uint64_t offset_bytes, Fua fua) {
    const bool cached =
        kind_ == Kind::regular_file && fua == Fua::no && options_.direct_io == DirectIo::no;
    std::unique_lock one_at_a_time(cached_write_, std::defer_lock);
    if (cached) one_at_a_time.lock();
    size_t done = 0;
    while (done < bytes.size()) {
        const iovec part{const_cast<std::byte*>(bytes.data()) + done, bytes.size() - done};
        // RWF_DSYNC makes this write durable, with its metadata, without flushing all others.
        const ssize_t put = ::pwritev2(fd_.get(), &part, 1, static_cast<off_t>(offset_bytes + done),
                                       fua == Fua::yes ? RWF_DSYNC : 0);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            const int error_number = put < 0 ? errno : EIO;
            if (fua == Fua::yes && error_number == EIO) flush_failed_ = true;
            return fail_errno(error_number, "disk {}: write at {} of {} bytes", path_, offset_bytes,
                              bytes.size());
        }
        done += static_cast<size_t>(put);
    }
    return {};
}

Result<> FileStore::write_zeroes(const StoreRequest& request) {
    const auto offset = static_cast<off_t>(request.offset_bytes);
    const auto length = static_cast<off_t>(request.length_bytes);
    const int preferred =
        request.keep_allocated == KeepAllocated::yes ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
    // Both promise zeroes, in files and on devices; not every file system has both.
    const int other =
        preferred == FALLOC_FL_PUNCH_HOLE ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
    for (const int mode : {preferred, other}) {
        if (::fallocate(fd_.get(), mode | FALLOC_FL_KEEP_SIZE, offset, length) == 0) {
            return request.fua == Fua::yes ? flush() : Result<>();
        }
        if (errno != EOPNOTSUPP && errno != EINVAL && errno != EINTR)
            return error_at(errno, request);
    }
    const uint64_t chunk = std::min(kZeroChunkBytes, request.length_bytes);
    const AlignedBuffer zeroes = aligned_buffer(chunk);
    std::memset(zeroes.get(), 0, chunk);
    for (uint64_t done = 0; done < request.length_bytes; done += chunk) {
        const uint64_t bytes = std::min(chunk, request.length_bytes - done);
        FT_TRY_VOID(write_bytes({zeroes.get(), bytes}, request.offset_bytes + done, Fua::no));
    }
    return request.fua == Fua::yes ? flush() : Result<>();
}

Result<> FileStore::discard(const StoreRequest& request) {
    if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(request.offset_bytes),
                    static_cast<off_t>(request.length_bytes)) != 0) {
        // Advisory: a store that cannot give space back has nothing to do.
        if (errno != EOPNOTSUPP && errno != EINTR && errno != EINVAL)
            return error_at(errno, request);
    }
    return request.fua == Fua::yes ? flush() : Result<>();
}

Result<> FileStore::flush() {
    if (flush_failed_) {
        return fail(Errc::io, "disk {}: an earlier flush failed, so written data may be lost",
                    path_);
    }
    if (::fdatasync(fd_.get()) == 0) return {};
    const int error_number = errno;
    flush_failed_ = true;
    Failure failure = fail_errno(error_number, "disk {}: flush", path_);
    logger("disksync").error("{}", failure.value().to_string());
    return failure;
}

Result<std::vector<StoreExtent>> FileStore::extents(uint64_t offset_bytes, uint64_t length_bytes) {
    const uint64_t size = size_bytes();
    if (offset_bytes > size || length_bytes > size - offset_bytes) {
        return fail(Errc::invalid_argument,
                    "disk {}: extents at {} of {} bytes: beyond the end, {}", path_, offset_bytes,
                    length_bytes, size);
    }
    std::vector<StoreExtent> result;
    const uint64_t end = offset_bytes + length_bytes;
    const auto append = [&](uint64_t from, uint64_t to, ExtentKind kind) {
        to = std::min(to, end);
        if (from >= to) return;
        if (!result.empty() && result.back().kind == kind) {
            result.back().length_bytes += to - from;
        } else {
            result.push_back({from, to - from, kind});
        }
    };
    if (kind_ == Kind::block_device) {
        append(offset_bytes, end, ExtentKind::data);
        return result;
    }
    uint64_t at = offset_bytes;
    while (at < end) {
        // Only absolute seeks, and I/O is by pread and pwrite: the shared file position means
        // nothing.
        const off_t data = ::lseek(fd_.get(), static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            append(at, end, ExtentKind::zero);
            break;
        }
        const off_t hole = data < 0 ? -1 : ::lseek(fd_.get(), data, SEEK_HOLE);
        if (data < 0 || hole <= data) {
            append(at, end, ExtentKind::data);
            break;
        }
        append(at, static_cast<uint64_t>(data), ExtentKind::zero);
        append(static_cast<uint64_t>(data), static_cast<uint64_t>(hole), ExtentKind::data);
        at = static_cast<uint64_t>(hole);
    }
    return result;
}

Result<uint64_t> FileStore::refresh_size() {
    FT_TRY(const uint64_t size, size_of(fd_.get(), path_, kind_ == Kind::block_device));
    const uint64_t before = size_bytes();
    if (size < before) {
        return fail(Errc::invalid_argument, "disk {}: has {} bytes, had {}: it must not shrink",
                    path_, size, before);
    }
    if (size % alignment_bytes_ != 0) {
        return fail(Errc::invalid_argument, "disk {}: its size, {} bytes, is not a multiple of {}",
                    path_, size, alignment_bytes_);
    }
    size_bytes_.store(size, std::memory_order_release);
    return size;
}

StoreStatus FileStore::status() const {
    StoreStatus status;
    if (flush_failed_) {
        status.health = StoreHealth::failed;
        status.text = "a flush failed, so written data may be lost";
    }
    const std::lock_guard lock(mutex_);
    status.requests_in_flight = static_cast<uint32_t>(queue_.size()) + running_;
    return status;
}

}  // namespace antipode::disksync
