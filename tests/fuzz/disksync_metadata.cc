// The metadata file of a replicated disk: a good one, of three bitmap pages, with pieces of the
// input written over it. The first byte says of which parts the checksums are made right again.
// A piece: which part, offset in it (2 bytes), length, bytes.
#include <cstdint>
#include <xxhash.h>

#include "common/base/check.h"
#include "disksync/disk_metadata.h"
#include "tests/fuzz/byte_source.h"
#include "tests/fuzz/memory_storage.h"

namespace {

using namespace antipode;
using namespace antipode::disksync;
using fuzz::ByteSource;
using fuzz::MemoryStorage;

constexpr uint64_t kPartBytes = 4096;
constexpr uint64_t kSizeBytes = uint64_t{5} << 30;
constexpr uint64_t kSizeBytesTried = uint64_t{1} << 40;  // more is only memory
constexpr size_t kParts = 10;                            // two each: superblock, log, three pages

uint64_t offset_of(size_t part) {
    if (part < 4) return part * kPartBytes;
    return DiskRecord::kBitmapOffset + (part - 4) * kPartBytes;
}

std::vector<std::byte> good_file() {
    Superblock first;
    first.pair = Name::literal("web1");
    first.disk = Name::literal("sda");
    first.id = DiskId(77);
    first.size_bytes = kSizeBytes;
    first.role = DiskRole::primary;
    first.state = DiskState::up_to_date;
    first.open_for_writing = true;
    first.generations.current = Generation(0x1234);
    first.generations.bases[0] = Generation(0x1233);
    auto storage = std::make_unique<MemoryStorage>();
    MemoryStorage& kept = *storage;
    auto metadata = DiskMetadata::create(std::move(storage), first);
    FT_CHECK(metadata.has_value(), "the good one");
    DiskRecord& record = (*metadata)->record();
    (void)record.log().want(3, 2);
    record.bitmap().set({100, 50});
    record.write_bitmap();
    FT_CHECK((*metadata)->write().has_value(), "the good one");
    FT_CHECK((*metadata)->update(record.superblock()).has_value(), "the good one");
    return kept.bytes();
}

// Where its checksum is, and of what.
void make_right(std::span<std::byte> part, size_t number) {
    const size_t at = number < 2 ? 8 : number < 4 ? 16 : 24;
    std::memset(part.data() + at, 0, sizeof(uint64_t));
    const auto checked = number < 2 ? part.subspan(16) : part;
    const uint64_t checksum = XXH3_64bits(checked.data(), checked.size());
    for (size_t byte = 0; byte < sizeof(checksum); ++byte) {
        part[at + byte] = static_cast<std::byte>(checksum >> (8 * byte));
    }
}

void execute_all(DiskRecord& record, MemoryStorage& storage) {
    while (const auto plan = record.next_plan()) {
        FT_CHECK(execute(storage, *plan).has_value(), "memory can be written");
        record.done();
    }
}

// What has been read can be written, and is then read without a finding.
void look_at(DiskRecord& record, MemoryStorage& storage) {
    const Superblock superblock = record.superblock();
    FT_CHECK(record.bitmap().block_count() == block_count_of(superblock.size_bytes), "{} blocks",
             record.bitmap().block_count());
    const uint64_t marked = record.bitmap().count();
    Superblock next = superblock;
    next.open_for_writing = false;
    next.role = DiskRole::secondary;
    for (int copy = 0; copy < 2; ++copy) {
        record.write_bitmap();
        record.change(next, DiskRecord::Order::after_bitmap);
        execute_all(record, storage);
    }
    const auto again = DiskRecord::load(storage);
    FT_CHECK(again.has_value(), "refuses its own: {}", again.error().context);
    FT_CHECK(again->superblock() == record.superblock(), "another superblock after writing");
    FT_CHECK(again->bitmap().count() == marked, "{} marks, had {}", again->bitmap().count(),
             marked);
    FT_CHECK(!again->crashed_primary(), "closed, and called crashed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const std::vector<std::byte> good = good_file();
    if (size == 0) return 0;
    MemoryStorage storage(good);
    ByteSource input(data, size);
    const auto right = input.take<uint8_t>();
    while (!input.empty()) {
        const size_t part = input.below(kParts);
        const size_t at = input.take<uint16_t>() % kPartBytes;
        const auto bytes = input.bytes(input.take<uint8_t>());
        const size_t count = std::min(bytes.size(), kPartBytes - at);
        (void)storage.write(offset_of(part) + at, bytes.first(count));
    }
    const auto whole = std::span(storage.bytes());
    for (size_t part = 0; part < kParts; ++part) {
        const unsigned bit = part < 2 ? 1 : part < 4 ? 2 : 4;
        if ((right & bit) != 0) make_right(whole.subspan(offset_of(part), kPartBytes), part);
    }
    for (size_t slot = 0; slot < 2; ++slot) {
        const auto decoded = decode_superblock(whole.subspan(offset_of(slot), kPartBytes));
        if (!decoded) continue;
        const auto bytes = whole.subspan(offset_of(slot), kPartBytes);
        // A later version may have what we do not know; ours has one encoding.
        const bool ours = bytes[16] == std::byte{1} && bytes[17] == std::byte{0} &&
                          bytes[18] == std::byte{1} && bytes[19] == std::byte{0};
        FT_CHECK(!ours || std::ranges::equal(encode(*decoded), bytes),
                 "not what the encoder makes of it");
        if (decoded->sequence > ~uint64_t{0} / 2) return 0;  // no disk gets there
        if (decoded->size_bytes > kSizeBytesTried) return 0;
    }
    auto record = DiskRecord::load(storage);
    if (record) look_at(*record, storage);
    return 0;
}
