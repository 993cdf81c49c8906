// Asks one replicator over its control socket. A client holds one connection and one question at a
// time.
//
// Threads: the web thread only.
// INVARIANTS
//   - Connecting and each question are bounded in time, each reply in bytes.
//   - After any failure the connection is closed: a late reply can never be taken for the next one.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <chrono>
#include <string>

#include "replicator/control/control_api.h"

namespace antipode::web {

class ControlClient {
  public:
    static constexpr auto kQuestionLimit = std::chrono::seconds(5);

    ControlClient(boost::asio::any_io_executor executor, std::string path)
        : path_(std::move(path)), stream_(std::move(executor)) {}

    boost::asio::awaitable<Result<>> connect();
    // Connects when it is not connected.
    boost::asio::awaitable<Result<control::json::value>> ask(control::Method method,
                                                             control::json::value params);
    void close();
    bool connected() const { return connected_; }

  private:
    boost::asio::awaitable<Result<control::json::value>> exchange(std::string request);

    const std::string path_;
    boost::beast::basic_stream<boost::asio::local::stream_protocol> stream_;
    std::string input_;
    uint64_t last_id_ = 0;
    bool connected_ = false;
};

}  // namespace antipode::web
