#include "common/wire/failover_frames.h"

#include <algorithm>
#include <array>
#include <boost/endian/buffers.hpp>
#include <cstring>

namespace antipode::wire {
namespace {

using boost::endian::little_uint32_buf_t;
using boost::endian::little_uint64_buf_t;
using boost::endian::little_uint8_buf_t;

constexpr uint8_t kVersion = 1;

struct Layout {
    little_uint8_buf_t version;
    little_uint8_buf_t kind;
    little_uint8_buf_t state;
    little_uint8_buf_t disk;
    little_uint8_buf_t memory;
    little_uint8_buf_t first_role;
    std::array<uint8_t, 2> reserved;
    std::array<char, Name::kBytes> pair;
    std::array<char, Name::kBytes> from_site;
    std::array<char, Name::kBytes> to_site;
    little_uint64_buf_t from_incarnation;
    little_uint64_buf_t to_incarnation;
    little_uint64_buf_t epoch;
    little_uint64_buf_t live_epoch;
    little_uint64_buf_t store;
    little_uint64_buf_t previous_epoch;
    little_uint64_buf_t attempt;
    little_uint64_buf_t position;
    std::array<uint8_t, 56> reserved_tail;
};
static_assert(sizeof(Layout) == kPeerMessageBytes);
static_assert(alignof(Layout) == 1);

Failure broken(const char* rule) {
    return fail(Errc::protocol, "peer message: {}", rule);
}

Result<Name> read_name(const std::array<char, Name::kBytes>& bytes, const char* field,
                       bool optional) {
    const size_t length = strnlen(bytes.data(), bytes.size());
    if (std::any_of(bytes.begin() + static_cast<ptrdiff_t>(length), bytes.end(),
                    [](char c) { return c != 0; })) {
        return fail(Errc::protocol, "peer message: {} has bytes behind its end", field);
    }
    if (length == 0 && optional) return Name();
    return Name::parse({bytes.data(), length}, field);
}

template <size_t N>
bool all_zero(const std::array<uint8_t, N>& bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

template <typename Enum>
bool in_range(uint8_t value, Enum last) {
    return value >= 1 && value <= static_cast<uint8_t>(last);
}

const char* broken_enum(const Layout& in) {
    if (!in_range(in.kind.value(), PeerMessageKind::stopped)) return "kind is not known";
    if (!in_range(in.state.value(), SiteState::stopped)) return "state is not known";
    if (!in_range(in.disk.value(), DiskCopy::complete)) return "disk is not known";
    if (!in_range(in.memory.value(), VmMemory::kept)) return "memory is not known";
    if (!in_range(in.first_role.value(), FirstRole::backup)) return "first role is not known";
    return nullptr;
}

}  // namespace

std::vector<std::byte> encode(const PeerMessage& message) {
    Layout out{};
    out.version = kVersion;
    out.kind = static_cast<uint8_t>(message.kind);
    out.state = static_cast<uint8_t>(message.state);
    out.disk = static_cast<uint8_t>(message.disk);
    out.memory = static_cast<uint8_t>(message.memory);
    out.first_role = static_cast<uint8_t>(message.first_role);
    out.pair = message.pair.bytes();
    out.from_site = message.from.site.bytes();
    out.to_site = message.to.site.bytes();
    out.from_incarnation = message.from.incarnation.value();
    out.to_incarnation = message.to.incarnation.value();
    out.epoch = message.epoch.value();
    out.live_epoch = message.live_epoch.value();
    out.store = message.store.value();
    out.previous_epoch = message.previous_epoch.value();
    out.attempt = message.attempt;
    out.position = message.position.value();
    const auto bytes = std::as_bytes(std::span(&out, 1));
    return {bytes.begin(), bytes.end()};
}

Result<PeerMessage> decode_peer_message(std::span<const std::byte> bytes) {
    if (bytes.size() != sizeof(Layout)) {
        return fail(Errc::protocol, "peer message: has {} bytes, expected {}", bytes.size(),
                    sizeof(Layout));
    }
    Layout in{};
    std::memcpy(&in, bytes.data(), sizeof in);
    if (in.version.value() != kVersion) {
        return fail(Errc::version, "peer message: version is {}, expected {}", in.version.value(),
                    kVersion);
    }
    if (const char* rule = broken_enum(in)) return broken(rule);
    if (!all_zero(in.reserved) || !all_zero(in.reserved_tail)) {
        return broken("reserved bytes are not zero");
    }
    PeerMessage message;
    message.kind = static_cast<PeerMessageKind>(in.kind.value());
    message.state = static_cast<SiteState>(in.state.value());
    message.disk = static_cast<DiskCopy>(in.disk.value());
    message.memory = static_cast<VmMemory>(in.memory.value());
    message.first_role = static_cast<FirstRole>(in.first_role.value());
    FT_TRY(message.pair, read_name(in.pair, "pair", false));
    FT_TRY(message.from.site, read_name(in.from_site, "from.site", false));
    FT_TRY(message.to.site, read_name(in.to_site, "to.site", true));
    message.from.incarnation = Incarnation(in.from_incarnation.value());
    message.to.incarnation = Incarnation(in.to_incarnation.value());
    message.epoch = Epoch(in.epoch.value());
    message.live_epoch = Epoch(in.live_epoch.value());
    message.store = StoreIdentity(in.store.value());
    message.previous_epoch = Epoch(in.previous_epoch.value());
    message.attempt = in.attempt.value();
    message.position = LogIndex(in.position.value());
    return message;
}

}  // namespace antipode::wire
