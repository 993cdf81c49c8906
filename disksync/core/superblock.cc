#include "disksync/core/superblock.h"

#include <boost/endian/buffers.hpp>
#include <cstring>
#include <xxhash.h>

#include "common/base/check.h"

namespace antipode::disksync {

namespace {

using namespace boost::endian;

constexpr std::array<char, 8> kMagic{'A', 'N', 'T', 'P', 'D', 'I', 'S', 'K'};

enum : uint8_t {
    kFlagOpen = 1,
    kFlagDiscardMine = 2,
    kFlagUndoKept = 4,
    kFlagShared = 8,
    kFlagsAll = 15
};

struct Layout {
    std::array<char, 8> magic;
    little_uint64_buf_t checksum;  // XXH3-64 of everything behind it
    little_uint16_buf_t version;
    little_uint16_buf_t compat;  // the oldest version that may read it
    little_uint32_buf_t block_bytes;
    little_uint64_buf_t sequence;
    std::array<char, Name::kBytes> pair;
    std::array<char, Name::kBytes> disk;
    little_uint64_buf_t id;
    little_uint64_buf_t peer_id;
    little_uint64_buf_t size_bytes;
    little_uint64_buf_t epoch;
    little_uint64_buf_t current;
    std::array<little_uint64_buf_t, Generations::kBases> bases;
    std::array<little_uint64_buf_t, Generations::kHistory> history;
    little_int64_buf_t generation_time_seconds;
    little_uint64_buf_t resync_target;
    little_uint8_buf_t role;
    little_uint8_buf_t state;
    little_uint8_buf_t flags;
    std::array<std::byte, 3853> reserved;
};
static_assert(sizeof(Layout) == kSuperblockBytes);
static_assert(offsetof(Layout, sequence) == 24);
static_assert(offsetof(Layout, id) == 96);
static_assert(offsetof(Layout, current) == 128);
static_assert(offsetof(Layout, role) == 240);

constexpr size_t kChecksummedFrom = offsetof(Layout, version);

uint64_t checksum_of(std::span<const std::byte> bytes) {
    return XXH3_64bits(bytes.data() + kChecksummedFrom, bytes.size() - kChecksummedFrom);
}

Result<Name> name_of(const std::array<char, Name::kBytes>& bytes, std::string_view field) {
    const size_t length =
        static_cast<size_t>(std::find(bytes.begin(), bytes.end(), '\0') - bytes.begin());
    const bool padded = std::all_of(bytes.begin() + static_cast<ptrdiff_t>(length), bytes.end(),
                                    [](char c) { return c == '\0'; });
    if (length == bytes.size() || !padded) {
        return fail(Errc::corrupt, "superblock: {} is not ended and padded with zeroes", field);
    }
    auto name = Name::parse(std::string_view(bytes.data(), length), field);
    if (!name) return fail(Errc::corrupt, "superblock: {}", name.error().context);
    return *name;
}

template <size_t kCount>
void put(std::array<little_uint64_buf_t, kCount>& out, const std::array<Generation, kCount>& in) {
    for (size_t index = 0; index < kCount; ++index) out[index] = in[index].value();
}

// Empty places are behind the others, so that there is one encoding.
template <size_t kCount>
bool take(std::array<Generation, kCount>& out, const std::array<little_uint64_buf_t, kCount>& in) {
    bool ended = false;
    for (size_t index = 0; index < kCount; ++index) {
        out[index] = Generation(in[index].value());
        if (ended && out[index] != Generation()) return false;
        ended = out[index] == Generation();
    }
    return true;
}

// The broken rule, or nullptr.
const char* invalid(const Superblock& superblock) {
    if (superblock.sequence == 0) return "the sequence is 0";
    if (superblock.id == DiskId()) return "the copy has no id";
    if (superblock.size_bytes == 0 || superblock.size_bytes % 512 != 0) {
        return "the size is 0 or not a multiple of 512";
    }
    if (superblock.size_bytes > kDiskBytesMax) return "the size is beyond every disk";
    if (superblock.role == DiskRole::secondary && superblock.open_for_writing) {
        return "a secondary is open for writing";
    }
    return nullptr;
}

}  // namespace

std::vector<std::byte> encode(const Superblock& superblock) {
    const char* rule = invalid(superblock);
    FT_CHECK(rule == nullptr, "superblock: {}", rule ? rule : "");
    Layout layout{};
    layout.magic = kMagic;
    layout.version = kMetadataVersion;
    layout.compat = kMetadataVersion;
    layout.block_bytes = static_cast<uint32_t>(kBlockBytes);
    layout.sequence = superblock.sequence;
    layout.pair = superblock.pair.bytes();
    layout.disk = superblock.disk.bytes();
    layout.id = superblock.id.value();
    layout.peer_id = superblock.peer_id.value();
    layout.size_bytes = superblock.size_bytes;
    layout.epoch = superblock.epoch.value();
    layout.current = superblock.generations.current.value();
    put(layout.bases, superblock.generations.bases);
    put(layout.history, superblock.generations.history);
    layout.generation_time_seconds = superblock.generation_time_seconds;
    layout.resync_target = superblock.resync_target.value();
    layout.role = static_cast<uint8_t>(superblock.role);
    layout.state = static_cast<uint8_t>(superblock.state);
    layout.flags = static_cast<uint8_t>((superblock.open_for_writing ? kFlagOpen : 0) |
                                        (superblock.discard_mine ? kFlagDiscardMine : 0) |
                                        (superblock.undo_kept ? kFlagUndoKept : 0) |
                                        (superblock.generation_shared ? kFlagShared : 0));
    std::vector<std::byte> bytes(sizeof(layout));
    std::memcpy(bytes.data(), &layout, sizeof(layout));
    layout.checksum = checksum_of(bytes);
    std::memcpy(bytes.data(), &layout, sizeof(layout));
    return bytes;
}

Result<Superblock> decode_superblock(std::span<const std::byte> bytes) {
    if (bytes.size() != kSuperblockBytes) {
        return fail(Errc::corrupt, "superblock: {} bytes, expected {}", bytes.size(),
                    kSuperblockBytes);
    }
    Layout layout;
    std::memcpy(&layout, bytes.data(), sizeof(layout));
    if (layout.magic != kMagic) return fail(Errc::corrupt, "superblock: wrong magic");
    if (layout.checksum.value() != checksum_of(bytes)) {
        return fail(Errc::corrupt, "superblock: checksum is {:016x}, expected {:016x}",
                    layout.checksum.value(), checksum_of(bytes));
    }
    if (layout.compat.value() > kMetadataVersion || layout.version.value() < kMetadataVersion) {
        return fail(Errc::version,
                    "superblock: version {} (readable from {}), this program knows {}",
                    layout.version.value(), layout.compat.value(), kMetadataVersion);
    }
    if (layout.block_bytes.value() != kBlockBytes) {
        return fail(Errc::version, "superblock: blocks of {} bytes, this program knows {}",
                    layout.block_bytes.value(), kBlockBytes);
    }
    Superblock superblock;
    superblock.sequence = layout.sequence.value();
    FT_TRY(superblock.pair, name_of(layout.pair, "pair"));
    FT_TRY(superblock.disk, name_of(layout.disk, "disk"));
    superblock.id = DiskId(layout.id.value());
    superblock.peer_id = DiskId(layout.peer_id.value());
    superblock.size_bytes = layout.size_bytes.value();
    superblock.epoch = Epoch(layout.epoch.value());
    superblock.generations.current = Generation(layout.current.value());
    if (!take(superblock.generations.bases, layout.bases) ||
        !take(superblock.generations.history, layout.history)) {
        return fail(Errc::corrupt, "superblock: a gap in the list of generations");
    }
    superblock.generation_time_seconds = layout.generation_time_seconds.value();
    superblock.resync_target = Generation(layout.resync_target.value());
    const uint8_t role = layout.role.value();
    const uint8_t state = layout.state.value();
    const uint8_t flags = layout.flags.value();
    if (role < 1 || role > static_cast<uint8_t>(DiskRole::primary)) {
        return fail(Errc::corrupt, "superblock: role {}", role);
    }
    if (state < 1 || state > static_cast<uint8_t>(DiskState::diskless)) {
        return fail(Errc::corrupt, "superblock: state {}", state);
    }
    if ((flags & ~kFlagsAll) != 0) return fail(Errc::corrupt, "superblock: flags {:#x}", flags);
    superblock.role = static_cast<DiskRole>(role);
    superblock.state = static_cast<DiskState>(state);
    superblock.open_for_writing = (flags & kFlagOpen) != 0;
    superblock.discard_mine = (flags & kFlagDiscardMine) != 0;
    superblock.undo_kept = (flags & kFlagUndoKept) != 0;
    superblock.generation_shared = (flags & kFlagShared) != 0;
    if (std::any_of(layout.reserved.begin(), layout.reserved.end(),
                    [](std::byte value) { return value != std::byte{0}; })) {
        return fail(Errc::corrupt, "superblock: reserved bytes are not zero");
    }
    if (const char* rule = invalid(superblock)) return fail(Errc::corrupt, "superblock: {}", rule);
    return superblock;
}

}  // namespace antipode::disksync
