// Clients that are let in and then break a rule: each gets one error that names it, and is cut;
// none of them costs another client anything.
#include <atomic>
#include <cstring>
#include <sys/socket.h>
#include <xxhash.h>

#include "tests/unit/tiebreaker/fixture.h"

namespace antipode::tiebreaker::testing {
namespace {

using std::chrono::milliseconds;

class SessionErrors : public ::testing::Test {
  protected:
    SessionErrors() {
        certificates_.tiebreaker("tb");
        certificates_.site("site-a");
        certificates_.site("site-b");
    }
    void start(std::function<void(Config&)> change = {}) {
        Config config = test_config(directory_, certificates_);
        if (change) change(config);
        daemon_.emplace(std::move(config));
        context_ = raw_context(certificates_.files("site-a"));
        client_.emplace(daemon_->port(), context_.get());
    }
    // The error that ends the connection.
    void expect_end(Errc code, std::string_view says) {
        const auto error = client_->expect<wire::ArbiterError>(0);
        EXPECT_EQ(error.code, code) << error.text;
        EXPECT_NE(error.text.find(says), std::string::npos) << error.text;
        EXPECT_TRUE(client_->hung_up());
        others_are_served();
    }
    void others_are_served() {
        const auto context = raw_context(certificates_.files("site-b"));
        RawClient other(daemon_->port(), context.get());
        other.hello("site-b");
        other.send(1, wire::ArbiterPing{});
        (void)other.expect<wire::ArbiterPong>(1);
    }
    static std::string frame(uint64_t number, wire::ArbiterBody body) {
        std::string bytes;
        wire::encode({number, {}, std::move(body)}, bytes);
        return bytes;
    }
    TempDirectory directory_;
    Certificates certificates_{directory_};
    std::optional<RunningDaemon> daemon_;
    SslContextPointer context_;
    std::optional<RawClient> client_;
};

// Who has one address of a /64 has as many as he likes: they are one origin. Mapped ones are IPv4.
TEST(HandshakeOrigin, IsWhatOneOwnerHas) {
    const auto origin = [](const char* address) {
        return handshake_origin(boost::asio::ip::make_address(address));
    };
    EXPECT_EQ(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff:1:2:3"));
    EXPECT_NE(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
    EXPECT_EQ(origin("::ffff:203.0.113.7"), origin("203.0.113.7"));
    EXPECT_NE(origin("203.0.113.7"), origin("203.0.113.8"));
    EXPECT_EQ(handshake_origin({}), "0.0.0.0");
}

// TLS takes them without telling us: whoever sends nothing else must keep nobody waiting.
TEST_F(SessionErrors, KeyUpdatesWithoutEnd) {
    start();
    client_->hello("site-a");
    std::atomic<bool> cut{false};
    std::thread flood([&] {
        while (client_->update_keys(100)) {
        }
        cut = true;
    });
    const Instant begin = MonotonicClock::now();
    std::chrono::duration<double> longest{};
    while (!cut && MonotonicClock::now() - begin < std::chrono::seconds(20)) {
        const Instant one = MonotonicClock::now();
        others_are_served();
        longest = std::max<std::chrono::duration<double>>(longest, MonotonicClock::now() - one);
    }
    EXPECT_TRUE(cut) << "it may go on for ever";
    if (!cut) ::shutdown(client_->descriptor(), SHUT_RDWR);
    flood.join();
    EXPECT_LT(longest.count(), 5.0);
    others_are_served();
}

TEST_F(SessionErrors, Garbage) {
    start();
    client_->send(std::string(1000, '\xa5'));
    expect_end(Errc::protocol, "does not begin with APTB");
}

TEST_F(SessionErrors, GarbageBehindAGoodFrame) {
    start();
    client_->hello("site-a");
    client_->send(frame(1, wire::ArbiterPing{}) + std::string(64, 'z'));
    (void)client_->expect<wire::ArbiterPong>(1);
    expect_end(Errc::protocol, "does not begin with APTB");
}

TEST_F(SessionErrors, ABitThatTipped) {
    start();
    client_->hello("site-a");
    std::string bytes = frame(1, wire::ArbiterWatch{Name::literal("web1"), member("site-a", 1)});
    bytes[80] = static_cast<char>(bytes[80] ^ 1);
    client_->send(bytes);
    expect_end(Errc::corrupt, "checksum");
}

TEST_F(SessionErrors, AnotherProtocol) {
    start();
    std::string bytes = frame(0, wire::ArbiterHello{Name::literal("site-a")});
    bytes[4] = 2;
    const uint64_t checksum = XXH64(bytes.data(), 48, 0);
    std::memcpy(bytes.data() + 48, &checksum, sizeof(checksum));
    client_->send(bytes);
    expect_end(Errc::version, "speaks protocol 2, this is 1");
}

// A header that promises two gigabytes is refused before a byte of them is waited for.
TEST_F(SessionErrors, AFrameLargerThanAny) {
    start();
    client_->hello("site-a");
    std::string bytes = frame(1, request(wire::RequestKind::query, "web1", 0, member("site-a", 1)));
    const uint32_t body_bytes = 0x7fffffff;
    std::memcpy(bytes.data() + 12, &body_bytes, sizeof(body_bytes));
    const uint64_t checksum = XXH64(bytes.data(), 48, 0);
    std::memcpy(bytes.data() + 48, &checksum, sizeof(checksum));
    client_->send(bytes.substr(0, wire::kArbiterHeaderBytes));
    expect_end(Errc::protocol, "are allowed");
}

TEST_F(SessionErrors, RequestBeforeHello) {
    start();
    client_->send(1, request(wire::RequestKind::query, "web1", 0, member("site-a", 1)));
    expect_end(Errc::protocol, "a request before the hello");
}

TEST_F(SessionErrors, HelloOfAnother) {
    start();
    client_->send(0, wire::ArbiterHello{Name::literal("site-b")});
    expect_end(Errc::denied, "the certificate names site-a, the hello site-b");
}

TEST_F(SessionErrors, SecondHello) {
    start();
    client_->hello("site-a");
    client_->send(0, wire::ArbiterHello{Name::literal("site-a")});
    expect_end(Errc::protocol, "a second hello");
}

TEST_F(SessionErrors, FramesThatOnlyATiebreakerSends) {
    for (const wire::ArbiterBody& body :
         {wire::ArbiterBody(wire::ArbiterPong{}), wire::ArbiterBody(wire::Answer{}),
          wire::ArbiterBody(wire::ArbiterError{Errc::io, "x"}),
          wire::ArbiterBody(wire::ArbiterWelcome{}),
          wire::ArbiterBody(wire::ArbiterRecord{Name::literal("web1"), {}})}) {
        start();
        client_->hello("site-a");
        client_->send(5, body);
        expect_end(Errc::protocol, "is not for a tiebreaker");
    }
}

TEST_F(SessionErrors, RequestWithoutNumber) {
    start();
    client_->hello("site-a");
    client_->send(0, request(wire::RequestKind::query, "web1", 0, member("site-a", 1)));
    expect_end(Errc::protocol, "without a number");
}

TEST_F(SessionErrors, NoHello) {
    start([](Config& config) { config.server.session.hello_limit = milliseconds(300); });
    expect_end(Errc::protocol, "no hello in time");
}

TEST_F(SessionErrors, HalfAFrame) {
    start([](Config& config) { config.server.session.frame_limit = milliseconds(300); });
    client_->hello("site-a");
    client_->send(frame(1, wire::ArbiterPing{}).substr(0, 20));
    expect_end(Errc::protocol, "began a frame");
}

// A byte now and then is no progress: the whole frame has its limit.
TEST_F(SessionErrors, AFrameThatTrickles) {
    start([](Config& config) { config.server.session.frame_limit = milliseconds(300); });
    client_->hello("site-a");
    const std::string bytes = frame(1, wire::ArbiterPing{});
    bool cut = false;
    for (size_t i = 0; i + 1 < bytes.size() && !cut; ++i) {
        cut = !client_->try_send(bytes.substr(i, 1));
        std::this_thread::sleep_for(milliseconds(40));
    }
    const auto error = client_->receive();
    const bool told = error && std::holds_alternative<wire::ArbiterError>(error->body);
    EXPECT_TRUE(cut || told) << "sixty bytes at their leisure were waited for";
    EXPECT_FALSE(error && std::holds_alternative<wire::ArbiterPong>(error->body));
    others_are_served();
}

// A half-open connection: the client's host is gone without a word.
TEST_F(SessionErrors, Silence) {
    start([](Config& config) { config.server.session.idle_limit = milliseconds(400); });
    client_->hello("site-a");
    EXPECT_TRUE(client_->hung_up());
    others_are_served();
}

// One that asks and asks and never reads: it is read no more, and cut when it takes nothing.
TEST_F(SessionErrors, NeverReadsItsAnswers) {
    start([](Config& config) {
        config.server.session.write_limit = milliseconds(500);
        config.server.session.requests_per_second = 1e6;
        config.server.session.requests_burst = 1e6;
    });
    const int small = 4096;
    ::setsockopt(client_->descriptor(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    client_->hello("site-a");
    std::string many;
    for (uint64_t i = 1; i <= 64; ++i) {
        many += frame(i, request(wire::RequestKind::query, "web1", 0, member("site-a", 1)));
    }
    // SSL_write blocks once nobody reads, and fails once we are cut: that is the end.
    const timeval limit{30, 0};
    ::setsockopt(client_->descriptor(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    bool cut = false;
    for (int i = 0; i < 100000 && !cut; ++i) cut = !client_->try_send(many);
    EXPECT_TRUE(cut);
    others_are_served();
}

// What it asks at once makes more answers than may stand by: it is read no more until they have
// left, and then it is read again.
TEST_F(SessionErrors, ManyAnswersAtOnceOnlyPauseIt) {
    start([](Config& config) { config.server.session.out_bytes_max = 1000; });
    client_->hello("site-a");
    const auto enrol =
        request(wire::RequestKind::create, "web1", 0, member("site-a", 1), member("site-b", 1));
    EXPECT_EQ(client_->ask(enrol).kind, wire::AnswerKind::paired);
    std::string many;
    for (uint64_t i = 1; i <= 60; ++i) {
        many += frame(i, wire::ArbiterWatch{Name::literal("web1"), member("site-a", 1)});
    }
    client_->send(many);
    for (uint64_t i = 1; i <= 60; ++i) (void)client_->expect<wire::ArbiterRecord>(i);
}

TEST_F(SessionErrors, MoreConnectionsThanAllowed) {
    start([](Config& config) { config.server.connections_per_site_max = 2; });
    client_->hello("site-a");
    RawClient second(daemon_->port(), context_.get());
    second.hello("site-a");
    RawClient third(daemon_->port(), context_.get());
    const auto error = third.expect<wire::ArbiterError>(0);
    EXPECT_EQ(error.code, Errc::limit);
    EXPECT_TRUE(third.hung_up());
    others_are_served();
}

TEST_F(SessionErrors, NoRoomAtAll) {
    start([](Config& config) { config.server.connections_max = 1; });
    client_->hello("site-a");
    RawClient second(daemon_->port(), nullptr);
    char byte = 0;
    EXPECT_LE(::recv(second.descriptor(), &byte, 1, 0), 0);
    client_->send(3, wire::ArbiterPing{});
    (void)client_->expect<wire::ArbiterPong>(3);
}

// Silent connections fill the table of handshakes; whoever shakes hands at once gets in all the
// same.
TEST_F(SessionErrors, AFloodOfHalfHandshakes) {
    start([](Config& config) {
        config.listener.handshakes_max = 8;
        config.listener.handshake_limit = std::chrono::minutes(5);
    });
    std::vector<std::unique_ptr<RawClient>> silent;
    for (int i = 0; i < 40; ++i) {
        silent.push_back(std::make_unique<RawClient>(daemon_->port(), nullptr));
    }
    others_are_served();
    char byte = 0;
    EXPECT_EQ(::recv(silent.front()->descriptor(), &byte, 1, 0), 0) << "the oldest gave way";
}

// More than its rate: nothing is refused and nothing lost, it is only made to wait.
TEST_F(SessionErrors, FasterThanItsRateIsSlowedDown) {
    start([](Config& config) {
        config.server.session.requests_per_second = 100;
        config.server.session.requests_burst = 10;
    });
    client_->hello("site-a");
    std::string many;
    for (uint64_t i = 1; i <= 60; ++i) many += frame(i, wire::ArbiterPing{});
    const auto begin = std::chrono::steady_clock::now();
    client_->send(many);
    for (uint64_t i = 1; i <= 60; ++i) (void)client_->expect<wire::ArbiterPong>(i);
    EXPECT_GT(std::chrono::steady_clock::now() - begin, milliseconds(300));
}

TEST_F(SessionErrors, ASitesRateIsSharedByItsConnections) {
    start([](Config& config) {
        config.server.site_requests_per_second = 100;
        config.server.site_requests_burst = 10;
    });
    client_->hello("site-a");
    RawClient second(daemon_->port(), context_.get());
    second.hello("site-a");
    std::string many;
    for (uint64_t i = 1; i <= 30; ++i) many += frame(i, wire::ArbiterPing{});
    const auto begin = std::chrono::steady_clock::now();
    client_->send(many);
    second.send(many);
    for (uint64_t i = 1; i <= 30; ++i) (void)client_->expect<wire::ArbiterPong>(i);
    for (uint64_t i = 1; i <= 30; ++i) (void)second.expect<wire::ArbiterPong>(i);
    EXPECT_GT(std::chrono::steady_clock::now() - begin, milliseconds(300));
}

}  // namespace
}  // namespace antipode::tiebreaker::testing
