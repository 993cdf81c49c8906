#include "disksync/core/dirty_bitmap.h"

#include <algorithm>
#include <bit>
#include <boost/endian/buffers.hpp>
#include <cstring>
#include <xxhash.h>

#include "common/base/check.h"

namespace antipode::disksync {

namespace {

using namespace boost::endian;

constexpr uint32_t kPageMagic = 0x6d624441;  // "ADbm"

struct PageHeader {
    little_uint32_buf_t magic;
    little_uint32_buf_t reserved;
    little_uint64_buf_t page;
    little_uint64_buf_t sequence;
    little_uint64_buf_t checksum;  // XXH3-64 of the page, this field taken as zero
};
static_assert(sizeof(PageHeader) == DirtyBitmap::kPageHeaderBytes);

uint64_t checksum_of(std::span<const std::byte> page) {
    std::array<std::byte, DirtyBitmap::kPageBytes> copy;
    std::memcpy(copy.data(), page.data(), copy.size());
    std::memset(copy.data() + offsetof(PageHeader, checksum), 0, sizeof(uint64_t));
    return XXH3_64bits(copy.data(), copy.size());
}

// The bits of one word that lie in [first, first + count).
uint64_t mask_of(uint64_t word, uint64_t first, uint64_t count) {
    const uint64_t from = std::max(first, word * 64) - word * 64;
    const uint64_t to = std::min(first + count, word * 64 + 64) - word * 64;
    const uint64_t below_to = to == 64 ? ~uint64_t{0} : (uint64_t{1} << to) - 1;
    return below_to & ~((uint64_t{1} << from) - 1);
}

}  // namespace

DirtyBitmap::DirtyBitmap(uint64_t block_count) : block_count_(0) {
    grow(block_count);
}

void DirtyBitmap::grow(uint64_t block_count) {
    FT_CHECK(block_count >= block_count_, "a bitmap of {} blocks cannot shrink to {}", block_count_,
             block_count);
    block_count_ = block_count;
    words_.resize((block_count + 63) / 64);
    pages_.resize((block_count + kBlocksPerPage - 1) / kBlocksPerPage);
}

BlockRange DirtyBitmap::page_blocks(size_t page) const {
    const uint64_t first = page * kBlocksPerPage;
    return {first, std::min(kBlocksPerPage, block_count_ - first)};
}

void DirtyBitmap::set(BlockRange blocks) {
    if (blocks.count == 0) return;
    FT_CHECK(blocks.first + blocks.count <= block_count_, "blocks {} and {} more, of {}",
             blocks.first, blocks.count, block_count_);
    const uint64_t last = (blocks.first + blocks.count - 1) / 64;
    for (uint64_t word = blocks.first / 64; word <= last; ++word) {
        const uint64_t added = mask_of(word, blocks.first, blocks.count) & ~words_[word];
        if (added == 0) continue;
        words_[word] |= added;
        count_ += static_cast<uint64_t>(std::popcount(added));
        pages_[page_of(word * 64)].changed = true;
    }
}

void DirtyBitmap::clear(BlockRange blocks) {
    if (blocks.count == 0) return;
    FT_CHECK(blocks.first + blocks.count <= block_count_, "blocks {} and {} more, of {}",
             blocks.first, blocks.count, block_count_);
    const uint64_t last = (blocks.first + blocks.count - 1) / 64;
    for (uint64_t word = blocks.first / 64; word <= last; ++word) {
        const uint64_t removed = mask_of(word, blocks.first, blocks.count) & words_[word];
        if (removed == 0) continue;
        words_[word] &= ~removed;
        count_ -= static_cast<uint64_t>(std::popcount(removed));
        pages_[page_of(word * 64)].stale = true;
    }
}

std::optional<uint64_t> DirtyBitmap::next_set(uint64_t from) const {
    if (from >= block_count_) return std::nullopt;
    uint64_t word = from / 64;
    uint64_t bits = words_[word] & (~uint64_t{0} << (from % 64));
    while (bits == 0) {
        if (++word == words_.size()) return std::nullopt;
        bits = words_[word];
    }
    return word * 64 + static_cast<uint64_t>(std::countr_zero(bits));
}

BlockRange DirtyBitmap::run_at(uint64_t first, uint64_t count_max) const {
    uint64_t count = 0;
    while (count < count_max && first + count < block_count_ && is_set(first + count)) ++count;
    return {first, count};
}

std::vector<std::byte> DirtyBitmap::bits(BlockRange blocks) const {
    std::vector<std::byte> packed((blocks.count + 7) / 8);
    const uint64_t end = std::min(blocks.first + blocks.count, block_count_);
    for (auto at = next_set(blocks.first); at && *at < end; at = next_set(*at + 1)) {
        const uint64_t index = *at - blocks.first;
        packed[index / 8] |= static_cast<std::byte>(1u << (index % 8));
    }
    return packed;
}

Result<> DirtyBitmap::merge(BlockRange blocks, std::span<const std::byte> packed) {
    if (packed.size() != (blocks.count + 7) / 8) {
        return fail(Errc::corrupt, "bitmap: {} bytes for {} blocks", packed.size(), blocks.count);
    }
    for (uint64_t index = 0; index < packed.size() * 8; ++index) {
        if ((std::to_integer<unsigned>(packed[index / 8]) >> (index % 8) & 1) == 0) continue;
        if (index >= blocks.count || blocks.first + index >= block_count_) {
            return fail(Errc::corrupt, "bitmap: block {} is marked, the disk has {}",
                        blocks.first + index, block_count_);
        }
        set({blocks.first + index, 1});
    }
    return {};
}

std::vector<std::byte> DirtyBitmap::encode_page(size_t index) {
    Page& page = pages_[index];
    std::vector<std::byte> bytes(kPageBytes);
    const std::vector<std::byte> packed = bits(page_blocks(index));
    std::memcpy(bytes.data() + kPageHeaderBytes, packed.data(), packed.size());
    PageHeader header{};
    header.magic = kPageMagic;
    header.page = index;
    header.sequence = page.sequence + 1;
    std::memcpy(bytes.data(), &header, sizeof(header));
    header.checksum = checksum_of(bytes);
    std::memcpy(bytes.data(), &header, sizeof(header));
    ++page.sequence;
    page.changed = page.stale = false;
    return bytes;
}

std::optional<uint64_t> DirtyBitmap::page_sequence(size_t page,
                                                   std::span<const std::byte> bytes) const {
    if (bytes.size() != kPageBytes) return std::nullopt;
    PageHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.magic.value() != kPageMagic || header.page.value() != page ||
        header.reserved.value() != 0 || header.sequence.value() == 0 ||
        header.checksum.value() != checksum_of(bytes)) {
        return std::nullopt;
    }
    return header.sequence.value();
}

bool DirtyBitmap::decode_page(size_t index, std::span<const std::byte> slot0,
                              std::span<const std::byte> slot1) {
    const auto sequence0 = page_sequence(index, slot0);
    const auto sequence1 = page_sequence(index, slot1);
    const BlockRange blocks = page_blocks(index);
    clear(blocks);
    Page& page = pages_[index];
    const bool first_is_newer = sequence0.value_or(0) >= sequence1.value_or(0);
    page.sequence = first_is_newer ? sequence0.value_or(0) : *sequence1;
    bool known = sequence0 || sequence1;
    if (known) {
        const auto slot = first_is_newer ? slot0 : slot1;
        known = merge(blocks, slot.subspan(kPageHeaderBytes, (blocks.count + 7) / 8)).has_value();
    }
    if (!known) set(blocks);
    page.changed = page.stale = !known;
    return known;
}

}  // namespace antipode::disksync
