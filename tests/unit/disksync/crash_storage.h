// CrashDisk: a simulated small disk for Storage: it counts operations, stops at a chosen one, and
// at a power cycle keeps of what was not synced any part, sector by sector, in any order: old, new,
// or (at most once a cycle, by chance) a sector torn into noise.
//
// One thread. Same seed, same behaviour.
#pragma once

#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/env/storage.h"

namespace antipode::disksync {

class CrashDisk {
  public:
    explicit CrashDisk(uint64_t seed) : random_(seed) {}

    // A Storage over this disk, as a process would open it. The disk outlives it.
    std::unique_ptr<env::Storage> attach() { return std::make_unique<Attached>(*this, life_); }
    // The next `operations` writes and syncs succeed; then the machine is dead until power_cycle().
    void crash_after(uint64_t operations) { operations_left_ = operations; }
    void never_crash() { operations_left_ = std::numeric_limits<uint64_t>::max(); }
    bool dead() const { return dead_; }
    uint64_t operations() const { return operations_; }
    // Everything that was attached before is gone.
    void power_cycle() {
        for (const auto& [sector, versions] : unsynced_) {
            const uint64_t choice = random_.below(versions.size());
            place(sector, versions[choice]);
        }
        if (torn_sectors_ && !unsynced_.empty() && random_.chance(0.3)) {
            auto entry = unsynced_.begin();
            std::advance(entry, static_cast<ptrdiff_t>(random_.below(unsynced_.size())));
            std::vector<std::byte> noise(kSector);
            for (auto& byte : noise) byte = static_cast<std::byte>(random_.next());
            place(entry->first, noise);
        }
        unsynced_.clear();
        ++life_;
        dead_ = false;
        never_crash();
    }
    // The process is gone, the machine lives on: everything written is still there.
    void process_killed() {
        ++life_;
        dead_ = false;
        never_crash();
    }
    // Whether a sector whose write was cut off may hold noise. On by default.
    void set_torn_sectors(bool torn) { torn_sectors_ = torn; }
    std::vector<std::byte>& bytes() { return bytes_; }

  private:
    static constexpr uint64_t kSector = env::Storage::kSectorBytes;

    class Attached final : public env::Storage {
      public:
        Attached(CrashDisk& disk, uint64_t life) : disk_(disk), life_(life) {}
        Result<> read(uint64_t offset, std::span<std::byte> bytes) override {
            FT_TRY_VOID(alive());
            if (offset + bytes.size() > disk_.bytes_.size()) {
                return fail(Errc::corrupt, "simulated disk: ends at {}", disk_.bytes_.size());
            }
            std::memcpy(bytes.data(), disk_.bytes_.data() + offset, bytes.size());
            return {};
        }
        Result<> write(uint64_t offset, std::span<const std::byte> bytes) override {
            FT_TRY_VOID(alive());
            const bool dies = disk_.count_down();
            disk_.put(offset, bytes);
            return dies ? Result<>(fail(Errc::io, "simulated disk: crashed")) : Result<>();
        }
        Result<> sync() override {
            FT_TRY_VOID(alive());
            if (disk_.count_down()) return fail(Errc::io, "simulated disk: crashed");
            disk_.unsynced_.clear();
            return {};
        }
        Result<uint64_t> size_bytes() override { return disk_.bytes_.size(); }
        Result<> resize(uint64_t size) override {
            FT_TRY_VOID(alive());
            disk_.bytes_.resize(size);
            return {};
        }
        Result<> reserve(uint64_t size) override {
            FT_TRY_VOID(alive());
            disk_.bytes_.resize(std::max<uint64_t>(size, disk_.bytes_.size()));
            return {};
        }
        const std::string& name() const override { return name_; }

      private:
        Result<> alive() const {
            if (disk_.dead_ || disk_.life_ != life_) {
                return fail(Errc::io, "simulated disk: its machine is dead");
            }
            return {};
        }
        CrashDisk& disk_;
        uint64_t life_;
        std::string name_ = "simulated";
    };

    // True: this operation is the one that is cut off.
    bool count_down() {
        ++operations_;
        if (operations_left_ == 0) {
            dead_ = true;
            return true;
        }
        --operations_left_;
        return false;
    }
    void put(uint64_t offset, std::span<const std::byte> bytes) {
        if (offset + bytes.size() > bytes_.size()) {
            bytes_.resize((offset + bytes.size() + kSector - 1) / kSector * kSector);
        }
        const uint64_t first = offset / kSector;
        const uint64_t last = (offset + bytes.size() - 1) / kSector;
        for (uint64_t sector = first; sector <= last; ++sector) remember(sector);
        std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
        for (uint64_t sector = first; sector <= last; ++sector) remember(sector);
    }
    void remember(uint64_t sector) {
        const auto* from = bytes_.data() + sector * kSector;
        const size_t length = std::min<size_t>(kSector, bytes_.size() - sector * kSector);
        unsynced_[sector].emplace_back(from, from + length);
    }
    void place(uint64_t sector, const std::vector<std::byte>& content) {
        std::memcpy(bytes_.data() + sector * kSector, content.data(),
                    std::min<size_t>(content.size(), bytes_.size() - sector * kSector));
    }

    Random random_;
    std::vector<std::byte> bytes_;
    std::map<uint64_t, std::vector<std::vector<std::byte>>> unsynced_;  // versions, oldest first
    uint64_t operations_ = 0;
    uint64_t operations_left_ = std::numeric_limits<uint64_t>::max();
    uint64_t life_ = 0;
    bool dead_ = false;
    bool torn_sectors_ = true;
};

}  // namespace antipode::disksync
