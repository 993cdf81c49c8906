#include "disksync/disk_metadata.h"

#include <cerrno>
#include <sys/random.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/env/posix/storage_file.h"

namespace antipode::disksync {

Result<> execute(env::Storage& storage, const MetaPlan& plan) {
    for (const MetaWrite& write : plan.writes) {
        FT_TRY_VOID(storage.write(write.offset_bytes, write.bytes));
    }
    return storage.sync();
}

Result<std::unique_ptr<DiskMetadata>> DiskMetadata::create(std::unique_ptr<env::Storage> storage,
                                                           const Superblock& first) {
    // It often stands beside a sparse image: what fills the file system must not end the metadata.
    FT_TRY_VOID(storage->reserve(DiskRecord::file_bytes(first.size_bytes)));
    std::unique_ptr<DiskMetadata> metadata(
        new DiskMetadata(std::move(storage), DiskRecord::create(first)));
    FT_TRY_VOID(metadata->write());
    return metadata;
}

Result<std::unique_ptr<DiskMetadata>> DiskMetadata::open(std::unique_ptr<env::Storage> storage) {
    FT_TRY(DiskRecord record, DiskRecord::load(*storage));
    return std::unique_ptr<DiskMetadata>(new DiskMetadata(std::move(storage), std::move(record)));
}

Result<> DiskMetadata::write() {
    if (broken_) return fail(Errc::io, "metadata {}: an earlier update failed", name());
    while (const auto plan = record_.next_plan()) {
        if (auto executed = execute(*storage_, *plan); !executed) {
            broken_ = true;
            return executed;
        }
        record_.done();
    }
    return {};
}

Result<> DiskMetadata::update(const Superblock& next, DiskRecord::Order order) {
    if (next.epoch < superblock().epoch) {
        return fail(Errc::stale_epoch, "metadata {}: epoch {} after {}", name(), next.epoch,
                    superblock().epoch);
    }
    if (broken_) return fail(Errc::io, "metadata {}: an earlier update failed", name());
    record_.change(next, order);
    return write();
}

Result<> DiskMetadata::grow(uint64_t disk_size_bytes) {
    Superblock next = superblock();
    FT_CHECK(disk_size_bytes >= next.size_bytes, "{} bytes after {}", disk_size_bytes,
             next.size_bytes);
    FT_TRY_VOID(storage_->reserve(DiskRecord::file_bytes(disk_size_bytes)));
    record_.grow(disk_size_bytes);
    next.size_bytes = disk_size_bytes;
    return update(next, DiskRecord::Order::after_bitmap);
}

std::string metadata_path_of(const std::string& image) {
    return image + ".antipode";
}

std::string undo_path_of(const std::string& metadata) {
    return metadata + ".undo";
}

Result<std::unique_ptr<DiskMetadata>> open_metadata(const std::string& path) {
    FT_TRY(std::unique_ptr<env::Storage> file, env::StorageFile::open(path));
    return DiskMetadata::open(std::move(file));
}

Result<std::unique_ptr<DiskMetadata>> create_metadata(const std::string& path, const Name& pair,
                                                      const Name& disk, uint64_t size_bytes) {
    FT_TRY(const uint64_t id, random_id());
    FT_TRY(std::unique_ptr<env::Storage> file, env::StorageFile::create(path));
    Superblock first;
    first.pair = pair;
    first.disk = disk;
    first.size_bytes = size_bytes;
    first.id = DiskId(id);
    auto created = DiskMetadata::create(std::move(file), first);
    // Nothing half-made stays behind; if the process dies first, open() refuses what is there.
    if (!created) ::unlink(path.c_str());
    return created;
}

Result<uint64_t> random_id() {
    uint64_t id = 0;
    while (id == 0) {
        const ssize_t got = ::getrandom(&id, sizeof(id), 0);
        if (got != sizeof(id) && !(got < 0 && errno == EINTR)) {
            return fail_errno(errno, "getrandom");
        }
    }
    return id;
}

}  // namespace antipode::disksync
