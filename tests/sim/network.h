// The paths between the sites and to the tiebreaker, with what can go wrong on them.
//
//   Channel    the logging channel: sessions that deliver in order while they last, as TCP does. A
//   cut holds
//              frames back; a cut that lasts breaks the session, and what was under way is lost.
//   Datagrams  heartbeats: lost, repeated, late, out of order.
//   Requests   to the tiebreaker and back.
// On top of that, a "stray" is a copy of any frame, request or answer that turns up again much
// later, at whatever process then lives there: more than TCP and TLS would do to us, and nothing
// may come of it.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "tests/sim/checker.h"
#include "tests/sim/world.h"

namespace antipode::sim {

struct NetworkSettings {
    Duration latency = 10ms;  // one way between the sites
    Duration jitter = 1ms;
    Duration tiebreaker_latency = 15ms;
    double loss = 0.002;
    double duplication = 0.001;
    double stray = 0;  // share of frames that come again much later
    Duration break_after = 1s;
};

// What a path delivers to.
struct Endpoint {
    std::function<bool()> alive;
    std::function<void()> up;
    std::function<void()> down;
    std::function<size_t()> peer;  // of sites: whom it is turned to
};

class Network {
  public:
    Network(World& world, size_t site_count) : site_count_(site_count), world_(world) {}

    NetworkSettings settings;
    // cut[i]: nothing from site i reaches another one. line_cut[i][j]: nothing from i reaches j.
    // t_cut[i]: site i and the tiebreaker are apart.
    std::array<bool, kSitesMax> cut{};
    std::array<std::array<bool, kSitesMax>, kSitesMax> line_cut{};
    std::array<bool, kSitesMax> t_cut{};
    Duration extra_delay{};  // a fault: everything is this much slower
    double extra_loss = 0;
    std::array<Duration, kSitesMax> slow_path{};   // channel and heartbeats of site i, one way
    std::array<bool, kSitesMax> heartbeats_cut{};  // of site i, while its channel works
    std::array<bool, kSitesMax> t_answers_cut{};   // requests of site i arrive; answers do not

    // ---- The channel ----
    // A session is of two sites that are turned to each other; a site has one at a time.
    std::array<Endpoint, kSitesMax> sites;
    void start();
    bool session_up(size_t site) const { return with_[site].has_value(); }
    void send(size_t from, Task deliver);
    void break_sessions();
    void leave_session(size_t site);  // on purpose; it is not told
    void process_died(size_t site);
    void cut_changed();

    // ---- Datagrams ----
    void datagram(size_t from, size_t to, Task deliver);

    // ---- The tiebreaker ----
    Endpoint tiebreaker;
    bool tiebreaker_up(size_t site) const { return t_up_[site]; }
    std::array<Endpoint, kSitesMax> t_sites;
    void request(size_t from, Task deliver);  // runs at the tiebreaker
    void answer(size_t to, Task deliver);     // runs at the site
    void tiebreaker_died();

    uint64_t strays() const { return strays_; }

  private:
    struct Frame {
        Instant due;
        Task deliver;
    };
    struct Line {  // between two sites
        size_t low;
        size_t high;
        Instant cut_since = Instant::max();
        bool connecting = false;
    };
    bool blocked(size_t from, size_t to) const { return cut[from] || line_cut[from][to]; }
    bool apart(const Line& line) const {
        return blocked(line.low, line.high) || blocked(line.high, line.low);
    }
    bool wanted(const Line& line) const;
    void poll();
    void poll_line(Line& line);
    void break_line(const Line& line);
    void pump(size_t from);
    Duration delay(Duration base);
    void maybe_stray(const Task& deliver, const Endpoint& end);
    void poll_tiebreaker(size_t site);

    const size_t site_count_;
    World& world_;
    std::vector<Line> lines_;
    std::array<std::optional<size_t>, kSitesMax> with_;   // whom it has a session with
    std::array<uint64_t, kSitesMax> session_{};           // changes when it begins or ends
    std::array<std::deque<Frame>, kSitesMax> under_way_;  // by sender
    std::array<bool, kSitesMax> t_up_{};
    std::array<uint64_t, kSitesMax> t_session_{};
    std::array<Instant, kSitesMax> t_cut_since_{Instant::max(), Instant::max(), Instant::max()};
    uint64_t strays_ = 0;
};

}  // namespace antipode::sim
