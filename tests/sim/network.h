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
};

class Network {
  public:
    explicit Network(World& world) : world_(world) {}

    NetworkSettings settings;
    // cut[i]: nothing from site i reaches its peer. t_cut[i]: site i and the tiebreaker are apart.
    std::array<bool, 2> cut{};
    std::array<bool, 2> t_cut{};
    Duration extra_delay{};  // a fault: everything is this much slower
    double extra_loss = 0;
    std::array<Duration, 2> slow_path{};   // the channel and the heartbeats of site i, one way
    std::array<bool, 2> heartbeats_cut{};  // of site i, while its channel works
    std::array<bool, 2> t_answers_cut{};   // requests of site i arrive; answers do not

    // ---- The channel ----
    std::array<Endpoint, 2> sites;
    void start();
    bool session_up(size_t site) const { return up_[site]; }
    void send(size_t from, Task deliver);
    void break_session();
    void process_died(size_t site);
    void cut_changed();

    // ---- Datagrams ----
    void datagram(size_t from, Task deliver);

    // ---- The tiebreaker ----
    Endpoint tiebreaker;
    bool tiebreaker_up(size_t site) const { return t_up_[site]; }
    std::array<Endpoint, 2> t_sites;
    void request(size_t from, Task deliver);  // runs at the tiebreaker
    void answer(size_t to, Task deliver);     // runs at the site
    void tiebreaker_died();

    uint64_t strays() const { return strays_; }

  private:
    struct Frame {
        Instant due;
        Task deliver;
    };
    void poll();
    void pump(size_t from);
    Duration delay(Duration base);
    void maybe_stray(const Task& deliver, const Endpoint& end);
    void poll_tiebreaker(size_t site);

    World& world_;
    std::array<bool, 2> up_{};
    uint64_t session_ = 0;
    std::array<std::deque<Frame>, 2> under_way_;  // by sender
    Instant cut_since_ = Instant::max();
    std::array<bool, 2> t_up_{};
    std::array<uint64_t, 2> t_session_{};
    std::array<Instant, 2> t_cut_since_{Instant::max(), Instant::max()};
    uint64_t strays_ = 0;
    bool connecting_ = false;
};

}  // namespace antipode::sim
