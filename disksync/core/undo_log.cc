#include "disksync/core/undo_log.h"

#include <algorithm>
#include <boost/endian/buffers.hpp>
#include <cstring>
#include <xxhash.h>

#include "common/base/check.h"

namespace antipode::disksync {

namespace {

using namespace boost::endian;

constexpr std::array<char, 8> kFileMagic{'A', 'N', 'T', 'P', 'U', 'N', 'D', 'O'};
constexpr uint32_t kBatchMagic = 0x62754441;  // "ADub"

struct FileHeader {
    std::array<char, 8> magic;
    little_uint64_buf_t checksum;  // XXH3-64 of the header, this field taken as zero
    little_uint32_buf_t version;
    little_uint32_buf_t reserved;
    little_uint64_buf_t disk;
    little_uint64_buf_t back_to;
    std::array<std::byte, 4056> rest;
};
static_assert(sizeof(FileHeader) == UndoLog::kHeaderBytes);

struct Entry {
    little_uint64_buf_t block;
    little_uint64_buf_t digest;
    little_uint32_buf_t length_bytes;  // 0: the block was zero
    little_uint32_buf_t reserved;
};
static_assert(sizeof(Entry) == 24);

struct BatchHeader {
    little_uint32_buf_t magic;
    little_uint32_buf_t count;
    little_uint64_buf_t checksum;  // as above
    little_uint64_buf_t disk;
    little_uint64_buf_t back_to;
    little_uint64_buf_t batch;  // counted from 0: an older file's rest does not go on this one
    std::array<Entry, UndoLog::kBlocksPerBatch> entries;
    std::array<std::byte, 216> rest;
};
static_assert(sizeof(BatchHeader) == UndoLog::kHeaderBytes);

template <typename Header>
uint64_t checksum_of(Header header) {
    header.checksum = 0;
    return XXH3_64bits(&header, sizeof(header));
}

template <typename Header>
std::vector<std::byte> bytes_of(Header header) {
    header.checksum = checksum_of(header);
    std::vector<std::byte> bytes(sizeof(header));
    std::memcpy(bytes.data(), &header, sizeof(header));
    return bytes;
}

}  // namespace

UndoLog::UndoLog(DiskId disk, Generation back_to) : disk_(disk), back_to_(back_to) {}

MetaWrite UndoLog::header() const {
    FileHeader header{};
    header.magic = kFileMagic;
    header.version = 1;
    header.disk = disk_.value();
    header.back_to = back_to_.value();
    return {0, bytes_of(header)};
}

std::vector<MetaWrite> UndoLog::append(std::span<const OldBlock> blocks) {
    FT_CHECK(!blocks.empty(), "an empty batch of old blocks");
    FT_CHECK(blocks.size() <= kBlocksPerBatch, "{} old blocks in a batch", blocks.size());
    std::vector<MetaWrite> writes(1);
    BatchHeader header{};
    header.magic = kBatchMagic;
    header.count = static_cast<uint32_t>(blocks.size());
    header.disk = disk_.value();
    header.back_to = back_to_.value();
    header.batch = batches_++;
    uint64_t at = end_ + kHeaderBytes;
    for (size_t index = 0; index < blocks.size(); ++index) {
        const OldBlock& old = blocks[index];
        Place place;
        if (!old.data.empty()) {
            place = {at, static_cast<uint32_t>(old.data.size()),
                     XXH3_64bits(old.data.data(), old.data.size())};
            const auto data = old.data.span();
            writes.push_back({at, std::vector<std::byte>(data.begin(), data.end())});
            at += data.size();
        }
        header.entries[index].block = old.block;
        header.entries[index].digest = place.digest;
        header.entries[index].length_bytes = place.length_bytes;
        const bool added = places_.emplace(old.block, place).second;
        FT_CHECK(added, "old block {} is in the log already", old.block);
        unsynced_.insert(old.block);
    }
    writes.front() = {end_, bytes_of(header)};
    end_ = at;
    return writes;
}

Result<UndoLog> UndoLog::load(env::Storage& storage, DiskId disk) {
    std::vector<std::byte> bytes(sizeof(FileHeader));
    FT_TRY_VOID(storage.read(0, bytes));
    FileHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.magic != kFileMagic || header.checksum.value() != checksum_of(header)) {
        return fail(Errc::corrupt, "undo file {}: its header is not valid", storage.name());
    }
    if (header.version.value() != 1) {
        return fail(Errc::version, "undo file {}: version {}", storage.name(),
                    header.version.value());
    }
    const DiskId owner(header.disk.value());
    if (disk != DiskId() && owner != disk) {
        return fail(Errc::corrupt, "undo file {}: belongs to disk copy {:016x}, expected {:016x}",
                    storage.name(), header.disk.value(), disk.value());
    }
    UndoLog log(owner, Generation(header.back_to.value()));
    FT_TRY(const uint64_t size, storage.size_bytes());
    std::optional<Batch> last;
    while (auto batch = log.load_batch(storage, size)) last = std::move(batch);
    if (last) log.drop_if_torn(storage, *last);
    return log;
}

