#include "common/wire/heartbeat.h"

#include <algorithm>
#include <boost/endian/buffers.hpp>
#include <cstring>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/base/check.h"

namespace antipode::wire {
namespace {

using boost::endian::little_uint32_buf_t;
using boost::endian::little_uint64_buf_t;
using boost::endian::little_uint8_buf_t;

constexpr uint32_t kMagic = 0x31685041;  // "APh1"
constexpr uint8_t kVersion = 1;

struct Layout {
    little_uint32_buf_t magic;
    little_uint8_buf_t version;
    little_uint8_buf_t path;
    std::array<uint8_t, 2> reserved;
    little_uint64_buf_t pair;
    std::array<char, Name::kBytes> site;
    little_uint64_buf_t from;
    little_uint64_buf_t to;
    little_uint64_buf_t epoch;
    little_uint64_buf_t sequence;
    little_uint64_buf_t sent_ns;
    little_uint64_buf_t echo_sequence;
    little_uint64_buf_t echo_sent_ns;
    little_uint64_buf_t echo_hold_ns;
    std::array<uint8_t, 32> reserved_tail;
};
static_assert(sizeof(Layout) == kHeartbeatFieldBytes);
static_assert(alignof(Layout) == 1);

using Mac = std::array<std::byte, kHeartbeatMacBytes>;

Mac mac_of(std::span<const std::byte> fields, const HeartbeatKey& key) {
    Mac mac;
    unsigned int length = 0;
    const unsigned char* made =
        HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(fields.data()), fields.size(),
             reinterpret_cast<unsigned char*>(mac.data()), &length);
    FT_CHECK(made != nullptr && length == mac.size(), "OpenSSL makes no HMAC-SHA256");
    return mac;
}

Failure broken(const char* rule) {
    return fail(Errc::protocol, "heartbeat: {}", rule);
}

}  // namespace

HeartbeatBytes seal(const HeartbeatPacket& packet, const HeartbeatKey& key) {
    Layout out{};
    out.magic = kMagic;
    out.version = kVersion;
    out.path = packet.path;
    out.pair = packet.pair.value();
    out.site = packet.from.site.bytes();
    out.from = packet.from.incarnation.value();
    out.to = packet.to.value();
    out.epoch = packet.epoch.value();
    out.sequence = packet.sequence;
    out.sent_ns = packet.sent_ns;
    out.echo_sequence = packet.echo_sequence;
    out.echo_sent_ns = packet.echo_sent_ns;
    out.echo_hold_ns = packet.echo_hold_ns;
    HeartbeatBytes bytes;
    std::memcpy(bytes.data(), &out, sizeof out);
    const Mac mac = mac_of(std::span(bytes).first<kHeartbeatFieldBytes>(), key);
    std::copy(mac.begin(), mac.end(), bytes.begin() + kHeartbeatFieldBytes);
    return bytes;
}

Result<HeartbeatPacket> open(std::span<const std::byte> datagram, const HeartbeatKey& key) {
    if (datagram.size() != kHeartbeatBytes) return broken("not of a heartbeat's length");
    const auto fields = datagram.first(kHeartbeatFieldBytes);
    const Mac mac = mac_of(fields, key);
    if (CRYPTO_memcmp(mac.data(), datagram.data() + kHeartbeatFieldBytes, mac.size()) != 0) {
        return fail(Errc::denied, "heartbeat: made with another key");
    }
    Layout in;
    std::memcpy(&in, fields.data(), sizeof in);
    if (in.magic.value() != kMagic) return broken("magic is wrong");
    if (in.version.value() != kVersion) {
        return fail(Errc::version, "heartbeat: version {}, expected {}", in.version.value(),
                    kVersion);
    }
    const auto is_zero = [](uint8_t b) { return b == 0; };
    if (!std::all_of(in.reserved.begin(), in.reserved.end(), is_zero) ||
        !std::all_of(in.reserved_tail.begin(), in.reserved_tail.end(), is_zero)) {
        return broken("reserved bytes are not zero");
    }
    HeartbeatPacket packet;
    packet.path = in.path.value();
    if (packet.path >= kHeartbeatPathsMax) return broken("path is above its limit");
    packet.pair = PairId(in.pair.value());
    const size_t length = strnlen(in.site.data(), in.site.size());
    if (std::any_of(in.site.begin() + static_cast<ptrdiff_t>(length), in.site.end(),
                    [](char c) { return c != 0; })) {
        return broken("site has bytes behind its end");
    }
    FT_TRY(packet.from.site, Name::parse({in.site.data(), length}, "heartbeat: site"));
    packet.from.incarnation = Incarnation(in.from.value());
    if (packet.from.incarnation == Incarnation()) return broken("incarnation is 0");
    packet.to = Incarnation(in.to.value());
    packet.epoch = Epoch(in.epoch.value());
    packet.sequence = in.sequence.value();
    if (packet.sequence == 0) return broken("sequence is 0");
    packet.sent_ns = in.sent_ns.value();
    packet.echo_sequence = in.echo_sequence.value();
    packet.echo_sent_ns = in.echo_sent_ns.value();
    packet.echo_hold_ns = in.echo_hold_ns.value();
    return packet;
}

}  // namespace antipode::wire
