// SimDisk: a disk's store under virtual time. Every sector holds one 64-bit number (0 = zeroes),
// repeated; so a disk of any size is a small map, and a sector that mixes two writes is seen at
// once.
//
// A write reaches the cache when it completes; a flush makes durable what had completed when it was
// submitted. A killed process leaves the cache as it is, and of writes under way any sectors; a
// power failure takes, of what was not flushed, any sectors away.
//
// One thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/random.h"
#include "disksync/core/node_types.h"

namespace antipode::disksync {

using Stamp = uint64_t;
constexpr uint64_t kSimSectorBytes = 512;

void fill(std::span<std::byte> sector, Stamp stamp);
// Fails the test if the sector is not uniform.
Stamp stamp_of(std::span<const std::byte> sector);

class SimDisk {
  public:
    using Sectors = std::unordered_map<uint64_t, Stamp>;

    SimDisk(uint64_t size_bytes, Random& random) : size_bytes_(size_bytes), random_(random) {}

    // Between submit() and complete() a crash may come.
    void submit(const LocalIo& io);
    // Executes it; a read fills io.data.
    LocalDone complete(LocalIo& io);
    void kill();
    void power_failure();
    // The next operation of this kind fails.
    void fail_next(StoreOperation operation, Errc code) { failing_[operation] = code; }

    Stamp at(uint64_t sector) const {
        const auto found = cache_.find(sector);
        return found == cache_.end() ? 0 : found->second;
    }
    void set(uint64_t sector, Stamp stamp);
    const Sectors& contents() const { return cache_; }
    uint64_t size_bytes() const { return size_bytes_; }
    uint64_t flushes() const { return flushes_; }

  private:
    struct Unsynced {
        uint64_t number;
        uint64_t sector;
        Stamp stamp;
    };
    static void place(Sectors& sectors, uint64_t sector, Stamp stamp);
    void write(uint64_t sector, Stamp stamp);
    void lose_under_way();

    uint64_t size_bytes_;
    Random& random_;
    Sectors cache_;
    Sectors durable_;
    std::vector<Unsynced> unsynced_;
    uint64_t next_number_ = 1;
    uint64_t flushes_ = 0;
    std::map<Ticket, LocalIo> under_way_;
    std::map<Ticket, uint64_t> flush_marks_;
    std::map<StoreOperation, Errc> failing_;
};

}  // namespace antipode::disksync
