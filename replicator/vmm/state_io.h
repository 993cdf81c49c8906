// StateWriter and StateReader: how a device puts its state into bytes and back, for digests,
// snapshots and deltas. Little endian, no padding, no tags: the order of calls is the format, and a
// snapshot section carries a version (docs/PROTOCOL-snapshot.md). Equal states give equal bytes.
//
// A reader never reads past its end, and whoever loads rejects a value that save() could not have
// made, so that what was loaded saves to the same bytes again. Either turns the reader bad: it
// returns zeros from then on, and the caller asks ok() once.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace antipode::vmm {

class StateWriter {
  public:
    template <typename T>
    requires std::integral<T> || std::is_enum_v<T>
    void put(T value) {
        auto raw = static_cast<uint64_t>(value);
        std::array<std::byte, sizeof(T)> bytes;
        for (std::byte& each : bytes) {
            each = static_cast<std::byte>(raw & 0xff);
            raw >>= 8;
        }
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    }
    void put_bytes(std::span<const std::byte> data) {
        put<uint32_t>(static_cast<uint32_t>(data.size()));
        bytes_.insert(bytes_.end(), data.begin(), data.end());
    }
    // Bytes whose number is always the same.
    void put_fixed(std::span<const uint8_t> data) {
        const auto raw = std::as_bytes(data);
        bytes_.insert(bytes_.end(), raw.begin(), raw.end());
    }
    std::span<const std::byte> bytes() const { return bytes_; }
    std::vector<std::byte> take() { return std::move(bytes_); }
    void clear() { bytes_.clear(); }

  private:
    std::vector<std::byte> bytes_;
};

class StateReader {
  public:
    explicit StateReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    template <typename T>
    requires std::integral<T> || std::is_enum_v<T>
    void get(T& value) {
        uint64_t raw = 0;
        if (bytes_.size() < sizeof(T)) {
            reject("is cut off");
        } else {
            for (size_t i = 0; i < sizeof(T); ++i) {
                raw |= static_cast<uint64_t>(bytes_[i]) << (8 * i);
            }
            bytes_ = bytes_.subspan(sizeof(T));
        }
        value = static_cast<T>(raw);
    }
    template <typename T>
    T get() {
        T value{};
        get(value);
        return value;
    }
    std::vector<std::byte> get_bytes(size_t bytes_max) {
        const auto size = get<uint32_t>();
        if (size > bytes_max) reject("has more bytes in one place than can be");
        if (size > bytes_.size()) reject("is cut off");
        if (!ok_) return {};
        std::vector<std::byte> out(bytes_.begin(), bytes_.begin() + size);
        bytes_ = bytes_.subspan(size);
        return out;
    }
    // A flag is 0 or 1; an enumeration counts from 0 to its last.
    bool get_flag() { return get_at_most<uint8_t>(1, "has a flag that is neither 0 nor 1") != 0; }
    template <typename T>
    T get_at_most(T last, const char* rule) {
        T value = get<T>();
        if (value > last) {
            reject(rule);
            value = T{};
        }
        return value;
    }
    void reject(const char* rule) {
        if (ok_) problem_ = rule;
        ok_ = false;
        bytes_ = {};
    }
    bool ok() const { return ok_; }
    const char* problem() const { return problem_; }
    bool at_end() const { return bytes_.empty(); }

  private:
    std::span<const std::byte> bytes_;
    bool ok_ = true;
    const char* problem_ = "";
};

// The whole state of a thing that has save().
template <typename Thing>
std::vector<std::byte> saved(const Thing& thing) {
    StateWriter out;
    thing.save(out);
    return out.take();
}

}  // namespace antipode::vmm
