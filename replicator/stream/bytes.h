// Bytes: bytes that somebody owns, handed on without copying. Whoever holds the last copy frees
// them, on whatever thread that is; nobody changes them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace antipode::stream {

class Bytes {
  public:
    Bytes() = default;
    Bytes(std::shared_ptr<const void> owner, std::span<const std::byte> view)
        : owner_(std::move(owner)), view_(view) {}
    static Bytes own(std::vector<std::byte>&& bytes) {
        auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
        const std::span<const std::byte> view(*owner);
        return {std::move(owner), view};
    }
    static Bytes copy(std::span<const std::byte> bytes) {
        return own(std::vector<std::byte>(bytes.begin(), bytes.end()));
    }

    std::span<const std::byte> view() const { return view_; }
    size_t size() const { return view_.size(); }
    const std::shared_ptr<const void>& owner() const { return owner_; }

  private:
    std::shared_ptr<const void> owner_;
    std::span<const std::byte> view_;
};

}  // namespace antipode::stream
