#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <fstream>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>

#include "common/base/unique_fd.h"
#include "replicator/control/control_server.h"

namespace antipode::control {
namespace {

using testing::HasSubstr;

class Handler : public ControlHandler {
  public:
    Result<json::value> handle(Method method, const json::object& params) override {
        switch (method) {
            case Method::status:
                return json::object{{"echo", params}};
            case Method::metrics:
                return json::string(2 * kLineBytesMax, 'x');
            default:
                return fail(Errc::unsupported, "not in this test");
        }
    }
};

// A client that blocks, with a bound on every read.
class Client {
  public:
    explicit Client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        const timeval limit{20, 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        connected_ =
            ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    }
    bool connected() const { return connected_; }
    bool send(std::string_view text) {
        while (!text.empty()) {
            const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            text.remove_prefix(static_cast<size_t>(sent));
        }
        return true;
    }
    // A line without its end; nullopt when the server has closed.
    std::optional<std::string> line() {
        std::array<char, 65536> chunk{};
        for (;;) {
            if (const size_t end = input_.find('\n'); end != std::string::npos) {
                std::string out = input_.substr(0, end);
                input_.erase(0, end + 1);
                return out;
            }
            const ssize_t count = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
            if (count <= 0) return std::nullopt;
            input_.append(chunk.data(), static_cast<size_t>(count));
        }
    }
    Reply ask(std::string_view request) {
        send(request);
        auto reply = parse_reply(line().value_or("closed"));
        return reply ? *reply : Reply{std::nullopt, fail(Errc::closed, "no reply")};
    }
    int fd() const { return fd_.get(); }

  private:
    UniqueFd fd_;
    bool connected_ = false;
    std::string input_;
};

class ControlServerTest : public testing::Test {
  protected:
    ControlServerTest() {
        std::string pattern = testing::TempDir() + "control-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
        settings_.path = directory_ + "/c.sock";
    }
    ~ControlServerTest() override {
        stop();
        ::unlink(settings_.path.c_str());
        ::rmdir(directory_.c_str());
    }

    void start() {
        auto server = ControlServer::start(context_, settings_, handler_);
        ASSERT_TRUE(server) << server.error().to_string();
        server_ = std::move(*server);
        thread_ = std::thread([this] { context_.run(); });
    }
    void stop() {
        if (!thread_.joinable()) return;
        boost::asio::post(context_, [this] { server_->stop(); });
        thread_.join();  // run() returns: nothing of the server is left pending
        server_.reset();
    }
    template <typename Function>
    auto on_loop(Function function) {
        std::promise<decltype(function())> promise;
        auto future = promise.get_future();
        boost::asio::post(context_, [&] { promise.set_value(function()); });
        return future.get();
    }

