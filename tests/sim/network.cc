#include "tests/sim/network.h"

#include <algorithm>

namespace antipode::sim {

namespace {
constexpr Duration kPoll = 50ms;
}

void Network::start() {
    for (size_t low = 0; low < site_count_; ++low) {
        for (size_t high = low + 1; high < site_count_; ++high) lines_.push_back({low, high});
    }
    poll();
}

Duration Network::delay(Duration base) {
    return base + extra_delay + world_.between(0ms, settings.jitter);
}

// Connects what can be connected and breaks what has been cut for too long.
void Network::poll() {
    world_.after(kPoll, [this] { poll(); });
    for (Line& line : lines_) poll_line(line);
    for (size_t site = 0; site < site_count_; ++site) poll_tiebreaker(site);
}

bool Network::wanted(const Line& line) const {
    if (apart(line) || !sites[line.low].alive() || !sites[line.high].alive()) return false;
    if (sites[line.low].peer() != line.high || sites[line.high].peer() != line.low) return false;
    return !with_[line.low] && !with_[line.high];
}

void Network::poll_line(Line& line) {
    if (apart(line) && world_.now() >= line.cut_since + settings.break_after) break_line(line);
    if (line.connecting || !wanted(line)) return;
    line.connecting = true;
    world_.after(delay(settings.latency) * 2, [this, &line] {
        line.connecting = false;
        if (!wanted(line)) return;
        ++session_[line.low];
        ++session_[line.high];
        with_[line.low] = line.high;
        with_[line.high] = line.low;
        const bool low_first = world_.random.below(2) == 0;
        sites[low_first ? line.low : line.high].up();
        sites[low_first ? line.high : line.low].up();
    });
}

void Network::cut_changed() {
    for (Line& line : lines_) {
        if (!apart(line)) {
            line.cut_since = Instant::max();
        } else if (line.cut_since == Instant::max()) {
            line.cut_since = world_.now();
        }
    }
    for (size_t site = 0; site < site_count_; ++site) {
        pump(site);
        if (!t_cut[site]) {
            t_cut_since_[site] = Instant::max();
        } else if (t_cut_since_[site] == Instant::max()) {
            t_cut_since_[site] = world_.now();
        }
    }
}

void Network::break_line(const Line& line) {
    const std::array<size_t, 2> ends{line.low, line.high};
    std::array<bool, 2> broken{};
    for (size_t i = 0; i < 2; ++i) {
        broken[i] = with_[ends[i]] == ends[1 - i];
        if (!broken[i]) continue;
        under_way_[ends[i]].clear();
        ++session_[ends[i]];
    }
    for (size_t i = 0; i < 2; ++i) {
        if (!broken[i] || with_[ends[i]] != ends[1 - i]) continue;
        with_[ends[i]].reset();
        sites[ends[i]].down();
    }
}

void Network::break_sessions() {
    for (const Line& line : lines_) break_line(line);
}

void Network::leave_session(size_t site) {
    with_[site].reset();
    under_way_[site].clear();
    ++session_[site];
    for (size_t peer = 0; peer < site_count_; ++peer) {
        if (with_[peer] != site) continue;
        under_way_[peer].clear();
        const uint64_t session = ++session_[peer];
        // The peer is told at once if the path works, and finds out by itself if not.
        const bool silent = blocked(site, peer) || blocked(peer, site);
        world_.after(silent ? settings.break_after : delay(settings.latency),
                     [this, site, peer, session] {
                         if (session_[peer] != session || with_[peer] != site) return;
                         under_way_[peer].clear();
                         with_[peer].reset();
                         sites[peer].down();
                     });
    }
}

void Network::process_died(size_t site) {
    t_up_[site] = false;
    ++t_session_[site];
    leave_session(site);
}

void Network::maybe_stray(const Task& deliver, const Endpoint& end) {
    if (settings.stray <= 0 || !world_.chance(settings.stray)) return;
    ++strays_;
    world_.after(world_.between(10ms, 8s), [deliver, &end] {
        if (end.alive()) deliver();
    });
}

void Network::send(size_t from, Task deliver) {
    if (!with_[from]) return;
    maybe_stray(deliver, sites[*with_[from]]);
    Instant due = world_.now() + delay(settings.latency) + slow_path[from];
    auto& queue = under_way_[from];
    if (!queue.empty()) due = std::max(due, queue.back().due);
    queue.push_back({due, std::move(deliver)});
    world_.at(due, [this, from] { pump(from); });
}

void Network::pump(size_t from) {
    auto& queue = under_way_[from];
    while (with_[from] && !blocked(from, *with_[from]) && !queue.empty() &&
           queue.front().due <= world_.now()) {
        Task deliver = std::move(queue.front().deliver);
        queue.pop_front();
        const size_t to = *with_[from];
        if (with_[to] == from && sites[to].alive()) deliver();
    }
}

void Network::datagram(size_t from, size_t to, Task deliver) {
    if (blocked(from, to) || heartbeats_cut[from]) return;
    if (world_.chance(settings.loss + extra_loss)) return;
    const int copies = world_.chance(settings.duplication) ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
        world_.after(delay(settings.latency) + slow_path[from], [this, to, deliver] {
            if (sites[to].alive()) deliver();
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
    for (size_t site = 0; site < site_count_; ++site) {
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