// Nothing: there is no further batch.
std::optional<UndoLog::Batch> UndoLog::load_batch(env::Storage& storage, uint64_t size_bytes) {
    if (end_ + kHeaderBytes > size_bytes) return std::nullopt;
    std::vector<std::byte> bytes(sizeof(BatchHeader));
    if (!storage.read(end_, bytes)) return std::nullopt;
    BatchHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.magic.value() != kBatchMagic || header.checksum.value() != checksum_of(header) ||
        header.disk.value() != disk_.value() || header.back_to.value() != back_to_.value() ||
        header.batch.value() != batches_ || header.count.value() > kBlocksPerBatch) {
        return std::nullopt;
    }
    Batch batch{end_, {}};
    uint64_t at = end_ + kHeaderBytes;
    std::vector<std::pair<uint64_t, Place>> found;
    for (uint32_t index = 0; index < header.count.value(); ++index) {
        const Entry& entry = header.entries[index];
        const uint32_t length = entry.length_bytes.value();
        if (length > kBlockBytes) return std::nullopt;
        found.push_back(
            {entry.block.value(), {length == 0 ? 0 : at, length, entry.digest.value()}});
        batch.blocks.push_back(entry.block.value());
        at += length;
    }
    if (at > size_bytes) return std::nullopt;
    places_.insert(found.begin(), found.end());
    end_ = at;
    ++batches_;
    return batch;
}

void UndoLog::drop_if_torn(env::Storage& storage, const Batch& last) {
    const bool whole = std::all_of(last.blocks.begin(), last.blocks.end(), [&](uint64_t block) {
        return read(storage, block).has_value();
    });
    if (whole) return;
    for (const uint64_t block : last.blocks) places_.erase(block);
    end_ = last.offset_bytes;
    --batches_;
}

Result<std::vector<std::byte>> UndoLog::read(env::Storage& storage, uint64_t block) const {
    const Place place = place_of(block);
    std::vector<std::byte> bytes(place.length_bytes);
    if (bytes.empty()) return bytes;
    FT_TRY_VOID(storage.read(place.offset_bytes, bytes));
    FT_TRY_VOID(check(storage.name(), block, place, bytes));
    return bytes;
}

UndoLog::Place UndoLog::place_of(uint64_t block) const {
    const auto found = places_.find(block);
    FT_CHECK(found != places_.end(), "block {} is not in the undo log", block);
    return found->second;
}

Result<> UndoLog::check(const std::string& name, uint64_t block, const Place& place,
                        std::span<const std::byte> bytes) {
    if (XXH3_64bits(bytes.data(), bytes.size()) == place.digest) return {};
    return fail(Errc::corrupt, "undo file {}: the content of block {} is not what was written",
                name, block);
}

std::vector<UndoLog::Piece> UndoLog::pieces(uint64_t offset_bytes, uint64_t length_bytes) const {
    std::vector<Piece> pieces;
    const uint64_t end = offset_bytes + length_bytes;
    for (uint64_t at = offset_bytes; at < end;) {
        const uint64_t block = at / kBlockBytes;
        const uint64_t skip = at % kBlockBytes;
        const uint64_t length = std::min(kBlockBytes - skip, end - at);
        add_pieces(pieces, block, skip, length);
        at += length;
    }
    return pieces;
}

// Of one block.
void UndoLog::add_pieces(std::vector<Piece>& pieces, uint64_t block, uint64_t skip_bytes,
                         uint64_t length_bytes) const {
    const auto found = places_.find(block);
    Piece piece;
    piece.offset_bytes = block * kBlockBytes + skip_bytes;
    piece.length_bytes = length_bytes;
    if (found == places_.end() || unsynced_.contains(block)) {
        const bool goes_on = !pieces.empty() && pieces.back().from == Piece::From::store;
        if (goes_on) {
            pieces.back().length_bytes += length_bytes;
        } else {
            pieces.push_back(piece);
        }
        return;
    }
    const Place& place = found->second;
    // The disk may have been shorter then: what lies behind its old end was no part of it.
    const uint64_t kept = place.length_bytes > skip_bytes
                              ? std::min<uint64_t>(length_bytes, place.length_bytes - skip_bytes)
                              : 0;
    if (kept != 0) {
        piece.from = Piece::From::log;
        piece.length_bytes = kept;
        piece.block = block;
        piece.place = place;
        piece.skip_bytes = skip_bytes;
        pieces.push_back(piece);
    }
    if (kept == length_bytes) return;
    Piece zeroes;
    zeroes.from = Piece::From::zeroes;
    zeroes.offset_bytes = block * kBlockBytes + skip_bytes + kept;
    zeroes.length_bytes = length_bytes - kept;
    pieces.push_back(zeroes);
}

std::vector<uint64_t> UndoLog::blocks() const {
    std::vector<uint64_t> sorted;
    for (const auto& [block, place] : places_) sorted.push_back(block);
    std::sort(sorted.begin(), sorted.end());
    return sorted;
}

}  // namespace antipode::disksync
