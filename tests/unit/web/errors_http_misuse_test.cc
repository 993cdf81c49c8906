// What a broken or hostile client can do to the web daemon: each is cut or answered, and the next
// client is served as if nothing had been.
#include <gmock/gmock.h>

#include "common/base/random.h"
#include "tests/unit/web/app_fixture.h"

namespace antipode::web::test {
namespace {

using testing::HasSubstr;

class HttpMisuse : public AppTest {
  protected:
    void expect_alive() { EXPECT_EQ(get("/healthz").body, "ok\n"); }
    std::optional<RawResponse> answer_to(std::string_view bytes) {
        RawClient client(port_);
        client.send(bytes);
        return client.response();
    }
};

TEST_F(HttpMisuse, BytesThatAreNoRequestGetAProblem) {
    start();
    for (const char* bytes :
         {"hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x01\x01\xfc\x03\x03\r\n\r\n",
          "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
          "GET / HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n"}) {
        const auto answer = answer_to(bytes);
        ASSERT_TRUE(answer) << bytes;
        EXPECT_EQ(answer->status, 400) << bytes;
        EXPECT_THAT(answer->body, HasSubstr("/problems/bad-request"));
    }
    for (const char* bytes :
         {"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
          "GET //x HTTP/1.1\r\nHost: localhost\r\n\r\n",
          "GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
          "GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n"}) {
        const auto answer = answer_to(bytes);
        ASSERT_TRUE(answer) << bytes;
        EXPECT_EQ(answer->status, 400) << bytes;
    }
    expect_alive();
}

TEST_F(HttpMisuse, RequestSmugglingIsRefused) {
    start();
    const auto answer = answer_to(
        "POST /api/v1/pairs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 400);
    expect_alive();
}

TEST_F(HttpMisuse, TooLargeIsRefusedByName) {
    settings_.server.body_bytes_max = 10'000;
    start();
    auto answer = answer_to("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(40'000, 'x') +
                            "\r\n\r\n");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 431);
    answer = answer_to("GET /" + std::string(40'000, 'x') + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 431);
    answer = answer_to("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 413);
    RawClient chunked(port_);
    chunked.send("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 20; ++i) chunked.send("400\r\n" + std::string(1024, 'x') + "\r\n");
    const auto refused = chunked.response();
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 413);
    expect_alive();
}

TEST_F(HttpMisuse, ASlowRequestIsCut) {
    settings_.server.request_limit = std::chrono::milliseconds(100);
    start();
    RawClient client(port_);
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
    size_t sent = 0;
    while (client.send("x")) ++sent;  // a byte at a time does not extend the limit
    EXPECT_TRUE(client.closed());
    expect_alive();
}

TEST_F(HttpMisuse, AnIdleConnectionIsClosed) {
    settings_.server.idle_limit = std::chrono::milliseconds(50);
    start();
    RawClient silent(port_);
    EXPECT_TRUE(silent.closed());
    RawClient once(port_);
    once.get("/healthz");
    ASSERT_TRUE(once.response());
    EXPECT_TRUE(once.closed());
}

TEST_F(HttpMisuse, ASubscriberThatDoesNotReadIsCut) {
    settings_.server.write_limit = std::chrono::milliseconds(200);
    add_pair("web1");
    start();
    RawClient client(port_, 4096);
    client.get("/api/v1/live?pair=web1");
    ASSERT_TRUE(client.until("event: overview"));
    // It never reads again. What it is owed grows until the write limit or the queue's bound ends
    // it.
    const auto subscribers = [&] {
        const std::string metrics = get("/metrics").body;
        return metrics.find("antipode_web_live_subscribers{} 0\n") == std::string::npos;
    };
    while (subscribers()) {
        play([&] {
            for (int i = 0; i < 200; ++i) pairs_["web1"]->diverge();
        });
    }
    expect_alive();
}

TEST_F(HttpMisuse, ConnectionsAreBounded) {
    settings_.server.connections_max = 4;
    start();
    {
        std::vector<std::unique_ptr<RawClient>> clients;
        for (int i = 0; i < 4; ++i) {
            clients.push_back(std::make_unique<RawClient>(port_));
            clients.back()->get("/healthz");
            ASSERT_TRUE(clients.back()->response());
        }
        RawClient over(port_);
        over.get("/healthz");
        EXPECT_FALSE(over.response());
    }
    // Room again as soon as the server has seen them leave.
    for (;;) {
        RawClient next(port_);
        next.get("/healthz");
        if (next.response()) break;
    }
}

TEST_F(HttpMisuse, ManyRequestsInOneWriteAreAnsweredInOrder) {
    start();
    RawClient client(port_);
    std::string many;
    for (int i = 0; i < 50; ++i) {
        many += fmt::format("GET /nothing/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", i);
    }
    client.send(many);
    for (int i = 0; i < 50; ++i) {
        const auto answer = client.response();
        ASSERT_TRUE(answer);
        EXPECT_THAT(answer->body, HasSubstr(fmt::format("/nothing/{}\"", i)));
    }
}

TEST_F(HttpMisuse, RandomBytesNeverStopIt) {
    start();
    Random random(20);
    const std::string seed =
        "GET /api/v1/pairs?limit=3 HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \"x\"\r\n"
        "Cookie: a=b\r\nContent-Length: 3\r\n\r\nabc";
    for (int i = 0; i < 400; ++i) {
        std::string bytes = seed;
        const uint64_t changes = random.between(1, 12);
        for (uint64_t change = 0; change < changes; ++change) {
            bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
        }
        RawClient client(port_);
        client.send(bytes);
        ::shutdown(client.fd(), SHUT_WR);
        EXPECT_TRUE(client.closed());
    }
    expect_alive();
}

TEST_F(HttpMisuse, ItStopsWithConnectionsOpen) {
    add_pair("web1");
    start();
    RawClient live(port_);
    live.get("/api/v1/live?pair=web1");
    ASSERT_TRUE(live.until("event: overview"));
    RawClient half(port_);
    half.send("GET / HTTP/1.1\r\nHos");
    RawClient silent(port_);
    stop();
    EXPECT_TRUE(live.closed());
    EXPECT_TRUE(half.closed());
    EXPECT_TRUE(silent.closed());
}

}  // namespace
}  // namespace antipode::web::test
