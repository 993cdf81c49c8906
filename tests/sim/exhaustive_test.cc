// Every order of events to a small depth, with the real cores and the real arbiter: deliveries,
// decisions, suspicions, broken sessions, deaths, timers, an operator's switchover, from several
// points of a pair's life. What chance rarely puts side by side stands side by side here.
//
// Durable writes and the disk's answers come at once; what happens between them is the simulator's
// part. ANTIPODE_EXHAUSTIVE_DEPTH sets another depth.
#include <cstdlib>
#include <deque>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "common/failover/deliberate_bugs.h"
#include "common/failover/failover.h"
#include "tiebreaker/arbiter.h"

namespace antipode::failover {
namespace {

using History = std::vector<uint64_t>;  // the VM's log entries; each entry is a number of its own

bool is_prefix(const History& shorter, const History& longer) {
    return shorter.size() <= longer.size() &&
           std::equal(shorter.begin(), shorter.end(), longer.begin());
}

struct Frame {
    Input input;      // what the receiver's core is told; Tick: this is a seed
    History history;  // of a log frame or a seed
    uint64_t attempt = 0;
};

struct Site {
    explicit Site(const Config& from) : config(from), core(from) {}
    Config config;
    Failover core;
    Member me;
    std::optional<Durable> stored;
    Epoch fence;
    History vm;  // and its disk
    bool runs = false;
    uint64_t released = 0;
    uint64_t receiving = 0;
    bool suspects = false;
    SetGate gate;
    UseEpoch use;
    std::deque<Frame> inbox;
    std::deque<wire::Answer> answers;
    std::deque<Input> done;
    int deaths = 0;
};

// A value: the search copies it at each step.
class Cluster {
  public:
    Cluster() : sites{Site(config(0)), Site(config(1))} {
        for (size_t i = 0; i < 2; ++i) start(i);
        open_session();
    }

    std::array<Site, 2> sites;
    std::optional<wire::Record> record;
    std::deque<std::pair<size_t, wire::Request>> requests;
    History seen;
    std::string violation;
    Instant now{std::chrono::seconds(10)};
    uint64_t entries = 0;
    int ticks = 0;
    int resets = 0;
    int switches = 0;

    static Config config(size_t site) {
        static const Name names[2] = {Name::literal("site-a"), Name::literal("site-b")};
        Config config;
        config.pair = Name::literal("web1");
        config.site = names[site];
        config.peer_site = names[1 - site];
        config.first_role = site == 0 ? wire::FirstRole::primary : wire::FirstRole::backup;
        return config;
    }

    void start(size_t i) {
        Site& site = sites[i];
        site.core = Failover(site.config);
        site.me = {site.config.site,
                   Incarnation(10 * (i + 1) + static_cast<uint64_t>(site.deaths))};
        site.runs = site.suspects = false;
        site.released = site.receiving = 0;
        site.gate = {};
        site.use = {};
        site.inbox.clear();
        site.answers.clear();
        site.done.clear();
        step(i, Start{site.me, site.stored, site.fence, Host::same_boot});
        step(i, TiebreakerUp{kStore});
    }
    void open_session() {
        for (Site& site : sites) site.inbox.clear();
        for (size_t i = 0; i < 2; ++i) step(i, SessionUp{});
    }
    void break_session() {
        for (Site& site : sites) site.inbox.clear();
        for (size_t i = 0; i < 2; ++i) step(i, SessionDown{});
        open_session();
    }
    void die(size_t i) {
        ++sites[i].deaths;
        start(i);
        sites[1 - i].inbox.clear();
        step(1 - i, SessionDown{});
        open_session();
    }
    void suspect(size_t i) {
        sites[i].suspects = !sites[i].suspects;
        if (sites[i].suspects) {
            step(i, PeerSuspected{});
        } else {
            step(i, PeerTrusted{});
        }
    }
    void deliver(size_t i) {
        Site& site = sites[i];
        const Frame frame = site.inbox.front();
        site.inbox.pop_front();
        if (!std::holds_alternative<Tick>(frame.input)) {
            offered_ = frame.history;
            return step(i, frame.input);
        }
        if (frame.attempt != site.receiving) return;
        site.receiving = 0;
        site.vm = frame.history;
        step(i, SeedLoaded{frame.attempt, LogIndex(site.vm.size())});
    }
    void decide(size_t which) {
        const auto [from, request] = requests[which];
        requests.erase(requests.begin() + static_cast<std::ptrdiff_t>(which));
        const auto peer = tiebreaker::PeerPresence::connected;
        tiebreaker::Decision decision = tiebreaker::decide(record, request, {kStore, peer});
        record = decision.record;
        if (request.me == sites[from].me) sites[from].answers.push_back(decision.answer);
    }
    void answer(size_t i) {
        const wire::Answer told = sites[i].answers.front();
        sites[i].answers.pop_front();
        step(i, TiebreakerAnswer{told});
    }
    void execute(size_t i) {
        Site& site = sites[i];
        site.vm.push_back(++entries);
        send_log(i);
        release(i);
        step(i, LogProduced{LogIndex(site.vm.size())});
    }
    void tick(size_t i) {
        now = std::max(now, sites[i].core.deadline());
        step(i, Tick{});
    }
    void command(size_t i, CommandKind kind) { step(i, Command{kind, {}}); }

