// DiskSet: the VM's drives on this site's stores. Carries the engine's block requests to disksync
// and their completions back, stamps writes with the epoch, and fences.
//
// submit() on the vCPU thread; set_epoch() and status() on the core thread; fence() and flush()
// block and belong on the disk thread; completions come on the stores' threads. Each drive has a
// mutex, held only around LocalStore::submit, which does not block.
//
// INVARIANTS
//   - Each submitted request completes exactly once towards the engine attached at that time; an
//   engine
//     that has been detached gets nothing.
//   - After fence(e) has returned, no write of a lower epoch reaches a store, also after a restart.
//   - A write that is refused for its epoch is parked, not failed: either this site is about to
//     move to the new epoch (then it goes on), or it is fenced and its VM is being halted (then
//     nobody waits for it). So is one that comes when the core loop has stood still
//     (stall_guard.h).
//   - What waits or is parked ends with the engine that asked for it: it never reaches the disk for
//     the next one.
//   - While a range is fixed (fixed_ranges.h) no request from behind its point reaches the store.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "common/base/metrics.h"
#include "disksync/fenced_store.h"
#include "replicator/control/drill_overlay.h"
#include "replicator/control/fixed_ranges.h"
#include "replicator/control/stall_guard.h"
#include "replicator/replay/vm_engine.h"

namespace antipode::control {

struct DriveStatus {
    std::string id;
    std::string path;
    uint64_t size_bytes = 0;
    Epoch epoch;
    std::string error;  // empty: none
    uint64_t read_bytes = 0;
    uint64_t written_bytes = 0;
};

class DiskSet final : public replay::DiskPort {
  public:
    static Result<std::unique_ptr<DiskSet>> open(const std::vector<vmm::DriveConfig>& drives,
                                                 const Name& pair,
                                                 const std::string& state_directory,
                                                 boost::asio::io_context& core, Registry& metrics);
    ~DiskSet() override;

    std::vector<uint64_t> sizes() const;
    Epoch highest_epoch() const;
    // What the engine before it has asked for and no store has taken yet is forgotten.
    void attach(replay::VmEngine* engine);
    // Before the first request; it outlives this.
    void set_stall_guard(const StallGuard& guard) { stall_guard_ = &guard; }
    // What was parked is tried again: after fence(), set_epoch() by themselves, after a doubt's end
    // by its owner.
    void retry_parked();
    // Core thread. While the VM is halted, nothing that it asked for changes a disk any more,
    // neither what comes nor what waits in a store's queue: it is parked, for whoever lets the VM
    // go on.
    void hold();
    void release();
    void set_epoch(Epoch epoch);
    Result<void> fence(Epoch epoch);
    Result<void> flush();
    void close();
    std::vector<DriveStatus> status() const;

    // Seeding. Completions are posted to the core thread.
    size_t drive_count() const { return drives_.size(); }
    uint64_t size_bytes(uint32_t drive) const { return drives_[drive]->store->size_bytes(); }
    void start_tracking();
    void stop_tracking();
    // (drive, chunk) of what was written since the last call; also what is in flight, which may
    // land later.
    std::vector<std::pair<uint32_t, uint64_t>> take_written(uint64_t chunk_bytes);
    void read_chunk(uint32_t drive, uint64_t offset_bytes, uint64_t length_bytes,
                    std::function<void(Result<std::vector<std::byte>>)> done);
    void write_chunk(uint32_t drive, uint64_t offset_bytes, uint64_t length_bytes,
                     std::vector<std::byte> bytes, std::function<void(Result<void>)> done);

    // For who blocks: hands a request to the drive and waits for its end. Any thread but a store's.
    Result<void> run_now(uint32_t drive, disksync::StoreRequest&& order) {
        return run_now(*drives_[drive], std::move(order));
    }
    // Where what a seed overwrites is kept; nullopt: this drive is never written.
    std::optional<std::string> undo_path(uint32_t drive) const { return drives_[drive]->undo_path; }
    disksync::DiskId copy_id(uint32_t drive) const {
        return drives_[drive]->store->superblock().id;
    }

    // Fixing. From fix() until unfix() nothing from behind the point changes the range; `settled`
    // is posted to the core thread once everything from before it has landed. `at`: nullopt is now.
    // Errc::busy if that point is over here. Core thread, as are all of these.
    Result<FixedRanges::Fix> fix(uint32_t drive, const DiskRange& range,
                                 const std::optional<DiskPoint>& at, std::function<void()> settled);
    void unfix(uint32_t drive, uint64_t id);
    // The guest may have gone on without asking its disks for anything.
    void look_at_fixes();
    // The engine stands, and will count exits anew.
    void restart_exits();

    // The guest has requests at its disks.
    bool guest_waits() const;
    // Calls `done` on the core thread, at once or when everything that was asked of the disks
    // before has ended, whoever asked.
    void when_idle(std::function<void()> done);

    // While they are set, what a write changes is kept in its drive's overlay first. Any thread.
    void set_overlays(std::vector<std::shared_ptr<DrillOverlay>> overlays);

    void submit(vmm::BlockRequest&& request) override;
    void submit_again(vmm::BlockRequest&& request) override;

  private:
    struct Drive {
        std::string id;
        std::optional<std::string> undo_path;
        std::unique_ptr<disksync::FencedStore> store;
        mutable std::mutex mutex;
        std::deque<vmm::BlockRequest> waiting;  // the store was full
        std::deque<vmm::BlockRequest> parked;   // refused for their epoch, or in doubt of it
        std::map<uint64_t, vmm::BlockRequest> in_flight;
        FixedRanges fixes;
        std::deque<std::pair<DiskPoint, vmm::BlockRequest>> held;  // from behind a fixed range's
        bool tracking = false;
        std::set<uint64_t> written;  // chunks of kTrackBytes
        std::deque<disksync::StoreRequest> seed_waiting;
        std::vector<DiskRange> seeds_in_flight;  // no two overlap
        uint64_t next_token = 1;
        uint64_t first_token = 1;  // of the engine attached now
        std::string error;
        Counter* read_bytes = nullptr;
        Counter* written_bytes = nullptr;
    };
    static constexpr uint64_t kTrackBytes = 64 << 10;
    explicit DiskSet(boost::asio::io_context& core) : core_(core) {}
    uint64_t exit_now();
    void post_settled(Drive& drive);
    void save_before(const vmm::BlockRequest& request);
    static Result<void> run_now(Drive& drive, disksync::StoreRequest&& order);
    void track(Drive& drive, const vmm::BlockRequest& request);
    void start_seed(Drive& drive, disksync::StoreRequest&& order);
    void start_waiting_seeds(Drive& drive);
    void seed_done(Drive& drive, const DiskRange& range);
    bool idle() const;
    void tell_idle();
    void start(Drive& drive, vmm::BlockRequest&& request);
    bool may_change() const;
    void completed(Drive& drive, uint64_t token, const Result<>& result);
    void deliver(vmm::BlockRequest&& request, vmm::BlockStatus status);

    boost::asio::io_context& core_;
    std::vector<std::function<void()>> idle_waiters_;  // core thread
    std::atomic<bool> idle_awaited_{false};            // there are some
    const StallGuard* stall_guard_ = nullptr;
    std::vector<std::unique_ptr<Drive>> drives_;
    std::atomic<uint64_t> epoch_{0};
    std::atomic<bool> held_{false};
    std::mutex overlays_mutex_;
    std::vector<std::shared_ptr<DrillOverlay>> overlays_;
    std::mutex engine_mutex_;
    replay::VmEngine* engine_ = nullptr;
};

}  // namespace antipode::control
