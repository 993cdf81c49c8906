#include "tests/replay/memory_disk.h"

#include <algorithm>
#include <chrono>

namespace antipode::replay {
namespace {

constexpr uint64_t kDelayMicrosecondsMax = 400;

}  // namespace

MemoryDisk::MemoryDisk(size_t bytes, uint64_t seed)
    : random_(seed), bytes_(bytes), thread_([this] { main(); }) {}

MemoryDisk::~MemoryDisk() {
    stop();
}

void MemoryDisk::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void MemoryDisk::submit(vmm::BlockRequest&& request) {
    {
        const std::lock_guard lock(mutex_);
        waiting_.push_back(std::move(request));
    }
    changed_.notify_all();
}

void MemoryDisk::hold(bool held) {
    {
        const std::lock_guard lock(mutex_);
        held_ = held;
    }
    changed_.notify_all();
}

bool MemoryDisk::idle() {
    const std::lock_guard lock(mutex_);
    return waiting_.empty() && !busy_;
}

void MemoryDisk::fail_next(size_t count, vmm::BlockOperation operation) {
    const std::lock_guard lock(mutex_);
    fail_count_ = count;
    fail_operation_ = operation;
}

std::vector<std::byte> MemoryDisk::contents() {
    const std::lock_guard lock(mutex_);
    return bytes_;
}

void MemoryDisk::set_contents(std::vector<std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    bytes_ = std::move(bytes);
}

vmm::BlockStatus MemoryDisk::execute(vmm::BlockRequest& request) {
    if (fail_count_ > 0 && request.operation == fail_operation_) {
        --fail_count_;
        return vmm::BlockStatus::io_error;
    }
    const auto at = bytes_.begin() + static_cast<ptrdiff_t>(request.offset_bytes);
    const auto length = static_cast<ptrdiff_t>(request.length_bytes);
    switch (request.operation) {
        case vmm::BlockOperation::read:
            request.data.assign(at, at + length);
            break;
        case vmm::BlockOperation::write:
            std::copy(request.data.begin(), request.data.end(), at);
            break;
        case vmm::BlockOperation::discard:
        case vmm::BlockOperation::write_zeroes:
            std::fill(at, at + length, std::byte{0});
            break;
        case vmm::BlockOperation::flush:
            break;
    }
    return vmm::BlockStatus::ok;
}

void MemoryDisk::main() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return stopping_ || (!waiting_.empty() && !held_); });
        if (waiting_.empty()) return;
        const size_t pick = random_.below(waiting_.size());
        vmm::BlockRequest request = std::move(waiting_[pick]);
        waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(pick));
        const auto delay = std::chrono::microseconds(random_.below(kDelayMicrosecondsMax));
        const auto status = execute(request);
        busy_ = true;
        lock.unlock();
        std::this_thread::sleep_for(delay);  // the disk's time, not a wait for anything
        engine_->block_done(request.device, request.number, status, std::move(request.data));
        lock.lock();
        busy_ = false;
    }
}

}  // namespace antipode::replay
