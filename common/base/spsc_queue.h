// SpscQueue<T>: a bounded queue between exactly one producer thread and one consumer thread,
// without locks, without allocation after construction. A full queue is the producer's to decide
// about: push() returns false and the value is untouched; nothing is dropped here.
//
// INVARIANTS: tail_ - head_ <= capacity; only the producer writes tail_, only the consumer head_.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace antipode {

template <typename T>
class SpscQueue {
  public:
    // Capacity is rounded up to a power of two.
    explicit SpscQueue(size_t capacity) : slots_(std::bit_ceil(capacity)) {}
    SpscQueue(const SpscQueue&) = delete;
    SpscQueue& operator=(const SpscQueue&) = delete;

    // Producer only. Moves from `value` only on success.
    bool push(T&& value) {
        const size_t tail = tail_.load(std::memory_order_relaxed);
        if (tail - head_cache_ == slots_.size()) {
            head_cache_ = head_.load(std::memory_order_acquire);
            if (tail - head_cache_ == slots_.size()) return false;
        }
        slots_[tail & (slots_.size() - 1)].emplace(std::move(value));
        tail_.store(tail + 1, std::memory_order_release);
        return true;
    }

    // Consumer only.
    std::optional<T> pop() {
        const size_t head = head_.load(std::memory_order_relaxed);
        if (head == tail_cache_) {
            tail_cache_ = tail_.load(std::memory_order_acquire);
            if (head == tail_cache_) return std::nullopt;
        }
        auto& slot = slots_[head & (slots_.size() - 1)];
        std::optional<T> value = std::move(slot);
        slot.reset();
        head_.store(head + 1, std::memory_order_release);
        return value;
    }

    // Either side; exact for neither while the other works.
    size_t count() const {
        return tail_.load(std::memory_order_acquire) - head_.load(std::memory_order_acquire);
    }
    bool empty() const { return count() == 0; }
    size_t capacity() const { return slots_.size(); }

  private:
    static constexpr size_t kCacheLineBytes = 64;
    alignas(kCacheLineBytes) std::atomic<size_t> head_{0};
    size_t tail_cache_ = 0;  // the consumer's last look at tail_
    alignas(kCacheLineBytes) std::atomic<size_t> tail_{0};
    size_t head_cache_ = 0;  // the producer's last look at head_
    alignas(kCacheLineBytes) std::vector<std::optional<T>> slots_;
};

}  // namespace antipode
