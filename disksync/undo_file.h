// UndoFile: an UndoLog and the file that it lives in, with calls that block: for the disks of a
// protected VM and for tools. What the file looks like and what a crash leaves of it is in
// core/undo_log.h. (A replicated disk's service writes its undo file by its own thread.)
//
// INVARIANT: when save() has returned success, the old contents of these blocks are durable.
// After a failed save() the file is of no use: the caller removes it before it overwrites a block.
//
// One user at a time; the file is locked while it is in use.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/env/storage.h"
#include "disksync/core/undo_log.h"
#include "disksync/local_store.h"

namespace antipode::disksync {

// Hands a request to the disk and waits for its end.
using SubmitAndWait = std::function<Result<>(StoreRequest&& request)>;

class UndoFile {
  public:
    // Errc::already_exists; nothing half-made stays behind.
    static Result<std::unique_ptr<UndoFile>> create(const std::string& path, DiskId disk,
                                                    Generation back_to);
    // Errc::not_found, Errc::corrupt, Errc::version, Errc::busy.
    static Result<std::unique_ptr<UndoFile>> open(const std::string& path, DiskId disk);

    // What the disk, of `disk_bytes`, holds in these blocks, but for those that are kept already.
    Result<> save(std::span<const uint64_t> blocks, uint64_t disk_bytes, const SubmitAndWait& disk);
    // Reads all of it. Errc::corrupt: it is not what was written.
    Result<> check();
    // Writes every block to where it was, and flushes. Repeatable: an end in the middle leaves
    // nothing that a second time does not put right.
    Result<> put_back(uint64_t disk_bytes, Epoch epoch, const SubmitAndWait& disk);
    const UndoLog& log() const { return log_; }

  private:
    UndoFile(std::unique_ptr<env::Storage> storage, UndoLog log)
        : storage_(std::move(storage)), log_(std::move(log)) {}
    Result<> append(std::span<const UndoLog::OldBlock> blocks);

    std::unique_ptr<env::Storage> storage_;
    UndoLog log_;
};

}  // namespace antipode::disksync
