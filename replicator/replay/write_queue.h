// WriteQueue: disk writes that a backup which does not execute carries out on its own disk, because
// its log says so.
//
// Pure but for DiskPort; the engine's thread.
//
// INVARIANTS
//   - Writes that overlap reach the disk in the order in which they were added, one after the
//     other: at the primary the first had ended before the guest asked for the second. A flush
//     comes behind all that was added before it on its drive.
//   - A write that fails is tried again until it is done: it did not fail at the primary, or the
//     guest would have seen it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "common/base/clock.h"
#include "replicator/replay/engine_inbox.h"
#include "replicator/replay/ports.h"

namespace antipode::replay {

class WriteQueue {
  public:
    explicit WriteQueue(DiskPort& disk) : disk_(disk) {}

    void add(vmm::BlockRequest request);
    // One that is with the disk already: what is added waits for it. Of a read the end is all that
    // matters.
    void expect(vmm::BlockRequest request);
    // What may go, goes: after add(), ended(), and when next_retry() has come.
    void start(Instant now);
    enum class End : uint8_t {
        other,  // not one of these
        done,
        failed,  // it is tried again
    };
    End ended(BlockCompletion done, Instant now);

    bool pending() const { return !waiting_.empty() || !executing_.empty(); }
    uint64_t waiting_bytes() const { return waiting_bytes_; }
    std::optional<Instant> next_retry() const;
    // Nobody waits for any of them any more.
    void forget();

  private:
    using Key = std::pair<uint32_t, uint64_t>;
    struct Failed {
        Instant again;
        vmm::BlockRequest request;
    };
    bool conflicts(const vmm::BlockRequest& request) const;

    DiskPort& disk_;
    std::deque<vmm::BlockRequest> waiting_;
    uint64_t waiting_bytes_ = 0;
    std::map<Key, vmm::BlockRequest> executing_;  // without data, which is with the disk
    std::deque<Failed> failed_;
};

}  // namespace antipode::replay
