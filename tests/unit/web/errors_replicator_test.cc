// What a broken replicator can do to the web daemon: it is shown as not answering, with the reason,
// and nothing else suffers.
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <fstream>
#include <gmock/gmock.h>

#include "tests/unit/web/app_fixture.h"

namespace antipode::web::test {
namespace {

using control::json::value;
using testing::HasSubstr;
namespace asio = boost::asio;

// Answers every line it gets with the same bytes, or not at all.
class Broken {
  public:
    Broken(asio::io_context& context, const std::string& path, std::string answer)
        : acceptor_(context, asio::local::stream_protocol::endpoint(path)),
          answer_(std::move(answer)) {
        accept();
    }
    void stop() {
        acceptor_.close();
        for (const auto& connection : connections_) connection->socket.close();
    }

  private:
    struct Connection {
        explicit Connection(asio::local::stream_protocol::socket s) : socket(std::move(s)) {}
        asio::local::stream_protocol::socket socket;
        std::string input;
    };
    void accept() {
        acceptor_.async_accept(
            [this](boost::system::error_code error, asio::local::stream_protocol::socket socket) {
                if (error) return;
                connections_.push_back(std::make_shared<Connection>(std::move(socket)));
                read(connections_.back());
                accept();
            });
    }
    void read(const std::shared_ptr<Connection>& connection) {
        asio::async_read_until(
            connection->socket, asio::dynamic_buffer(connection->input), '\n',
            [this, connection](boost::system::error_code error, size_t count) {
                if (error) return;
                connection->input.erase(0, count);
                if (answer_.empty()) return;
                asio::async_write(connection->socket, asio::buffer(answer_),
                                  [this, connection](boost::system::error_code failed, size_t) {
                                      if (!failed) read(connection);
                                  });
            });
    }

    asio::local::stream_protocol::acceptor acceptor_;
    const std::string answer_;
    std::vector<std::shared_ptr<Connection>> connections_;
};

class BrokenReplicator : public AppTest {
  protected:
    ~BrokenReplicator() override {
        if (thread_.joinable() && broken_) play([&] { broken_->stop(); });
        stop();
    }
    // The error that the pair is shown with.
    std::string error_for(std::string answer) {
        broken_ =
            std::make_unique<Broken>(context_, directory_ + "/a/broken.sock", std::move(answer));
        add_pair("sane");
        start();
        const value pair = eventually("/api/v1/pairs/broken", [](const value& seen) {
            return !seen.at("views").at(0).at("error").as_string().empty();
        });
        EXPECT_EQ(pair.at("word"), "unknown");
        EXPECT_FALSE(pair.at("views").at(0).at("reachable").as_bool());
        eventually("/api/v1/pairs/sane",
                   [](const value& seen) { return seen.at("word") == "protected"; });
        return std::string(pair.at("views").at(0).at("error").as_string());
    }
    std::unique_ptr<Broken> broken_;
};

TEST_F(BrokenReplicator, Garbage) {
    EXPECT_THAT(error_for("garbage\n"), HasSubstr("not JSON"));
}
TEST_F(BrokenReplicator, AnswerToAnotherQuestion) {
    EXPECT_THAT(error_for("{\"id\":77,\"result\":{}}\n"), HasSubstr("reply 77 to question 1"));
}
TEST_F(BrokenReplicator, NeitherResultNorError) {
    EXPECT_THAT(error_for("{\"id\":1}\n"), HasSubstr("neither result nor error"));
}
TEST_F(BrokenReplicator, AnError) {
    EXPECT_THAT(error_for("{\"id\":1,\"error\":{\"code\":\"busy\",\"message\":\"not now\"}}\n"),
                HasSubstr("not now"));
}
TEST_F(BrokenReplicator, AResultOfAnotherKind) {
    EXPECT_THAT(error_for("{\"id\":1,\"result\":[1,2]}\n"),
                HasSubstr("history: value: is an array"));
}
TEST_F(BrokenReplicator, NoEndOfLine) {
    EXPECT_THAT(error_for(std::string(control::kLineBytesMax + 10, ' ')),
                HasSubstr("the reply has over"));
}
TEST_F(BrokenReplicator, Silence) {
    EXPECT_THAT(error_for(""), HasSubstr("no answer within 5 s"));
}
TEST_F(BrokenReplicator, SilenceDoesNotHoldBackAShutdown) {
    broken_ = std::make_unique<Broken>(context_, directory_ + "/a/broken.sock", "");
    start();
    eventually("/api/v1/pairs",
               [](const value& list) { return list.at("items").as_array().size() == 1; });
    play([&] { broken_->stop(); });
    stop();
}
TEST_F(BrokenReplicator, AFileThatIsNoSocketIsNoPair) {
    std::ofstream(directory_ + "/a/file.sock") << "x";
    add_pair("sane");
    start();
    eventually("/api/v1/pairs/sane",
               [](const value& seen) { return seen.at("word") == "protected"; });
    EXPECT_EQ(get("/api/v1/pairs/file").status, 404);
}

}  // namespace
}  // namespace antipode::web::test
