#include "tiebreaker/etcd/mark.h"

#include <array>
#include <boost/endian/buffers.hpp>
#include <cstring>
#include <xxhash.h>

#include "common/base/check.h"
#include "common/env/posix/storage_file.h"

namespace antipode::tiebreaker::etcd {
namespace {

using boost::endian::little_uint16_buf_t;
using boost::endian::little_uint64_buf_t;

constexpr std::array<char, 4> kMagic{'A', 'P', 'E', 'M'};
constexpr uint16_t kFormat = 1;
constexpr size_t kSlots = 2;

struct Sector {
    std::array<char, 4> magic;
    little_uint16_buf_t format;
    little_uint16_buf_t zero;
    little_uint64_buf_t counter;
    little_uint64_buf_t store;
    little_uint64_buf_t cluster_id;
    little_uint64_buf_t sequence;
    std::array<char, 32> chain;
    little_uint64_buf_t checksum;
    std::array<char, 512 - 80> rest;
};
static_assert(sizeof(Sector) == env::Storage::kSectorBytes);
static_assert(offsetof(Sector, checksum) == 72);

uint64_t checksum_of(const Sector& sector) {
    return XXH64(&sector, offsetof(Sector, checksum), 0);
}

}  // namespace

Result<std::unique_ptr<MarkFile>> MarkFile::open(const std::string& path) {
    auto file = env::StorageFile::open(path);
    if (!file && file.error().code == Errc::not_found) file = env::StorageFile::create(path);
    if (!file) return fail(std::move(file).error());
    return open(std::move(*file));
}

Result<std::unique_ptr<MarkFile>> MarkFile::open(std::unique_ptr<env::Storage> storage) {
    std::unique_ptr<MarkFile> out(new MarkFile(std::move(storage)));
    FT_TRY_VOID(out->read());
    return out;
}

Result<> MarkFile::read() {
    FT_TRY(const uint64_t size, storage_->size_bytes());
    if (size == 0) return storage_->resize(kSlots * sizeof(Sector));
    if (size != kSlots * sizeof(Sector)) {
        return fail(Errc::corrupt, "mark {}: has {} bytes, expected {}", storage_->name(), size,
                    kSlots * sizeof(Sector));
    }
    size_t written = 0;
    for (size_t slot = 0; slot < kSlots; ++slot) {
        Sector sector;
        FT_TRY_VOID(
            storage_->read(slot * sizeof(Sector), std::as_writable_bytes(std::span(&sector, 1))));
        static constexpr Sector kBlank{};
        if (std::memcmp(&sector, &kBlank, sizeof(sector)) == 0) continue;
        ++written;
        if (sector.magic != kMagic || sector.checksum.value() != checksum_of(sector)) continue;
        if (sector.format.value() != kFormat) {
            return fail(Errc::version, "mark {}: has format {}, this program knows {}",
                        storage_->name(), sector.format.value(), kFormat);
        }
        if (sector.counter.value() <= counter_) continue;
        counter_ = sector.counter.value();
        mark_ =
            Mark{wire::StoreIdentity(sector.store.value()), sector.cluster_id.value(),
                 sector.sequence.value(), std::string(sector.chain.data(), sector.chain.size())};
    }
    // One alone that is not sound is the first write, cut short: nothing has relied on it.
    if (written == kSlots && !mark_) {
        return fail(Errc::corrupt, "mark {}: neither of its two copies is sound", storage_->name());
    }
    return {};
}

Result<> MarkFile::write(const Mark& mark) {
    FT_CHECK(mark.chain.size() == 32, "a chain of {} bytes", mark.chain.size());
    Sector sector{};
    sector.magic = kMagic;
    sector.format = kFormat;
    sector.counter = counter_ + 1;
    sector.store = mark.store.value();
    sector.cluster_id = mark.cluster_id;
    sector.sequence = mark.sequence;
    std::memcpy(sector.chain.data(), mark.chain.data(), sector.chain.size());
    sector.checksum = checksum_of(sector);
    const uint64_t slot = (counter_ + 1) % kSlots;
    FT_TRY_VOID(storage_->write(slot * sizeof(Sector), std::as_bytes(std::span(&sector, 1))));
    FT_TRY_VOID(storage_->sync());
    ++counter_;
    mark_ = mark;
    return {};
}

}  // namespace antipode::tiebreaker::etcd
