#include "common/env/posix/line_socket.h"

#include <array>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>

#include "common/env/posix/unix_socket.h"

namespace antipode::env {
namespace {

using testing::HasSubstr;

constexpr LineSocketKind kKind{.name = "test socket",
                               .mode = 0640,
                               .connections_max = 2,
                               .line_bytes_max = 32,
                               .answer_bytes_max = 100'000,
                               .answer_limit = std::chrono::seconds(1)};

class LineSocketTest : public testing::Test {
  protected:
    LineSocketTest() {
        std::string pattern = std::filesystem::temp_directory_path() / "line-socket-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
        path_ = directory_ + "/socket";
    }
    ~LineSocketTest() override {
        stop();
        std::filesystem::remove_all(directory_);
    }
    // Answers "echo X" at once, "later X" from another thread, "long" with more than is taken, and
    // nothing else ever.
    void start() {
        auto started = LineSocket::start(
            context_, kKind, path_, [this](const std::string& line, LineSocket::Reply reply) {
                if (line.starts_with("echo ")) return reply(line.substr(5) + "!");
                if (line == "long") return reply(std::string(kKind.answer_bytes_max + 1, 'x'));
                if (!line.starts_with("later ")) return unanswered_.push_back(std::move(reply));
                others_.push_back(
                    std::async(std::launch::async, [reply, line] { reply(line.substr(6) + "?"); }));
            });
        ASSERT_TRUE(started) << started.error().to_string();
        socket_ = std::move(*started);
        thread_ = std::thread([this] { context_.run(); });
    }
    void stop() {
        if (!thread_.joinable()) return;
        boost::asio::post(context_, [this] {
            socket_.reset();
            unanswered_.clear();
        });
        thread_.join();
        others_.clear();
        context_.restart();
    }
    std::string ask(const std::string& line) {
        auto answer = LineSocket::ask(kKind, path_, line);
        return answer ? *answer : answer.error().to_string();
    }
    // Sends, and reads until the other side has closed.
    std::string read_all(const UniqueFd& fd, const std::string& text) {
        (void)::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
        std::string out;
        std::array<char, 4096> bytes;
        for (ssize_t got = 1; got > 0;) {
            got = ::recv(fd.get(), bytes.data(), bytes.size(), 0);
            if (got > 0) out.append(bytes.data(), static_cast<size_t>(got));
        }
        return out;
    }
    UniqueFd connect() {
        auto fd = connect_unix(path_, "test");
        EXPECT_TRUE(fd) << fd.error().to_string();
        return fd ? std::move(*fd) : UniqueFd();
    }

    std::string directory_;
    std::string path_;
    boost::asio::io_context context_{1};
    std::unique_ptr<LineSocket> socket_;
    std::vector<LineSocket::Reply> unanswered_;
    std::vector<std::future<void>> others_;
    std::thread thread_;
};

TEST_F(LineSocketTest, AnswersAtOnceAndFromAnotherThread) {
    start();
    EXPECT_EQ(ask("echo one"), "one!");
    EXPECT_EQ(ask("later two"), "two?");
    EXPECT_THAT(ask("long"), HasSubstr("an answer of more than 100000 bytes"));
}

TEST_F(LineSocketTest, WhoGoesBeyondABoundIsCutOff) {
    start();
    // Neither a line of any length, nor half of one, nor one that is never answered.
    EXPECT_EQ(read_all(connect(), std::string(100, 'x')), "");
    EXPECT_EQ(read_all(connect(), "half"), "");
    EXPECT_EQ(read_all(connect(), "never\n"), "");
    EXPECT_EQ(ask("echo still here"), "still here!");
}

TEST_F(LineSocketTest, OneTooManyIsTurnedAway) {
    start();
    const UniqueFd first = connect();
    const UniqueFd second = connect();
    // A connection is admitted before what comes after it is looked at.
    EXPECT_EQ(read_all(connect(), "echo third\n"), "");
    EXPECT_EQ(read_all(first, "echo first\n"), "first!");
    EXPECT_EQ(read_all(second, "echo second\n"), "second!");
}

TEST_F(LineSocketTest, TheFileIsItsOwnAlone) {
    start();
    EXPECT_EQ(std::filesystem::status(path_).permissions(), std::filesystem::perms(0640));
    boost::asio::io_context other;
    const auto nothing = [](const std::string&, const LineSocket::Reply&) {};
    const auto again = LineSocket::start(other, kKind, path_, nothing);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, Errc::already_exists);
    EXPECT_THAT(again.error().context, HasSubstr("test socket " + path_ + ": another process"));
    stop();
    EXPECT_FALSE(std::filesystem::exists(path_));
    const auto gone = LineSocket::ask(kKind, path_, "echo");
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().code, Errc::not_found);
}

// What cannot be accepted stays readable: to try again at once is to do nothing else.
TEST_F(LineSocketTest, WithoutDescriptorsItWaits) {
    auto started =
        LineSocket::start(context_, kKind, path_,
                          [](const std::string& line, const auto& reply) { reply(line + "!"); });
    ASSERT_TRUE(started);
    // UBSan looks at each kind of object once, and needs descriptors for it.
    context_.run_for(std::chrono::milliseconds(10));
    const auto client = connect_unix(path_, "test");
    ASSERT_TRUE(client);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const int next = ::dup(client->get());
    ::close(next);
    const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    const size_t turns = context_.run_for(std::chrono::milliseconds(500));
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_LT(turns, 100u);
    ASSERT_EQ(::send(client->get(), "one\n", 4, 0), 4);
    context_.run_for(std::chrono::milliseconds(500));
    std::array<char, 16> bytes{};
    EXPECT_EQ(::recv(client->get(), bytes.data(), bytes.size(), MSG_DONTWAIT), 4);
    started->reset();
    context_.run_for(std::chrono::milliseconds(100));
}

TEST_F(LineSocketTest, AStaleFileIsReplacedAndAnotherKindRefused) {
    ASSERT_TRUE(bind_unix(path_, "test", 0600));  // and closed again
    start();
    EXPECT_EQ(ask("echo one"), "one!");
    stop();
    std::ofstream(path_) << "precious";
    const auto refused = bind_unix(path_, "test", 0600);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr("exists and is not a socket"));
    EXPECT_EQ(std::filesystem::file_size(path_), 8u);
    EXPECT_THAT(unix_address(std::string(200, 'x'), "test").error().context,
                HasSubstr("the path has 200 bytes"));
    EXPECT_FALSE(unix_address("", "test"));
}

}  // namespace
}  // namespace antipode::env
