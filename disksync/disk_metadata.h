// DiskMetadata: the durable record of one copy of a disk: its superblock, in the side file
// `<image>.antipode`. Crash-safe: an update is either there or not.
//
// Life of the file: created with both slots written and synced; locked while in use. An update goes
// to the slot that does not hold the newest valid superblock, with the next sequence number, and is
// synced before update() returns. If you see
//   two valid slots   the one with the higher sequence counts
//   one valid slot    the other was torn in an update that never returned, or rotted: the valid one
//   counts none              corrupt: refused; forgetting an epoch could make two VMs write
//
// Blocks. One user at a time; the core loop's disk thread or a tool.
#pragma once

#include <memory>
#include <string>

#include "common/env/storage.h"
#include "disksync/core/superblock.h"

namespace antipode::disksync {

class DiskMetadata {
  public:
    // What create() writes, apart from the random ids, which the caller brings.
    struct Identity {
        Name pair;
        Name disk;
        uint64_t size_bytes = 0;
        DiskId id;
    };

    // `storage` is empty: both slots are written and synced.
    static Result<std::unique_ptr<DiskMetadata>> create(std::unique_ptr<env::Storage> storage,
                                                        const Identity& identity);
    static Result<std::unique_ptr<DiskMetadata>> open(std::unique_ptr<env::Storage> storage);

    const Superblock& superblock() const { return superblock_; }
    // Durable when it returns success. On failure the old or the new one is on disk; the object
    // must not be used any further than to be destroyed. Sequence, names, id are kept, whatever
    // `next` says. An epoch never goes back: Errc::stale_epoch.
    Result<> update(Superblock next);

    const std::string& name() const { return storage_->name(); }

  private:
    explicit DiskMetadata(std::unique_ptr<env::Storage> storage) : storage_(std::move(storage)) {}
    Result<> write_slot(unsigned slot, const Superblock& superblock);

    std::unique_ptr<env::Storage> storage_;
    Superblock superblock_;
    unsigned newest_slot_ = 0;
    bool broken_ = false;
};

// In the file system. `image` is the path of the disk image.
std::string metadata_path_of(const std::string& image);
// Errc::not_found where there is none.
Result<std::unique_ptr<DiskMetadata>> open_metadata(const std::string& path);
Result<std::unique_ptr<DiskMetadata>> create_metadata(const std::string& path, const Name& pair,
                                                      const Name& disk, uint64_t size_bytes);
// From the kernel; never 0.
Result<uint64_t> random_id();

}  // namespace antipode::disksync
