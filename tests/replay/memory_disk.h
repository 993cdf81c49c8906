// A disk in memory behind DiskPort: requests are executed by one thread after a random short time,
// in an order that differs from run to run, as real disks do. For tests.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "common/base/random.h"
#include "replicator/replay/engine.h"

namespace antipode::replay {

class MemoryDisk final : public DiskPort {
  public:
    MemoryDisk(size_t bytes, uint64_t seed);
    ~MemoryDisk() override;

    // Where completions go. Before the engine starts.
    void attach(VmEngine& engine) { engine_ = &engine; }
    void submit(vmm::BlockRequest&& request) override;
    // The next `count` requests that this returns true for fail with an I/O error.
    void fail_next(size_t count, vmm::BlockOperation operation);
    // While it is held nothing is executed.
    void hold(bool held);
    std::vector<std::byte> contents();
    void set_contents(std::vector<std::byte> bytes);
    // Nothing is waiting or being done.
    bool idle();
    // Finishes what was submitted and stops; later requests are ignored.
    void stop();

  private:
    void main();
    vmm::BlockStatus execute(vmm::BlockRequest& request);

    VmEngine* engine_ = nullptr;
    Random random_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::byte> bytes_;
    std::deque<vmm::BlockRequest> waiting_;
    size_t fail_count_ = 0;
    vmm::BlockOperation fail_operation_ = vmm::BlockOperation::read;
    bool stopping_ = false;
    bool held_ = false;
    bool busy_ = false;
    std::thread thread_;
};

}  // namespace antipode::replay
