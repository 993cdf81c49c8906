// SimWorld: two sites, a line between them, and a VM that writes at the primary; with crashes,
// power failures, cuts and promotions at random moments. What must hold is checked from outside,
// against a history of everything that the VM asked for and was answered:
//
//   - a replica that says it is whole holds a crash-consistent state of the VM's disks: with every
//     write in it also everything that was answered before that write was issued (after a power
//     failure: everything answered before the last flush that was answered before it)
//   - in sync mode, what was answered while the peer was up to date is on the peer; what a flush
//     covered, also after a power failure there
//   - after a promotion within a connection, in sync mode, nothing is answered without the peer for
//     as long as that connection lasts
//   - what was answered before a flush that was answered is on the local disk, after any crash
//   - a resync that breaks off can be undone to exactly the copy that was there before
//   - whoever reads the last consistent point reads that, at any moment, or nothing
//   - in the end, with everything healed, the copies are equal, and nothing is marked
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim_disksync/sim_site.h"

namespace antipode::disksync {

struct SimCounts {
    uint64_t writes = 0;
    uint64_t crashes = 0;
    uint64_t power_failures = 0;
    uint64_t cuts = 0;
    uint64_t promotions = 0;
    uint64_t split_brains = 0;
    uint64_t resyncs = 0;
    uint64_t full_resyncs = 0;
    uint64_t prefix_checks = 0;
    uint64_t undo_checks = 0;
    uint64_t promised_checks = 0;
    uint64_t pulled_ahead = 0;
    uint64_t verify_differences = 0;
    uint64_t detached = 0;
    uint64_t view_checks = 0;
    uint64_t views_passed = 0;  // reads of a point that had passed
    uint64_t returns = 0;       // of disks, to their last point, to go on from there
    uint64_t turns = 0;         // promotions that kept the connection
};

class SimWorld {
  public:
    struct Faults {
        bool crashes = true;
        bool power_failures = true;
        bool cuts = true;
        bool promote_peer = false;  // while the primary is dead
        bool split_brain = false;   // both become primary
        bool store_errors = false;
        bool switchovers = false;  // the primary is demoted, and one of the two promoted again
    };
    SimWorld(uint64_t seed, const Faults& faults);

    // Random actions for a while, then healing; the checks are gtest expectations.
    void run();
    const SimCounts& counts() const { return counts_; }
    const std::string& log() const { return log_; }

  private:
    struct Write {
        uint64_t id = 0;  // = stamp, if it has one
        uint16_t disk = 0;
        uint64_t first_sector = 0;
        uint64_t sectors = 0;
        Stamp stamp = 0;
        uint64_t issued = 0;            // in the order of events
        uint64_t answered = 0;          // 0: not
        bool promised = false;          // is applied at the peer
        bool promised_durable = false;  // is durable at the peer
        bool locally_durable = false;
    };
    struct Flush {
        uint16_t disk = 0;
        uint64_t issued = 0;
        uint64_t answered = 0;
    };
    // A primary's life from promotion to its end.
    struct Session {
        uint64_t number = 0;
        std::vector<SimDisk::Sectors> baseline;
        bool lost_power =
            false;               // of its primary: what it then sends may be older than what it had
        uint64_t line_life = 0;  // of the connection that it began in, with a peer that was whole
        std::map<uint64_t, Write> writes;
        std::map<uint64_t, Flush> flushes;
    };
    // The last consistent point of a site, by a number of its process.
    struct Point {
        uint64_t life = 0;
        uint64_t number = 0;
        std::vector<SimDisk::Sectors> contents;  // by disk
    };
    struct Viewing {
        size_t site = 0;
        bool passed = false;  // of a point before the one that there is
        uint16_t disk = 0;
        uint64_t first_sector = 0;
        std::vector<Stamp> expected;
    };
    struct Line {
        uint64_t life = 0;
        bool up = false;
        std::array<Instant, 2> next{};
        std::array<bool, 2> open{};
    };

    void setup();
    void say(const std::string& text);
    void connect_later();
    void connect();
    void cut();
    void send(size_t from, SyncFrame&& frame);
    void close_end(size_t from);
    void line_down_at(size_t site, uint64_t life, Duration after, const std::string& why);
    void input(size_t site, const std::function<void(Node&)>& act);

    void vm_step();
    void vm_answer(size_t site, const NodeAnswer& answer);
    void begin_session(size_t site);
    void switch_over();
    bool peer_is_whole(size_t site);
    void promote(size_t site, Node::Force force = Node::Force::no);
    void on_event(size_t site, const NodeEvent& event);

    static bool is_view(uint64_t id);
    const Point* point_of(size_t site);
    void view_step();
    void view_answer(const NodeAnswer& answer);
    void forget_views(size_t site);
    bool promote_at_point(size_t site);
    void check_returned(size_t site, uint16_t disk);

    void act();
    void crash(size_t site, SimSite::Crash how);
    void restart_later(size_t site);
    void restart(size_t site);

    void check_replica(size_t site, SimSite::Crash how);
    void check_local(size_t site, const Session& session);
    void check_undo(size_t site);
    void heal();
    bool settled();
    void check_equal();
    Stamp visible(size_t site, uint16_t disk, uint64_t sector) {
        return sites_[site]->disk(disk).at(sector);
    }
    bool has(size_t site, const Write& write, const Session& session);

    Random random_;
    Faults faults_;
    SimClock clock_;
    SimCounts counts_;
    std::string log_;
    std::vector<std::unique_ptr<SimSite>> sites_;
    Line line_;
    size_t primary_ = 0;
    // Who was promoted last, and so is promoted again after a crash.
    std::optional<size_t> wanted_;
    bool old_version_ = false;
    bool healing_ = false;
    bool connect_scheduled_ = false;
    uint64_t order_ = 1;
    uint64_t next_stamp_ = 1;
    uint64_t next_request_ = 1;
    uint64_t size_sectors_ = 0;
    size_t in_flight_ = 0;
    std::optional<Session> session_;
    uint64_t sessions_ = 0;
    // Of each site as a replica: which session its contents belong to, if it is whole.
    std::array<uint64_t, 2> replica_of_{};
    // Of each disk of each site, while a resync of it has not ended: what it was before.
    std::array<std::map<uint16_t, SimDisk::Sectors>, 2> before_resync_;
    std::array<Point, 2> points_;
    std::map<uint64_t, Viewing> viewing_;
    std::array<bool, 2> restarting_{};
    std::optional<size_t> loser_;
    uint64_t operator_acted_ = 0;  // on the line's life of that number
};

}  // namespace antipode::disksync
