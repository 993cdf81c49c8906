// ByteSource: takes an input of a fuzzer apart. Behind the end everything is zero.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace antipode::fuzz {

class ByteSource {
  public:
    ByteSource(const uint8_t* data, size_t size)
        : rest_(reinterpret_cast<const std::byte*>(data), size) {}

    bool empty() const { return rest_.empty(); }
    template <typename T>
    T take() {
        uint64_t value = 0;
        for (size_t i = 0; i < sizeof(T) && !rest_.empty(); ++i) {
            value |= static_cast<uint64_t>(rest_.front()) << (8 * i);
            rest_ = rest_.subspan(1);
        }
        return static_cast<T>(value);
    }
    // In [0, bound), from one byte; bound <= 256.
    size_t below(size_t bound) { return take<uint8_t>() % bound; }
    std::span<const std::byte> bytes(size_t count) {
        const auto part = rest_.first(std::min(count, rest_.size()));
        rest_ = rest_.subspan(part.size());
        return part;
    }
    std::span<const std::byte> rest() const { return rest_; }

  private:
    std::span<const std::byte> rest_;
};

}  // namespace antipode::fuzz
