// MemoryStorage: a small file in memory, for readers of durable state.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "common/env/storage.h"

namespace antipode::fuzz {

class MemoryStorage final : public env::Storage {
  public:
    MemoryStorage() = default;
    explicit MemoryStorage(std::span<const std::byte> bytes) : bytes_(bytes.begin(), bytes.end()) {}

    Result<> read(uint64_t offset, std::span<std::byte> bytes) override {
        if (offset > bytes_.size() || bytes.size() > bytes_.size() - offset) {
            return fail(Errc::corrupt, "memory: ends at {}", bytes_.size());
        }
        if (!bytes.empty()) std::memcpy(bytes.data(), bytes_.data() + offset, bytes.size());
        return {};
    }
    Result<> write(uint64_t offset, std::span<const std::byte> bytes) override {
        if (offset + bytes.size() > bytes_.size()) bytes_.resize(offset + bytes.size());
        if (!bytes.empty()) std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
        return {};
    }
    Result<> sync() override { return {}; }
    Result<uint64_t> size_bytes() override { return bytes_.size(); }
    Result<> resize(uint64_t size) override {
        bytes_.resize(size);
        return {};
    }
    Result<> reserve(uint64_t size) override {
        if (size > bytes_.size()) bytes_.resize(size);
        return {};
    }
    const std::string& name() const override { return name_; }
    std::vector<std::byte>& bytes() { return bytes_; }

  private:
    std::vector<std::byte> bytes_;
    std::string name_ = "memory";
};

}  // namespace antipode::fuzz