    boost::asio::io_context context_;
    Handler handler_;
    ControlServerSettings settings_;
    std::string directory_;
    std::unique_ptr<ControlServer> server_;
    std::thread thread_;
};

TEST_F(ControlServerTest, AnswersOneRequestALine) {
    start();
    Client client(settings_.path);
    ASSERT_TRUE(client.connected());
    for (uint64_t id = 1; id < 50; ++id) {
        const Reply reply = client.ask(request_line(id, Method::status, json::object{{"n", id}}));
        ASSERT_TRUE(reply.result) << reply.result.error().to_string();
        EXPECT_EQ(reply.id, id);
        EXPECT_EQ(reply.result->at("echo").at("n").to_number<uint64_t>(), id);
    }
    // Many requests in one write are answered in order.
    std::string many;
    for (uint64_t id = 1; id <= 20; ++id) many += request_line(id, Method::status, json::object());
    client.send(many);
    for (uint64_t id = 1; id <= 20; ++id) EXPECT_EQ(parse_reply(*client.line())->id, id);
    const Reply refused = client.ask(request_line(9, Method::pause, json::object()));
    ASSERT_FALSE(refused.result);
    EXPECT_EQ(refused.result.error().code, Errc::unsupported);
}

TEST_F(ControlServerTest, SaysWhatIsWrongAndGoesOn) {
    start();
    Client client(settings_.path);
    const std::pair<const char*, const char*> cases[] = {
        {"\n", "not JSON"},
        {"GET / HTTP/1.1\r\n", "not JSON"},
        {"\xff\xfe\x80\n", "not JSON"},
        {"{\"id\":3,\"method\":\"nothing\"}\n", "method: unknown word 'nothing'"},
    };
    for (const auto& [text, message] : cases) {
        const Reply reply = client.ask(text);
        ASSERT_FALSE(reply.result) << text;
        EXPECT_EQ(reply.result.error().code, Errc::invalid_argument);
        EXPECT_THAT(reply.result.error().context, HasSubstr(message));
    }
    EXPECT_EQ(client.ask("{\"id\":3,\"method\":\"nothing\"}\n").id, 3u);
    EXPECT_TRUE(client.ask(request_line(1, Method::status, json::object())).result);
}

TEST_F(ControlServerTest, ALineOverTheBoundIsRefusedAndTheConnectionClosed) {
    start();
    Client client(settings_.path);
    client.send(std::string(kLineBytesMax + 100'000, ' '));  // the end may meet a closed socket
    const auto line = client.line();
    ASSERT_TRUE(line);
    const auto reply = parse_reply(*line);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->result.error().code, Errc::limit);
    EXPECT_FALSE(client.line());
    Client next(settings_.path);
    EXPECT_TRUE(next.ask(request_line(1, Method::status, json::object())).result);
}

TEST_F(ControlServerTest, AReplyOverTheBoundBecomesAnError) {
    start();
    Client client(settings_.path);
    const Reply reply = client.ask(request_line(1, Method::metrics, json::object()));
    ASSERT_FALSE(reply.result);
    EXPECT_EQ(reply.result.error().code, Errc::limit);
}

TEST_F(ControlServerTest, ConnectionsAreBounded) {
    settings_.connections_max = 3;
    start();
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 3; ++i) {
        clients.push_back(std::make_unique<Client>(settings_.path));
        EXPECT_TRUE(clients.back()->ask(request_line(1, Method::status, json::object())).result);
    }
    Client over(settings_.path);
    const auto line = over.line();
    ASSERT_TRUE(line);
    EXPECT_THAT(*line, HasSubstr("3 connections are open"));
    EXPECT_FALSE(over.line());
    EXPECT_EQ(on_loop([&] { return server_->refused_count(); }), 1u);
    // One leaves, and there is room again.
    clients.pop_back();
    while (on_loop([&] { return server_->connection_count(); }) > 2) std::this_thread::yield();
    Client again(settings_.path);
    EXPECT_TRUE(again.ask(request_line(1, Method::status, json::object())).result);
}

TEST_F(ControlServerTest, ASlowRequestIsCut) {
    settings_.request_limit = std::chrono::milliseconds(100);
    start();
    Client client(settings_.path);
    ASSERT_TRUE(client.ask(request_line(1, Method::status, json::object())).result);
    // One byte at a time does not extend the limit; and it was the time, not the length, that ended
    // it.
    size_t sent = 0;
    while (client.send(" ")) ++sent;
    EXPECT_LT(sent, kLineBytesMax);
    EXPECT_EQ(on_loop([&] { return server_->refused_count(); }), 0u);
    EXPECT_FALSE(client.line());
}

TEST_F(ControlServerTest, AnIdleConnectionIsClosed) {
    settings_.idle_limit = std::chrono::milliseconds(50);
    start();
    Client client(settings_.path);
    EXPECT_FALSE(client.line());
}

TEST_F(ControlServerTest, AClientThatDoesNotReadIsCut) {
    settings_.write_limit = std::chrono::milliseconds(100);
    start();
    Client client(settings_.path);
    const int small = 4096;
    ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    const std::string text(900'000, 'x');
    const std::string request = request_line(1, Method::status, json::object{{"x", text}});
    client.send(request);
    // Its reply of 900 kB is never read; the server lets go of it by itself.
    while (on_loop([&] { return server_->connection_count(); }) > 0) std::this_thread::yield();
}

TEST_F(ControlServerTest, TheSocketFileIsOursAlone) {
    start();
    struct stat info {};
    ASSERT_EQ(::stat(settings_.path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660u);
    boost::asio::io_context other;
    auto second = ControlServer::start(other, settings_, handler_);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::already_exists);
    EXPECT_THAT(second.error().context, HasSubstr("another process serves it"));
    stop();
    EXPECT_NE(::stat(settings_.path.c_str(), &info), 0);
}

TEST_F(ControlServerTest, AStaleFileIsReplacedAndAnotherKindRefused) {
    {
        const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        settings_.path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
                  0);
    }
    start();
    Client client(settings_.path);
    EXPECT_TRUE(client.ask(request_line(1, Method::status, json::object())).result);
    stop();

    std::ofstream(settings_.path) << "precious";
    auto refused = ControlServer::start(context_, settings_, handler_);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr("exists and is not a socket"));
    std::ifstream kept(settings_.path);
    std::string text;
    kept >> text;
    EXPECT_EQ(text, "precious");
}

TEST_F(ControlServerTest, BadPathsAndGroupsAreNamed) {
    ControlServerSettings bad = settings_;
    bad.path = std::string(200, 'x');
    auto refused = ControlServer::start(context_, bad, handler_);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr("path has 200 bytes"));
    bad = settings_;
    bad.group = "no-such-group-here";
    refused = ControlServer::start(context_, bad, handler_);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr("no group 'no-such-group-here'"));
    struct stat info {};
    EXPECT_NE(::stat(bad.path.c_str(), &info), 0);  // nothing half-started left behind
    bad.path = directory_ + "/missing/c.sock";
    refused = ControlServer::start(context_, bad, handler_);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr("No such file"));
}

}  // namespace
}  // namespace antipode::control
