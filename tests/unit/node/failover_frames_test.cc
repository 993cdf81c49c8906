#include "common/wire/failover_frames.h"

#include <gtest/gtest.h>

namespace antipode::wire {
namespace {

PeerMessage example() {
    PeerMessage message;
    message.kind = PeerMessageKind::seed_loaded;
    message.pair = Name::literal("web1");
    message.epoch = Epoch(0x0102030405060708);
    message.from = {Name::literal("site-a"), Incarnation(11)};
    message.to = {Name::literal("site-b"), Incarnation(12)};
    message.state = SiteState::pairing;
    message.live_epoch = Epoch(6);
    message.disk = DiskCopy::complete;
    message.memory = VmMemory::kept;
    message.first_role = FirstRole::backup;
    message.store = StoreIdentity(99);
    message.attempt = 3;
    message.position = LogIndex(1234);
    return message;
}

TEST(FailoverFrames, ComeBackAsTheyWere) {
    const auto bytes = encode(example());
    ASSERT_EQ(bytes.size(), kPeerMessageBytes);
    const auto back = decode_peer_message(bytes);
    ASSERT_TRUE(back.has_value()) << back.error().to_string();
    EXPECT_EQ(*back, example());
}

TEST(FailoverFrames, GoldenBytes) {
    const auto bytes = encode(example());
    EXPECT_EQ(bytes[0], std::byte{1});  // version
    EXPECT_EQ(bytes[1], static_cast<std::byte>(PeerMessageKind::seed_loaded));
    EXPECT_EQ(bytes[8], std::byte{'w'});             // pair
    EXPECT_EQ(bytes[8 + 96 + 16], std::byte{0x08});  // epoch, little endian
    EXPECT_EQ(bytes[8 + 96 + 23], std::byte{0x01});
}

TEST(FailoverFrames, EveryChangedByteIsRefusedOrAnotherCanonicalMessage) {
    const auto good = encode(example());
    for (size_t i = 0; i < good.size(); ++i) {
        for (const unsigned bit : {0u, 3u, 7u}) {
            auto bytes = good;
            bytes[i] ^= static_cast<std::byte>(1u << bit);
            const auto decoded = decode_peer_message(bytes);
            if (decoded) {
                EXPECT_EQ(encode(*decoded), bytes) << "byte " << i;
            }
        }
    }
}

TEST(FailoverFrames, OtherLengthsAreRefused) {
    auto bytes = encode(example());
    bytes.pop_back();
    EXPECT_EQ(decode_peer_message(bytes).error().code, Errc::protocol);
    bytes.resize(kPeerMessageBytes + 1);
    EXPECT_EQ(decode_peer_message(bytes).error().code, Errc::protocol);
    EXPECT_EQ(decode_peer_message({}).error().code, Errc::protocol);
}

}  // namespace
}  // namespace antipode::wire
