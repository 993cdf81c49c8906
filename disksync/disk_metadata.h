// DiskMetadata: a DiskRecord and the file that it lives in, `<image>.antipode`, with calls that
// block: for FencedStore, for tools and for start-up. What the file looks like and what a crash
// leaves of it is in core/disk_record.h.
//
// The file is locked while it is in use. An update is durable when update() returns success; if it
// fails, the old or the new state is on disk, and the object must not be used further.
//
// One user at a time.
#pragma once

#include <memory>
#include <string>

#include "common/env/storage.h"
#include "disksync/core/disk_record.h"

namespace antipode::disksync {

class DiskMetadata {
  public:
    // `storage` is empty.
    static Result<std::unique_ptr<DiskMetadata>> create(std::unique_ptr<env::Storage> storage,
                                                        const Superblock& first);
    static Result<std::unique_ptr<DiskMetadata>> open(std::unique_ptr<env::Storage> storage);

    const Superblock& superblock() const { return record_.superblock(); }
    // Sequence, names and id are kept, whatever `next` says. An epoch never goes back:
    // Errc::stale_epoch.
    Result<> update(const Superblock& next, DiskRecord::Order order = DiskRecord::Order::any);
    // The disk has got larger: so do the bitmap and its file, durably. What is new counts as
    // different from the peer's.
    Result<> grow(uint64_t disk_size_bytes);
    // After changes of record(): writes what it wants written.
    Result<> write();
    DiskRecord& record() { return record_; }

    const std::string& name() const { return storage_->name(); }
    // For a caller that executes the record's plans itself.
    env::Storage& storage() { return *storage_; }

  private:
    DiskMetadata(std::unique_ptr<env::Storage> storage, DiskRecord record)
        : storage_(std::move(storage)), record_(std::move(record)) {}

    std::unique_ptr<env::Storage> storage_;
    DiskRecord record_;
    bool broken_ = false;
};

// Writes all of it and syncs.
Result<> execute(env::Storage& storage, const MetaPlan& plan);

// In the file system. `image` is the path of the disk image.
std::string metadata_path_of(const std::string& image);
std::string undo_path_of(const std::string& metadata);
// Errc::not_found where there is none.
Result<std::unique_ptr<DiskMetadata>> open_metadata(const std::string& path);
Result<std::unique_ptr<DiskMetadata>> create_metadata(const std::string& path, const Name& pair,
                                                      const Name& disk, uint64_t size_bytes);
// From the kernel; never 0.
Result<uint64_t> random_id();

}  // namespace antipode::disksync
