// EngineInbox: what other threads hand to the thread that runs a VM, in either way of protection.
//
// Threads: push_frame() by one thread, push_entry() by one thread, the other pushes by any; take(),
// drop_frame() and the queues' pop() by the VM's own thread. Each push wakes it.
//
// INVARIANTS: everything but finished disk requests is bounded, and of those there are no more than
// the guest has requests. A push that finds no room returns false and nothing of it is kept; of
// frames, that is counted.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/metrics.h"
#include "common/base/spsc_queue.h"
#include "replicator/replay/log_entry.h"
#include "replicator/replay/wakeup.h"

namespace antipode::replay {

// A request of DiskPort::submit that has ended.
struct BlockCompletion {
    uint32_t drive;
    uint64_t number;
    vmm::BlockStatus status;
    std::vector<std::byte> data;
};

struct PendingFrame {
    uint32_t interface;
    std::vector<std::byte> bytes;
};

struct IndexedEntry {
    LogIndex index;
    LogEntry entry;
};

class EngineInbox {
  public:
    struct Items {
        std::vector<BlockCompletion> blocks;
        std::vector<std::vector<std::byte>> consoles;
        std::vector<VmControl::Kind> controls;
    };

    EngineInbox(Wakeup& wakeup, size_t frames_max, size_t entries_max, Registry& metrics)
        : frames(frames_max),
          entries(entries_max),
          wakeup_(wakeup),
          frames_dropped_total_(metrics.counter("antipode_frames_dropped_total",
                                                "Received frames dropped before the guest")) {}

    bool push_frame(uint32_t interface, std::vector<std::byte> bytes) {
        if (!frames.push({interface, std::move(bytes)})) {
            drop_frame();
            return false;
        }
        wakeup_.wake();
        return true;
    }
    bool push_entry(LogIndex index, LogEntry entry) {
        if (!entries.push({index, std::move(entry)})) return false;
        wakeup_.wake();
        return true;
    }
    bool push_console(std::vector<std::byte> bytes) {
        return push(items_.consoles, std::move(bytes), kConsolesMax);
    }
    bool push_control(VmControl::Kind kind) { return push(items_.controls, kind, kControlsMax); }
    void push_block(BlockCompletion done) { (void)push(items_.blocks, std::move(done), SIZE_MAX); }

    // Whether take() has something to give.
    bool any() const { return any_.load(std::memory_order_acquire); }
    // What has come since the last call, each kind in order.
    Items take() {
        Items taken;
        if (!any()) return taken;
        const std::lock_guard lock(mutex_);
        std::swap(taken, items_);
        any_.store(false, std::memory_order_relaxed);
        return taken;
    }
    // One that the guest does not get: counted.
    void drop_frame() { frames_dropped_total_.add(); }

    SpscQueue<PendingFrame> frames;
    SpscQueue<IndexedEntry> entries;

  private:
    static constexpr size_t kConsolesMax = 64;
    static constexpr size_t kControlsMax = 16;

    template <typename T>
    bool push(std::vector<T>& list, T value, size_t count_max) {
        {
            const std::lock_guard lock(mutex_);
            if (list.size() >= count_max) return false;
            list.push_back(std::move(value));
            any_.store(true, std::memory_order_release);
        }
        wakeup_.wake();
        return true;
    }

    Wakeup& wakeup_;
    std::mutex mutex_;
    Items items_;
    std::atomic<bool> any_{false};
    Counter& frames_dropped_total_;
};

}  // namespace antipode::replay
