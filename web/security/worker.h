// The one thread beside the web thread: it computes password hashes, which are slow on purpose. The
// queue is bounded; over it, a login is refused instead of queued.
//
// Threads: call from the web thread; the work runs on the worker and must own what it touches.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>

#include "common/base/result.h"

namespace antipode::web {

class Worker {
  public:
    static constexpr int kQueuedMax = 8;

    // Errc::busy when the queue is full. `work` is a Result<T>().
    template <typename T, typename Work>
    boost::asio::awaitable<Result<T>> run(boost::asio::any_io_executor home, Work work) {
        if (queued_.load(std::memory_order_relaxed) >= kQueuedMax) {
            co_return fail(Errc::busy, "too many logins at once; try again in some seconds");
        }
        queued_.fetch_add(1, std::memory_order_relaxed);
        auto outcome = std::make_shared<Result<T>>(fail(Errc::closed, "not done"));
        auto start = [this, home, outcome, work = std::move(work)](auto handler) mutable {
            auto job = [this, home, outcome, work = std::move(work),
                        handler = std::move(handler)]() mutable {
                *outcome = work();
                queued_.fetch_sub(1, std::memory_order_relaxed);
                boost::asio::post(home, std::move(handler));
            };
            boost::asio::post(pool_, std::move(job));
        };
        co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(
            std::move(start), boost::asio::use_awaitable);
        co_return std::move(*outcome);
    }

    // Waits for what runs, drops nothing: queued handlers still complete on their home.
    void join() { pool_.join(); }

  private:
    boost::asio::thread_pool pool_{1};
    std::atomic<int> queued_{0};
};

}  // namespace antipode::web