    void step(size_t i, const Input& input) {
        Site& site = sites[i];
        site.done.push_back(input);
        while (!site.done.empty() && violation.empty()) {
            const Input next = site.done.front();
            site.done.pop_front();
            bool retired = false;
            for (const Output& output : site.core.step(next, now)) {
                if (std::holds_alternative<Retire>(output)) retired = true;
                std::visit([&](const auto& value) { out(i, value); }, output);
            }
            if (retired) return die(i);
        }
        check();
    }

  private:
    static constexpr wire::StoreIdentity kStore{77};

    void fail(std::string text) {
        if (violation.empty()) violation = std::move(text);
    }
    void check() {
        const Failover& a = sites[0].core;
        const Failover& b = sites[1].core;
        if (sites[0].gate.mode == GateMode::open && sites[1].gate.mode == GateMode::open) {
            fail("both sites let output go freely");
        }
        if (wire::runs_vm(a.state()) && wire::runs_vm(b.state()) && a.epoch() == b.epoch()) {
            fail("two VMs are live in one epoch");
        }
    }
    void release(size_t i) {
        Site& site = sites[i];
        uint64_t allowed = 0;
        if (site.gate.mode == GateMode::open) allowed = site.vm.size();
        if (site.gate.mode == GateMode::acked) {
            allowed = std::min<uint64_t>(site.vm.size(), site.gate.up_to.value());
        }
        if (allowed <= site.released) return;
        site.released = allowed;
        const History leaving(site.vm.begin(),
                              site.vm.begin() + static_cast<std::ptrdiff_t>(allowed));
        if (is_prefix(leaving, seen)) return;  // a repetition
        if (!is_prefix(seen, leaving)) return fail("an output contradicts what has been seen");
        seen = leaving;
    }
    void send_log(size_t i) {
        const Site& site = sites[i];
        if (site.use.partner.site.empty() || site.vm.empty()) return;
        const bool streams = site.core.state() == State::paired_primary ||
                             site.core.state() == State::asking_primary ||
                             site.core.state() == State::switching_primary ||
                             site.core.state() == State::pairing;
        if (!streams) return;
        const LogReceived log{site.use.epoch, site.me, site.use.partner, LogIndex(1),
                              LogIndex(site.vm.size())};
        sites[1 - i].inbox.push_back({log, site.vm});
    }

