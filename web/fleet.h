// Every replicator on this host, as the web daemon sees it: finds the control sockets, asks each
// once a second, keeps the last status, fifteen minutes of samples and the latest events. Pages,
// REST and /metrics are served from here, so that a thousand readers cost a replicator no more than
// one.
//
// Threads: the web thread only.
// INVARIANTS
//   - Views, samples and events are bounded.
//   - A status older than its socket's last failure is shown as not reachable, never as the
//   present.
//   - Samples and event identifiers only grow; a replicator's restart leaves a gap, no jump back.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "replicator/control/control_api.h"
#include "web/headline.h"

namespace antipode::web {

struct FleetSettings {
    std::vector<std::string> directories{"/run/antipode"};
    size_t views_max = 256;
    std::chrono::milliseconds poll_interval = std::chrono::seconds(1);
    std::chrono::milliseconds rescan_interval = std::chrono::seconds(2);
    size_t samples_max = 15 * 60;
};

// An event with the place it comes from.
struct PairEvent {
    std::string pair;
    std::string site;
    Incarnation incarnation{0};
    control::Event event;
};

class Fleet {
  public:
    Fleet(boost::asio::any_io_executor executor, FleetSettings settings);
    ~Fleet();
    Fleet(const Fleet&) = delete;
    Fleet& operator=(const Fleet&) = delete;

    void start();
    // Idempotent. Run the executor dry after it, then destroy.
    void stop();

    // Called after each answer or failure of a view, and once for each event, in order.
    std::function<void(const View&)> on_view;
    std::function<void(const PairEvent&)> on_event;

    std::vector<std::string> pairs() const;  // sorted
    std::vector<const View*> views(std::string_view pair) const;
    std::vector<const View*> all_views() const;
    const View* find_view(std::string_view id) const;
    control::HistoryReply history(const View& view, int64_t after_unix_ms) const;
    // The newest sample, for live charts; null before the first.
    const control::Sample* last_sample(const View& view) const;
    // Grows with every change of what the above return.
    uint64_t revision() const { return revision_; }

    // Asks the view's replicator on a connection of its own.
    boost::asio::awaitable<Result<control::json::value>> ask(std::string socket,
                                                             control::Method method,
                                                             control::json::value params);

  private:
    class Poller;
    class Question;
    void rescan();
    void add(const std::string& directory, const std::string& path, const std::string& stem);
    boost::asio::awaitable<void> scan_loop();

    const boost::asio::any_io_executor executor_;
    const FleetSettings settings_;
    boost::asio::steady_timer scan_timer_;
    std::map<std::string, std::shared_ptr<Poller>> pollers_;  // by socket path
    std::set<Question*> questions_;                           // that are being asked, for stop()
    uint64_t revision_ = 1;
    bool stopped_ = false;
};

int64_t unix_ms_now();
// The name of the pair that a view belongs to: by its status, or by its socket before the first
// answer.
std::string pair_of(const View& view);

}  // namespace antipode::web
