// SeedUndo: what a seed overwrites on this site's disks, so that they can go back to what they held
// before, should the site that sends be lost in the middle.
//
//   the state is about to say `joining`   begin()      an empty undo file for each drive
//   a chunk has come                      save_then()  what it will overwrite is kept, durably
//   the copy is whole, and flushed        forget()     it counts from here on
//   this site goes live (by a force)      put_back()   the VM boots from what was here before
//
// A seed that goes on after a broken one goes on with the same files: what is kept is what was here
// before the first of them. It counts (counts()) if every drive that can be written has a file, all
// of one beginning: so the end of the process in the middle of begin() or forget() leaves nothing
// that counts, and then the disks hold the old copy whole, or the new one.
//
// What is kept is worth less than the seed: when there is no room for it, or it grows beyond its
// limit, or an old block cannot be read, it is given up, and the seed goes on as without it. Only
// if even that fails (a file that cannot be removed would count later) does save_then() fail. One
// that turns out to be damaged is not put back: the VM boots from what the seed has left.
//
// Threads: load(), begin(), put_back() and forget() block, one at a time, on the disk thread or
// before there is one; save_then() on the core thread, where `saved` and the hooks are called;
// counts() and status() any thread.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "disksync/undo_file.h"
#include "replicator/control/disk_set.h"
#include "replicator/control/seed_frames.h"

namespace antipode::control {

class SeedUndo {
  public:
    static constexpr size_t kBatchChunks = 64;

    struct Hooks {
        std::function<void(const std::string& why)> on_given_up;
        std::function<void(Epoch back_to, uint64_t blocks)> on_put_back;
    };
    struct Status {
        Epoch back_to;  // the newest that the old copy had a part in
        uint64_t blocks = 0;
        uint64_t bytes = 0;  // of all files
    };

    // `bytes_max`: of all drives together; 0: nothing is kept.
    SeedUndo(DiskSet& disks, boost::asio::io_context& core, boost::asio::thread_pool& work,
             uint64_t bytes_max, Hooks hooks);
    ~SeedUndo() { *alive_ = false; }

    // At the start. What does not count is removed.
    Result<void> load();
    // Afterwards it counts, unless it was given up; one that counts already is left as it is.
    Result<void> begin(Epoch back_to);
    Result<void> put_back(Epoch epoch);
    Result<void> forget();
    void save_then(const DriveChunk& chunk, std::function<void(Result<void>)> saved);

    bool counts() const { return state_.load(std::memory_order_acquire) == State::counts; }
    Status status() const;

  private:
    enum class State : uint8_t {
        none = 1,
        counts,
        in_the_way,  // it could not be removed, and nothing may be overwritten before it is
    };
    // Of each drive that can be written.
    struct Place {
        uint32_t drive = 0;
        std::string path;
    };
    struct File {
        uint32_t drive = 0;
        std::unique_ptr<disksync::UndoFile> undo;
    };
    struct Wanted {
        DriveChunk chunk;
        std::function<void(Result<void>)> saved;
    };
    disksync::SubmitAndWait disk(uint32_t drive);
    Result<void> create(Epoch back_to);
    Result<void> save(const std::vector<Wanted>& batch);
    Result<void> give_up(const std::string& why);
    void save_next();
    void count_up();

    DiskSet& disks_;
    boost::asio::io_context& core_;
    boost::asio::thread_pool& work_;
    const uint64_t bytes_max_;
    const Hooks hooks_;
    std::vector<Place> places_;
    std::vector<File> files_;  // disk thread
    std::atomic<State> state_{State::none};
    mutable std::mutex status_mutex_;
    Status status_;
    std::deque<Wanted> wanted_;  // core thread, as are these
    bool saving_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace antipode::control
