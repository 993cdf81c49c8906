// SideFiles: the metadata file and the undo file of one disk, and the thread that writes them.
//
// submit() from one thread; work is done in order, each: all writes and one sync, or a read of the
// undo file, then the completion, on this thread. INVARIANT: the metadata file is locked as long as
// this lives.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/env/posix/storage_file.h"
#include "disksync/core/node_types.h"

namespace antipode::disksync {

// An undo file that was put aside: what the loser of a split brain had.
struct KeptUndo {
    std::string path;
    int64_t seconds = 0;  // when; since 1970
    uint64_t bytes = 0;
};

class SideFiles {
  public:
    SideFiles(std::unique_ptr<env::Storage> metadata, std::string undo_path);
    ~SideFiles();  // finishes what was submitted

    // `keep`: an undo file that is to be removed is put aside under a name with the time instead.
    enum class Removal : uint8_t { remove = 1, keep = 2 };
    void submit(FileIo io, Removal removal, std::function<void(Result<>)> done);
    // For work that blocks and belongs to this disk.
    void run(std::function<void()> task);

    env::Storage& metadata() { return *metadata_; }
    // Errc::not_found.
    Result<> open_undo();
    env::Storage& undo() { return *undo_; }
    // Those that were there at the start, and those since; without what has been removed.
    std::vector<KeptUndo> kept_undo() const;

  private:
    void main();
    Result<> execute(const FileIo& io, Removal removal);
    Result<> remove_undo(Removal removal);
    void find_kept();

    const std::unique_ptr<env::Storage> metadata_;
    const std::string undo_path_;
    std::unique_ptr<env::Storage> undo_;
    mutable std::mutex mutex_;
    std::map<int64_t, std::string> kept_;  // by time
    std::condition_variable changed_;
    std::deque<std::function<void()>> queue_;
    bool closing_ = false;
    std::thread thread_;
};

}  // namespace antipode::disksync
