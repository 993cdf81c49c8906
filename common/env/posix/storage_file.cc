#include "common/env/posix/storage_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace antipode::env {
namespace {

std::string directory_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<> sync_directory_of(const std::string& path) {
    const std::string directory = directory_of(path);
    const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "directory {}: opening it", directory);
    if (::fsync(fd.get()) != 0) return fail_errno(errno, "directory {}: fsync", directory);
    return {};
}

Result<> give_to_owner_of_directory(int fd, const std::string& path) {
    if (::geteuid() != 0) return {};
    struct stat above {};
    if (::stat(directory_of(path).c_str(), &above) != 0) return fail_errno(errno, "{}", path);
    if (above.st_uid == 0) return {};
    if (::fchown(fd, above.st_uid, above.st_gid) != 0) {
        return fail_errno(errno, "{}: giving it to the owner of its directory", path);
    }
    return {};
}

Result<std::unique_ptr<StorageFile>> StorageFile::open(const std::string& path, Access access) {
    const int flags = O_CLOEXEC | (access == Access::read_write ? O_RDWR : O_RDONLY);
    UniqueFd fd(::open(path.c_str(), flags));
    if (!fd) return fail_errno(errno, "{}: opening it", path);
    std::unique_ptr<StorageFile> file(new StorageFile(std::move(fd), path));
    if (access == Access::read_write) FT_TRY_VOID(file->lock());
    return file;
}

Result<std::unique_ptr<StorageFile>> StorageFile::create(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_CLOEXEC | O_RDWR | O_CREAT | O_EXCL, 0640));
    if (!fd) return fail_errno(errno, "{}: creating it", path);
    std::unique_ptr<StorageFile> file(new StorageFile(std::move(fd), path));
    FT_TRY_VOID(file->lock());
    FT_TRY_VOID(give_to_owner_of_directory(file->fd_.get(), path));
    FT_TRY_VOID(sync_directory_of(path));
    return file;
}

Result<> StorageFile::lock() {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0) return {};
    if (errno == EAGAIN || errno == EACCES) {
        return fail(Errc::busy, "{}: is in use by another process (its lock is taken)", path_);
    }
    return fail_errno(errno, "{}: locking it", path_);
}

Result<> StorageFile::read(uint64_t offset_bytes, std::span<std::byte> bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t got = ::pread(fd_.get(), bytes.data() + done, bytes.size() - done,
                                    static_cast<off_t>(offset_bytes + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(errno, "{}: reading at {}", path_, offset_bytes + done);
        if (got == 0) {
            return fail(Errc::corrupt, "{}: ends at {}, expected at least {} bytes", path_,
                        offset_bytes + done, offset_bytes + bytes.size());
        }
        done += static_cast<size_t>(got);
    }
    return {};
}

Result<> StorageFile::write(uint64_t offset_bytes, std::span<const std::byte> bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t put = ::pwrite(fd_.get(), bytes.data() + done, bytes.size() - done,
                                     static_cast<off_t>(offset_bytes + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            return fail_errno(put < 0 ? errno : EIO, "{}: writing at {}", path_,
                              offset_bytes + done);
        }
        done += static_cast<size_t>(put);
    }
    return {};
}

Result<> StorageFile::sync() {
    if (sync_failed_) return fail(Errc::io, "{}: an earlier fdatasync failed", path_);
    if (::fdatasync(fd_.get()) == 0) return {};
    const int error_number = errno;
    sync_failed_ = true;
    return fail_errno(error_number, "{}: fdatasync", path_);
}

Result<uint64_t> StorageFile::size_bytes() {
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) return fail_errno(errno, "{}: fstat", path_);
    return static_cast<uint64_t>(status.st_size);
}

Result<> StorageFile::resize(uint64_t size_bytes) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) != 0) {
        return fail_errno(errno, "{}: resizing it to {} bytes", path_, size_bytes);
    }
    return {};
}

Result<> StorageFile::reserve(uint64_t size_bytes) {
    // Not posix_fallocate: where it has to help itself by writing, it writes over other writers.
    while (::fallocate(fd_.get(), 0, 0, static_cast<off_t>(size_bytes)) != 0) {
        if (errno == EINTR) continue;
        if (errno != EOPNOTSUPP) {
            return fail_errno(errno, "{}: there is no room for its {} bytes", path_, size_bytes);
        }
        FT_TRY(const uint64_t now, this->size_bytes());
        return now < size_bytes ? resize(size_bytes) : Result<>();
    }
    return {};
}

}  // namespace antipode::env
