#include "tests/sim/network.h"

#include <algorithm>

namespace antipode::sim {

namespace {
constexpr Duration kPoll = 50ms;
}

void Network::start() {
    poll();
}

Duration Network::delay(Duration base) {
    return base + extra_delay + world_.between(0ms, settings.jitter);
}

// Connects what can be connected and breaks what has been cut for too long.
void Network::poll() {
    world_.after(kPoll, [this] { poll(); });
    const bool apart = cut[0] || cut[1];
    if (apart && world_.now() >= cut_since_ + settings.break_after) break_session();
    const bool idle = !up_[0] && !up_[1] && !connecting_;
    if (idle && !apart && sites[0].alive() && sites[1].alive()) {
        connecting_ = true;
        world_.after(delay(settings.latency) * 2, [this] {
            connecting_ = false;
            if (cut[0] || cut[1] || !sites[0].alive() || !sites[1].alive()) return;
            if (up_[0] || up_[1]) return;
            ++session_;
            up_ = {true, true};
            const size_t first = world_.random.below(2);
            sites[first].up();
            sites[1 - first].up();
        });
    }
    for (size_t site = 0; site < 2; ++site) poll_tiebreaker(site);
}

void Network::cut_changed() {
    const bool apart = cut[0] || cut[1];
    if (!apart) {
        cut_since_ = Instant::max();
    } else if (cut_since_ == Instant::max()) {
        cut_since_ = world_.now();
    }
    for (size_t site = 0; site < 2; ++site) {
        if (!cut[site]) pump(site);
        if (!t_cut[site]) {
            t_cut_since_[site] = Instant::max();
        } else if (t_cut_since_[site] == Instant::max()) {
            t_cut_since_[site] = world_.now();
        }
    }
}

void Network::break_session() {
    under_way_ = {};
    ++session_;
    for (size_t site = 0; site < 2; ++site) {
        if (!up_[site]) continue;
        up_[site] = false;
        sites[site].down();
    }
}

void Network::process_died(size_t site) {
    t_up_[site] = false;
    ++t_session_[site];
    up_[site] = false;
    under_way_ = {};
    const uint64_t session = ++session_;
    if (!up_[1 - site]) return;
    // The peer is told at once if the path works, and finds out by itself if not.
    const bool apart = cut[0] || cut[1];
    world_.after(apart ? settings.break_after : delay(settings.latency), [this, site, session] {
        if (session_ != session || !up_[1 - site]) return;
        up_[1 - site] = false;
        sites[1 - site].down();
    });
}

void Network::maybe_stray(const Task& deliver, const Endpoint& end) {
    if (settings.stray <= 0 || !world_.chance(settings.stray)) return;
    ++strays_;
    world_.after(world_.between(10ms, 8s), [deliver, &end] {
        if (end.alive()) deliver();
    });
}

void Network::send(size_t from, Task deliver) {
    if (!up_[from]) return;
    maybe_stray(deliver, sites[1 - from]);
    Instant due = world_.now() + delay(settings.latency) + slow_path[from];
    auto& queue = under_way_[from];
    if (!queue.empty()) due = std::max(due, queue.back().due);
    queue.push_back({due, std::move(deliver)});
    world_.at(due, [this, from] { pump(from); });
}

void Network::pump(size_t from) {
    auto& queue = under_way_[from];
    while (!cut[from] && !queue.empty() && queue.front().due <= world_.now()) {
        Task deliver = std::move(queue.front().deliver);
        queue.pop_front();
        if (up_[1 - from] && sites[1 - from].alive()) deliver();
    }
}

void Network::datagram(size_t from, Task deliver) {
    if (cut[from] || heartbeats_cut[from]) return;
    if (world_.chance(settings.loss + extra_loss)) return;
    const int copies = world_.chance(settings.duplication) ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
        world_.after(delay(settings.latency) + slow_path[from], [this, from, deliver] {
            if (sites[1 - from].alive()) deliver();
        });
    }
}

void Network::poll_tiebreaker(size_t site) {
    const bool possible = !t_cut[site] && tiebreaker.alive() && t_sites[site].alive();
    if (t_up_[site] && t_cut[site] && world_.now() >= t_cut_since_[site] + settings.break_after) {
        t_up_[site] = false;
        ++t_session_[site];
        t_sites[site].down();
    } else if (!t_up_[site] && possible && world_.chance(0.5)) {
        t_up_[site] = true;
        ++t_session_[site];
        t_sites[site].up();
    }
}

void Network::tiebreaker_died() {
    for (size_t site = 0; site < 2; ++site) {
        if (!t_up_[site]) continue;
        t_up_[site] = false;
        const uint64_t session = ++t_session_[site];
        world_.after(delay(settings.tiebreaker_latency), [this, site, session] {
            if (t_session_[site] == session && !t_up_[site]) t_sites[site].down();
        });
    }
}

void Network::request(size_t from, Task deliver) {
    if (!t_up_[from]) return;
    maybe_stray(deliver, tiebreaker);
    if (t_cut[from]) return;
    world_.after(delay(settings.tiebreaker_latency), [this, deliver] {
        if (tiebreaker.alive()) deliver();
    });
}

void Network::answer(size_t to, Task deliver) {
    maybe_stray(deliver, t_sites[to]);
    if (t_cut[to] || t_answers_cut[to] || !t_up_[to]) return;
    const uint64_t session = t_session_[to];
    world_.after(delay(settings.tiebreaker_latency), [this, to, session, deliver] {
        if (t_session_[to] == session && t_sites[to].alive()) deliver();
    });
}

}  // namespace antipode::sim
