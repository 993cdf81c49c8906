// Live data for pages: server-sent events, rendered once and handed to every subscriber.
//
// A Subscription is one browser's queue. A browser that does not take what is sent (its queue
// passes kQueueBytesMax, or one write takes longer than the connection allows) is cut; EventSource
// comes back by itself and gets a fresh start, which is better than stale data.
//
// Threads: the web thread only.
// INVARIANTS: subscribers and each queue are bounded; publish() never waits.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace antipode::web {

using Message = std::shared_ptr<const std::string>;

// "event: NAME\ndata: ...\n\n"; `data` must be one line, as JSON is.
Message make_message(std::string_view name, std::string_view data);

class Subscription {
  public:
    static constexpr size_t kQueueBytesMax = size_t{1} << 20;

    // `owner` says on whose behalf: LiveHub::close_of() ends their streams with their session.
    Subscription(boost::asio::any_io_executor executor, std::vector<std::string> topics,
                 std::string owner)
        : wake_(std::move(executor)), topics_(std::move(topics)), owner_(std::move(owner)) {}

    const std::string& owner() const { return owner_; }

    void push(Message message);
    void close();
    bool closed() const { return closed_; }
    bool wants(std::string_view topic) const;
    // The next message; after `patience` without one a comment that keeps the way open; null =
    // closed.
    boost::asio::awaitable<Message> next(std::chrono::milliseconds patience);

  private:
    boost::asio::steady_timer wake_;
    const std::vector<std::string> topics_;
    const std::string owner_;
    std::deque<Message> queue_;
    size_t queued_bytes_ = 0;
    bool closed_ = false;
};

class LiveHub {
  public:
    explicit LiveHub(boost::asio::any_io_executor executor, size_t subscribers_max)
        : executor_(std::move(executor)), subscribers_max_(subscribers_max) {}

    // Errc::limit when every place is taken.
    Result<std::shared_ptr<Subscription>> subscribe(std::vector<std::string> topics,
                                                    std::string owner);
    void publish(std::string_view topic, const Message& message);
    // Is anybody there? Saves rendering what nobody reads.
    bool wanted(std::string_view topic) const;
    size_t subscriber_count() const;
    uint64_t cut_count() const { return cut_; }
    void close_all();
    void close_of(std::string_view owner);

  private:
    const boost::asio::any_io_executor executor_;
    const size_t subscribers_max_;
    std::vector<std::weak_ptr<Subscription>> subscribers_;
    uint64_t cut_ = 0;
};

}  // namespace antipode::web
