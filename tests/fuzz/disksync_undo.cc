// The undo file of a replicated disk. The first byte says whether the checksums of its headers are
// made right first.
#include <cstdint>
#include <xxhash.h>

#include "common/base/check.h"
#include "disksync/core/undo_log.h"
#include "tests/fuzz/memory_storage.h"

namespace {

using namespace antipode;
using namespace antipode::disksync;
using fuzz::MemoryStorage;

constexpr uint64_t kHeader = UndoLog::kHeaderBytes;

uint64_t number_at(std::span<const std::byte> bytes, size_t at, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) value |= std::to_integer<uint64_t>(bytes[at + i]) << (8 * i);
    return value;
}

// The file's header and a batch's have their checksum at the same place.
void make_right(std::span<std::byte> header) {
    std::memset(header.data() + 8, 0, sizeof(uint64_t));
    const uint64_t checksum = XXH3_64bits(header.data(), header.size());
    for (size_t i = 0; i < 8; ++i) header[8 + i] = static_cast<std::byte>(checksum >> (8 * i));
}

void make_all_right(std::span<std::byte> file) {
    for (uint64_t at = 0; at + kHeader <= file.size();) {
        const auto header = file.subspan(at, kHeader);
        make_right(header);
        const bool batch = at != 0;
        at += kHeader;
        if (!batch) continue;
        const uint64_t count = std::min<uint64_t>(number_at(header, 4, 4), 160);
        for (uint64_t entry = 0; entry < count; ++entry) {
            at += number_at(header, 40 + entry * 24 + 16, 4);
        }
    }
}

// A reader of this block and its neighbour gets every byte from somewhere.
void look_through(const UndoLog& log, uint64_t block) {
    uint64_t next = block * kBlockBytes + 100;
    for (const UndoLog::Piece& piece : log.pieces(next, kBlockBytes)) {
        FT_CHECK(piece.offset_bytes == next && piece.length_bytes != 0, "a gap at {}", next);
        next += piece.length_bytes;
        if (piece.from != UndoLog::Piece::From::log) continue;
        FT_CHECK(piece.skip_bytes + piece.length_bytes <= piece.place.length_bytes,
                 "block {}: beyond what is kept of it", piece.block);
    }
    FT_CHECK(next == (block + 1) * kBlockBytes + 100, "it ends at {}", next);
}

void look_at(UndoLog& log, MemoryStorage& storage) {
    FT_CHECK(log.bytes() <= storage.bytes().size(), "{} bytes of {}", log.bytes(),
             storage.bytes().size());
    const auto blocks = log.blocks();
    FT_CHECK(blocks.size() == log.count(), "{} blocks of {}", blocks.size(), log.count());
    uint64_t fresh = 0;
    for (const uint64_t block : blocks) {
        (void)log.read(storage, block);
        fresh = std::max(fresh, block);
        if (block < (uint64_t{1} << 40)) look_through(log, block);
    }
    // It goes on from there.
    if (++fresh == 0) return;
    const std::vector<std::byte> data(512, std::byte{7});
    const std::vector<UndoLog::OldBlock> batch{{fresh, wire::SharedBytes::copy_of(data)}};
    for (const MetaWrite& write : log.append(batch)) {
        FT_CHECK(storage.write(write.offset_bytes, write.bytes).has_value(), "memory");
    }
    const auto again = UndoLog::load(storage, DiskId());
    FT_CHECK(again.has_value() && again->contains(fresh), "what was appended is not there");
    FT_CHECK(again->read(storage, fresh).value() == data, "not what was appended");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    MemoryStorage storage(std::span(reinterpret_cast<const std::byte*>(data) + 1, size - 1));
    if ((data[0] & 1) != 0) make_all_right(storage.bytes());
    auto log = UndoLog::load(storage, DiskId());
    if (log) look_at(*log, storage);
    return 0;
}