    void out(size_t i, const Send& send) {
        sites[1 - i].inbox.push_back({PeerSays{send.message}, {}});
    }
    void out(size_t i, const Ask& ask) {
        const std::pair entry{i, ask.request};
        if (std::find(requests.begin(), requests.end(), entry) == requests.end()) {
            requests.push_back(entry);
        }
    }
    void out(size_t i, const SetGate& gate) {
        sites[i].gate = gate;
        release(i);
    }
    void out(size_t i, const UseEpoch& use) { sites[i].use = use; }
    void out(size_t i, const AcceptLog& accept) {
        const History kept(offered_.begin(),
                           offered_.begin() + static_cast<std::ptrdiff_t>(accept.last.value()));
        if (!is_prefix(sites[i].vm, kept)) return fail("a log is continued by another history");
        sites[i].vm = kept;
    }
    void out(size_t i, const Acknowledge& told) {
        const AckReceived ack{told.epoch, sites[i].me, told.to, told.last};
        sites[1 - i].inbox.push_back({ack, {}});
    }
    void out(size_t i, const Persist& persist) {
        sites[i].stored = persist.state;
        sites[i].done.push_back(Persisted{persist.number});
    }
    void out(size_t i, const FenceDisk& fence) {
        sites[i].fence = fence.epoch;
        sites[i].done.push_back(DiskFenced{fence.epoch});
    }
    void out(size_t i, const FlushDisk&) { sites[i].done.push_back(DiskFlushed{}); }
    void out(size_t i, const RunVm& run) {
        Site& site = sites[i];
        // A primary of a pair lets nothing go without its partner, who may have won meanwhile.
        const bool gated = site.core.state() == State::paired_primary ||
                           site.core.state() == State::asking_primary;
        if (run.from != RunFrom::image && !gated && !is_prefix(seen, site.vm)) {
            fail("a VM goes live without all that has been seen");
        }
        // A new boot is a new history, on a disk that holds all of the old one.
        if (run.from == RunFrom::disk || run.from == RunFrom::image) {
            seen.clear();
            site.vm.clear();
            site.released = 0;
        }
        site.runs = true;
        release(i);
    }
    void out(size_t i, const FollowVm& follow) {
        sites[i].runs = false;
        if (follow.from == FollowFrom::image) sites[i].vm.clear();
    }
    void out(size_t i, const ConsumeLog&) {
        sites[i].done.push_back(LogDrained{LogIndex(sites[i].vm.size())});
    }
    void out(size_t i, const PauseVm&) {
        sites[i].runs = false;
        send_log(i);
        sites[i].done.push_back(VmPaused{LogIndex(sites[i].vm.size())});
    }
    void out(size_t i, const HaltVm&) {
        sites[i].runs = false;
        sites[i].done.push_back(VmHalted{});
    }
    void out(size_t i, const DropMemory&) { sites[i].vm.clear(); }
    void out(size_t i, const BeginSeed& begin) {
        sites[i].done.push_back(SeedReady{begin.attempt});
    }
    void out(size_t i, const CutSeed& cut) {
        Site& site = sites[i];
        site.vm.push_back(++entries);
        release(i);
        sites[1 - i].inbox.push_back({Tick{}, site.vm, cut.attempt});
        site.done.push_back(SeedCut{cut.attempt, LogIndex(site.vm.size())});
    }
    void out(size_t, const AbortSeed&) {}
    void out(size_t i, const ReceiveSeed& receive) { sites[i].receiving = receive.attempt; }
    void out(size_t, const StateChanged&) {}
    void out(size_t, const Alarm&) {}
    void out(size_t, const CommandRefused&) {}
    void out(size_t, const Retire&) {}

    History offered_;
};

// What can happen next, in a fixed order.
struct Choice {
    std::string name;
    std::function<void(Cluster&)> take;
};

void site_choices(const Cluster& cluster, size_t i, std::vector<Choice>& list) {
    const Site& site = cluster.sites[i];
    const std::string at = i == 0 ? " A" : " B";
    if (!site.inbox.empty()) list.push_back({"deliver to" + at, [i](Cluster& c) { c.deliver(i); }});
    if (!site.answers.empty()) list.push_back({"answer" + at, [i](Cluster& c) { c.answer(i); }});
    list.push_back({"suspect or trust at" + at, [i](Cluster& c) { c.suspect(i); }});
    if (site.runs && cluster.entries < 3) {
        list.push_back({"execute at" + at, [i](Cluster& c) { c.execute(i); }});
    }
    if (site.deaths == 0) list.push_back({"death of" + at, [i](Cluster& c) { c.die(i); }});
    if (cluster.ticks < 1 && site.core.deadline() != Instant::max()) {
        list.push_back({"tick at" + at, [i](Cluster& c) {
                            ++c.ticks;
                            c.tick(i);
                        }});
    }
    if (cluster.switches < 1 && site.core.state() == State::paired_primary) {
        list.push_back({"switchover at" + at, [i](Cluster& c) {
                            ++c.switches;
                            c.command(i, CommandKind::switch_over);
                        }});
    }
}

std::vector<Choice> choices(const Cluster& cluster) {
    std::vector<Choice> list;
    for (size_t i = 0; i < 2; ++i) site_choices(cluster, i, list);
    for (size_t r = 0; r < cluster.requests.size(); ++r) {
        list.push_back({"decide " + std::string(to_string(cluster.requests[r].second.kind)),
                        [r](Cluster& c) { c.decide(r); }});
    }
    if (cluster.resets < 1) {
        list.push_back({"session reset", [](Cluster& c) {
                            ++c.resets;
                            c.break_session();
                        }});
    }
    return list;
}

struct Search {
    uint64_t orders = 0;
    std::vector<std::string> path;

