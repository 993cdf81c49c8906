// Hooks: what this site tells others when something happens to a VM, such as moving a DNS name or a
// route when it went live here. A hook is a command or a webhook of web.toml, for events by their
// stable codes.
//
//     event -> the hook's queue -> attempt -> ok
//                                          -> failed: again, after 2, 4, 8... s, up to `attempts`
//
// Each hook has a queue of its own and does one thing after the other, so that what it says arrives
// in the order in which it happened. Every attempt's result is kept, and shown.
//
// Threads: the web thread; commands run on a worker.
// INVARIANTS
//   - An attempt is bounded in time, a queue in length: what does not fit is recorded as dropped.
//   - At least once: an event that came while this daemon was down is told when it is learned of,
//     unless it is older than kOldMs by then.
//   - Only web.toml names commands and addresses.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "web/events.h"
#include "web/security/worker.h"
#include "web/settings.h"
#include "web/store/database.h"

namespace antipode::web {

struct HookResult {
    int64_t id = 0;
    std::string hook;
    std::string pair;
    std::string site;
    std::string code;  // of the event; "test"
    int attempt = 1;
    std::string outcome;  // ok, failed, dropped
    std::string text;     // "exit code 1", "status 503"
    std::string output;
    int64_t began_unix_ms = 0;
    int64_t took_ms = 0;
};
json::object to_json(const HookResult& result);
json::object to_json(const HookSettings& hook);  // without secrets

class Hooks {
  public:
    static constexpr int64_t kKept = 2000;
    static constexpr size_t kQueuedMax = 64;
    static constexpr int64_t kOldMs = 60 * 60 * 1000;

    Hooks(boost::asio::any_io_executor executor, const std::vector<HookSettings>& settings,
          Database& database);
    ~Hooks();

    void see(const StoredEvent& event);
    void stop();
    std::function<void(const HookResult&)> on_result;

    const std::vector<HookSettings>& settings() const { return settings_; }
    // One attempt, now, with an event of the code "test".
    boost::asio::awaitable<Result<HookResult>> test(std::string hook);
    struct Filter {
        std::optional<std::string> hook;
        int64_t before = 0;  // id
        int64_t limit = 100;
    };
    Result<std::vector<HookResult>> results(const Filter& filter) const;  // newest first

  private:
    struct Queue {
        explicit Queue(boost::asio::any_io_executor executor) : timer(std::move(executor)) {}
        std::deque<PairEvent> waiting;
        bool runs = false;
        boost::asio::steady_timer timer;  // before the next attempt
    };

    boost::asio::awaitable<void> work(size_t index);
    boost::asio::awaitable<void> tell(size_t index, PairEvent event);
    boost::asio::awaitable<HookResult> attempt(const HookSettings& hook, PairEvent event,
                                               std::string code);
    boost::asio::awaitable<void> run_command(const HookSettings& hook, const PairEvent& event,
                                             HookResult& result);
    boost::asio::awaitable<void> call_webhook(const HookSettings& hook, const PairEvent& event,
                                              HookResult& result);
    void record(HookResult& result);

    const boost::asio::any_io_executor executor_;
    const std::vector<HookSettings>& settings_;
    Database& database_;
    std::vector<std::unique_ptr<Queue>> queues_;  // one a hook
    Worker worker_;
    bool stopped_ = false;
    std::shared_ptr<std::atomic<bool>> given_up_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace antipode::web
