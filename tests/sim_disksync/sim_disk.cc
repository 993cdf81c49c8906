#include "tests/sim_disksync/sim_disk.h"

#include <cstring>
#include <gtest/gtest.h>

namespace antipode::disksync {

void fill(std::span<std::byte> sector, Stamp stamp) {
    for (size_t at = 0; at < sector.size(); at += sizeof(stamp)) {
        std::memcpy(sector.data() + at, &stamp, sizeof(stamp));
    }
}

Stamp stamp_of(std::span<const std::byte> sector) {
    Stamp stamp = 0;
    std::memcpy(&stamp, sector.data(), sizeof(stamp));
    const bool uniform = std::memcmp(sector.data(), sector.data() + sizeof(stamp),
                                     sector.size() - sizeof(stamp)) == 0;
    EXPECT_TRUE(uniform) << "a sector with parts of two writes";
    return stamp;
}

void SimDisk::place(Sectors& sectors, uint64_t sector, Stamp stamp) {
    if (stamp == 0) {
        sectors.erase(sector);
    } else {
        sectors[sector] = stamp;
    }
}

void SimDisk::write(uint64_t sector, Stamp stamp) {
    place(cache_, sector, stamp);
    unsynced_.push_back({next_number_++, sector, stamp});
}

void SimDisk::set(uint64_t sector, Stamp stamp) {
    place(cache_, sector, stamp);
    place(durable_, sector, stamp);
}

void SimDisk::submit(const LocalIo& io) {
    under_way_[io.ticket] = io;
    if (io.operation == StoreOperation::flush) flush_marks_[io.ticket] = next_number_;
}

LocalDone SimDisk::complete(LocalIo& io) {
    under_way_.erase(io.ticket);
    LocalDone done;
    done.ticket = io.ticket;
    const uint64_t first = io.offset_bytes / kSimSectorBytes;
    const uint64_t count = io.length_bytes / kSimSectorBytes;
    if (io.what == LocalIo::What::extents) {
        // In pieces of a block: data if any of its sectors is not zero.
        for (uint64_t at = 0; at < io.length_bytes; at += kBlockBytes) {
            const uint64_t bytes = std::min(kBlockBytes, io.length_bytes - at);
            bool zero = true;
            for (uint64_t sector = 0; sector < bytes / kSimSectorBytes; ++sector) {
                zero &= this->at(first + at / kSimSectorBytes + sector) == 0;
            }
            const auto kind = zero ? ExtentKind::zero : ExtentKind::data;
            if (!done.extents.empty() && done.extents.back().kind == kind) {
                done.extents.back().length_bytes += bytes;
            } else {
                done.extents.push_back({io.offset_bytes + at, bytes, kind});
            }
        }
        return done;
    }
    if (const auto failing = failing_.find(io.operation); failing != failing_.end()) {
        done.result = fail(failing->second, "simulated disk: {} fails", to_string(io.operation));
        failing_.erase(failing);
        return done;
    }
    switch (io.operation) {
        case StoreOperation::read:
            for (uint64_t sector = 0; sector < count; ++sector) {
                fill(io.data.writable().subspan(sector * kSimSectorBytes, kSimSectorBytes),
                     at(first + sector));
            }
            break;
        case StoreOperation::write:
            for (uint64_t sector = 0; sector < count; ++sector) {
                write(first + sector,
                      stamp_of(io.data.span().subspan(sector * kSimSectorBytes, kSimSectorBytes)));
            }
            break;
        case StoreOperation::write_zeroes:
        case StoreOperation::discard:
            for (uint64_t sector = 0; sector < count; ++sector) write(first + sector, 0);
            break;
        case StoreOperation::flush: {
            ++flushes_;
            const uint64_t mark = flush_marks_[io.ticket];
            flush_marks_.erase(io.ticket);
            size_t synced = 0;
            while (synced < unsynced_.size() && unsynced_[synced].number < mark) {
                place(durable_, unsynced_[synced].sector, unsynced_[synced].stamp);
                ++synced;
            }
            unsynced_.erase(unsynced_.begin(), unsynced_.begin() + static_cast<ptrdiff_t>(synced));
            break;
        }
    }
    if (io.fua == Fua::yes && changes_data(io.operation)) {
        for (uint64_t sector = 0; sector < count; ++sector) {
            place(durable_, first + sector, at(first + sector));
            std::erase_if(unsynced_, [&](const Unsynced& u) { return u.sector == first + sector; });
        }
    }
    return done;
}

// Of what was under way, any sectors have been written.
void SimDisk::lose_under_way() {
    for (const auto& [ticket, io] : under_way_) {
        if (!changes_data(io.operation) || io.what == LocalIo::What::extents) continue;
        for (uint64_t sector = 0; sector < io.length_bytes / kSimSectorBytes; ++sector) {
            if (random_.chance(0.5)) continue;
            const Stamp stamp =
                io.operation == StoreOperation::write
                    ? stamp_of(io.data.span().subspan(sector * kSimSectorBytes, kSimSectorBytes))
                    : 0;
            write(io.offset_bytes / kSimSectorBytes + sector, stamp);
        }
    }
    under_way_.clear();
    flush_marks_.clear();
    failing_.clear();
}

void SimDisk::kill() {
    lose_under_way();
}

void SimDisk::power_failure() {
    lose_under_way();
    // In order, so that a sector that was written twice keeps its order.
    for (const Unsynced& unsynced : unsynced_) {
        if (random_.chance(0.5)) place(durable_, unsynced.sector, unsynced.stamp);
    }
    unsynced_.clear();
    cache_ = durable_;
}

}  // namespace antipode::disksync