    // False: a violation, and `path` led to it.
    bool run(const Cluster& cluster, int depth) {
        if (!cluster.violation.empty()) return false;
        if (depth == 0) {
            ++orders;
            return true;
        }
        for (const Choice& choice : choices(cluster)) {
            Cluster next = cluster;
            choice.take(next);
            path.push_back(choice.name);
            if (!run(next, depth - 1)) return false;
            path.pop_back();
        }
        return true;
    }
};

// Lets everything that is under way arrive, until `until` holds.
void run_quietly(Cluster& cluster, const std::function<bool(const Cluster&)>& until) {
    for (int i = 0; i < 400 && !until(cluster); ++i) {
        const size_t site = static_cast<size_t>(i) % 2;
        if (!cluster.sites[site].inbox.empty()) cluster.deliver(site);
        if (!cluster.requests.empty()) cluster.decide(0);
        if (!cluster.sites[site].answers.empty()) cluster.answer(site);
        if (i % 40 == 39) cluster.tick(site);
        ASSERT_EQ(cluster.violation, "");
    }
    ASSERT_TRUE(until(cluster)) << wire::to_string(cluster.sites[0].core.state()) << " "
                                << wire::to_string(cluster.sites[1].core.state());
}

bool stands(const Cluster& cluster, State a, State b) {
    return cluster.sites[0].core.state() == a && cluster.sites[1].core.state() == b;
}

Cluster paired() {
    Cluster cluster;
    run_quietly(cluster, [](const Cluster& c) {
        return stands(c, State::paired_primary, State::paired_backup);
    });
    cluster.execute(0);
    for (Site& site : cluster.sites) site.answers.clear();
    return cluster;
}

Cluster asking() {
    Cluster cluster = paired();
    cluster.suspect(0);
    cluster.suspect(1);
    return cluster;
}

Cluster switching() {
    Cluster cluster = paired();
    run_quietly(cluster,
                [](const Cluster& c) { return c.sites[0].core.acknowledged().value() > 0; });
    cluster.command(0, CommandKind::switch_over);
    run_quietly(cluster, [](const Cluster& c) {
        return c.sites[1].core.state() == State::switching_backup;
    });
    return cluster;
}

Cluster pairing() {
    Cluster cluster = paired();
    cluster.suspect(0);
    run_quietly(cluster, [](const Cluster& c) { return c.sites[0].core.state() == State::solo; });
    cluster.suspect(0);
    run_quietly(cluster,
                [](const Cluster& c) { return c.sites[0].core.state() == State::pairing; });
    return cluster;
}

#ifndef ANTIPODE_DELIBERATE_BUGS
int depth_wanted() {
    const char* wanted = std::getenv("ANTIPODE_EXHAUSTIVE_DEPTH");
    return wanted != nullptr ? std::atoi(wanted) : 6;
}

void search(const Cluster& from, const char* what) {
    const int depth = depth_wanted();
    Cluster start = from;
    start.entries = std::min<uint64_t>(start.entries, 2);
    start.ticks = start.resets = start.switches = 0;
    for (Site& site : start.sites) site.deaths = 0;
    Search search;
    const bool clean = search.run(start, depth);
    std::string path;
    for (const std::string& step : search.path) path += "\n  " + step;
    EXPECT_TRUE(clean) << what << path;
    std::printf("exhaustive from=%s depth=%d orders=%llu violations=%d\n", what, depth,
                static_cast<unsigned long long>(search.orders), clean ? 0 : 1);
}

TEST(Exhaustive, FromPaired) {
    search(paired(), "paired");
}

TEST(Exhaustive, FromASilenceOnBothSides) {
    search(asking(), "asking");
}

TEST(Exhaustive, FromAHandOver) {
    search(switching(), "switching");
}

TEST(Exhaustive, FromASeedThatIsCut) {
    search(pairing(), "pairing");
}
#else
// The search sees a mistake that a handful of steps shows; deeper ones are the simulator's.
class ExhaustiveWithBug : public testing::TestWithParam<Bug> {};

TEST_P(ExhaustiveWithBug, IsFound) {
    bool found = false;
    for (const auto& from : {asking, switching, pairing, paired}) {
        deliberate_bug = Bug::none;
        const Cluster start = from();
        deliberate_bug = GetParam();
        Search search;
        if (found = !search.run(start, 5); found) break;
    }
    deliberate_bug = Bug::none;
    EXPECT_TRUE(found) << to_string(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Bugs, ExhaustiveWithBug, testing::Values(Bug::release_while_asking),
                         [](const auto& test) { return std::string(to_string(test.param)); });
#endif

}  // namespace
}  // namespace antipode::failover
