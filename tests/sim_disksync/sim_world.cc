#include "tests/sim_disksync/sim_world.h"

#include <gtest/gtest.h>

#include "common/wire/sync_frames.h"

namespace antipode::disksync {

using std::chrono::microseconds;
using std::chrono::milliseconds;

SimWorld::SimWorld(uint64_t seed, const Faults& faults) : random_(seed), faults_(faults) {
    setup();
}

void SimWorld::say(const std::string& text) {
    log_ += fmt::format(
        "{:10.3f} ms  {}\n",
        std::chrono::duration<double, std::milli>(clock_.now().time_since_epoch()).count(), text);
}

void SimWorld::setup() {
    NodeConfig node;
    node.pair = Name::literal("web1");
    node.mode = static_cast<Mode>(random_.between(1, 3));
    node.congestion = random_.chance(0.2) ? Congestion::pull_ahead : Congestion::block;
    node.backlog_bytes_max = random_.chance(0.3) ? 64 * 1024 : 4 << 20;
    node.checksum = static_cast<ChecksumResync>(random_.between(1, 3));
    node.keep_undo = random_.chance(0.8);
    node.undo_bytes_max = random_.chance(0.1) ? 1 << 20 : uint64_t{1} << 40;
    node.resync_window_bytes = random_.chance(0.5) ? 256 * 1024 : 4 << 20;
    node.durable_interval = milliseconds(random_.between(1, 20));
    node.durable_bytes = random_.chance(0.5) ? 128 * 1024 : 4 << 20;
    node.silence_max = std::chrono::seconds(1000);
    node.changes_in_flight_max = static_cast<uint32_t>(random_.between(1, 16));
    node.promotion_wait = milliseconds(random_.between(3, 40));
    old_version_ = random_.chance(0.2);
    SimSiteConfig config;
    config.node = node;
    // Ten extents and a short last block; the log holds four.
    config.size_bytes = 10 * kExtentBytes - 3 * kSimSectorBytes;
    config.disks = random_.chance(0.3) ? 2 : 1;
    config.log_extents = random_.between(2, 5);
    size_sectors_ = config.size_bytes / kSimSectorBytes;
    for (size_t index = 0; index < 2; ++index) {
        config.name = index == 0 ? "A" : "B";
        config.id = index + 1;
        sites_.push_back(std::make_unique<SimSite>(config, clock_, random_));
        SimSite& site = *sites_.back();
        site.send = [this, index](SyncFrame&& frame) { send(index, std::move(frame)); };
        site.disconnect = [this, index] { close_end(index); };
        site.answered = [this, index](const NodeAnswer& answer) {
            is_view(answer.id) ? view_answer(answer) : vm_answer(index, answer);
        };
        site.on_event = [this, index](const NodeEvent& event) { on_event(index, event); };
    }
    say(fmt::format("mode {} disks {} undo {}", to_string(node.mode), config.disks,
                    node.keep_undo));
}

void SimWorld::input(size_t site, const std::function<void(Node&)>& act) {
    if (!sites_[site]->alive()) return;
    sites_[site]->node().tick(clock_.now(), 0);
    act(sites_[site]->node());
    sites_[site]->run_outputs();
}

// ---- the line

void SimWorld::connect_later() {
    if (connect_scheduled_) return;
    connect_scheduled_ = true;
    clock_.at(milliseconds(random_.between(1, 8)), [this] {
        connect_scheduled_ = false;
        connect();
    });
}

void SimWorld::connect() {
    if (line_.up || !sites_[0]->alive() || !sites_[1]->alive()) return;
    for (const auto& site : sites_) {
        if (site->node().status().link == LinkState::halted && !healing_ && random_.chance(0.9))
            return;
    }
    ++line_.life;
    line_.up = true;
    line_.next = {clock_.now(), clock_.now()};
    line_.open = {true, true};
    say("line up");
    for (size_t index = 0; index < 2; ++index) {
        input(index, [](Node& node) { node.connected(); });
    }
}

void SimWorld::send(size_t from, SyncFrame&& frame) {
    if (!line_.up || !line_.open[from]) return;
    const size_t to = 1 - from;
    const uint64_t life = line_.life;
    // A frame that such a version does not have would be a failed check here.
    if (old_version_) frame.version = wire::kSyncVersionMin;
    const std::vector<std::byte> bytes = wire::encode(frame);
    line_.next[to] =
        std::max(line_.next[to], clock_.now() + microseconds(random_.between(200, 3000)));
    clock_.at(line_.next[to] - clock_.now(), [this, life, to, bytes] {
        if (life != line_.life || !line_.up || !line_.open[to]) return;
        auto decoded = wire::decode_sync_message(bytes);
        ASSERT_TRUE(decoded.has_value()) << decoded.error().to_string();
        input(to, [&](Node& node) { node.received(std::move(*decoded)); });
    });
}

// A node ended its connection: what it sent arrives, and then the end.
void SimWorld::close_end(size_t from) {
    if (!line_.up || !line_.open[from]) return;
    line_.open[from] = false;
    const size_t to = 1 - from;
    line_.next[to] = std::max(line_.next[to], clock_.now() + microseconds(500));
    line_down_at(to, line_.life, line_.next[to] - clock_.now(), "closed by the peer");
}

void SimWorld::line_down_at(size_t site, uint64_t life, Duration after, const std::string& why) {
    clock_.at(after, [this, site, life, why] {
        if (life != line_.life || !line_.up) return;
        line_.open[site] = false;
        input(site, [&](Node& node) { node.disconnected(why); });
        if (line_.open[1 - site]) return;
        line_.up = false;
        connect_later();
    });
}

void SimWorld::cut() {
    if (!line_.up) return;
    ++counts_.cuts;
    say("cut");
    line_.up = false;
    const std::array<Duration, 2> notice{microseconds(random_.below(4000)),
                                         microseconds(random_.below(4000))};
    for (size_t index = 0; index < 2; ++index) {
        clock_.at(notice[index], [this, index, life = line_.life] {
            if (life != line_.life) return;
            input(index, [](Node& node) { node.disconnected("cut"); });
        });
    }
    clock_.at(milliseconds(5), [this] { connect_later(); });
}

// ---- the VM

void SimWorld::begin_session(size_t site) {
    session_.emplace();
    session_->number = ++sessions_;
    for (size_t index = 0; index < sites_[site]->disk_count(); ++index) {
        session_->baseline.push_back(sites_[site]->disk(index).contents());
    }
    primary_ = site;
    in_flight_ = 0;
    say(fmt::format("session {} at {}", session_->number, site));
}

void SimWorld::promote(size_t site, Node::Force force) {
    if (!sites_[site]->alive() || sites_[site]->node().is_primary()) return;
    input(site, [&](Node& node) {
        const auto promoted = node.promote(force);
        if (!promoted) say(fmt::format("{} is not promoted: {}", site, promoted.error().context));
        if (promoted) wanted_ = site;
    });
}

void SimWorld::vm_step() {
    if (!session_ || !sites_[primary_]->alive() || !sites_[primary_]->node().is_primary()) return;
    if (in_flight_ >= 6) return;
    NodeRequest request;
    request.id = next_request_++;
    request.disk = static_cast<uint16_t>(random_.below(sites_[primary_]->disk_count()));
    ++in_flight_;
    if (random_.chance(0.12)) {
        request.operation = StoreOperation::flush;
        session_->flushes[request.id] = {request.disk, order_++, 0};
    } else {
        Write write;
        write.id = request.id;
        write.disk = request.disk;
        // Hot spots in a few extents, so that writes meet each other.
        const uint64_t extent_sectors = kExtentBytes / kSimSectorBytes;
        const uint64_t spot = random_.below(10) * extent_sectors + random_.below(3) * 200;
        write.sectors = random_.chance(0.1) ? random_.between(1, 260) : random_.between(1, 8);
        write.first_sector = std::min(spot + random_.below(40), size_sectors_ - write.sectors);
        if (random_.chance(0.1)) write.first_sector = size_sectors_ - write.sectors;
        const bool zeroes = random_.chance(0.08);
        write.stamp = zeroes ? 0 : next_stamp_++;
        write.issued = order_++;
        request.operation =
            zeroes ? (random_.chance(0.5) ? StoreOperation::write_zeroes : StoreOperation::discard)
                   : StoreOperation::write;
        request.offset_bytes = write.first_sector * kSimSectorBytes;
        request.length_bytes = write.sectors * kSimSectorBytes;
        request.fua = random_.chance(0.05) ? Fua::yes : Fua::no;
        if (!zeroes) {
            request.data = SharedBytes::make(request.length_bytes);
            for (uint64_t sector = 0; sector < write.sectors; ++sector) {
                fill(request.data.writable().subspan(sector * kSimSectorBytes, kSimSectorBytes),
                     write.stamp);
            }
        }
        ++counts_.writes;
        session_->writes[write.id] = write;
    }
    input(primary_, [&](Node& node) { node.request(std::move(request)); });
}

bool SimWorld::peer_is_whole(size_t site) {
    const NodeStatus status = sites_[site]->node().status();
    return status.link == LinkState::streaming &&
           std::all_of(status.disks.begin(), status.disks.end(), [](const DiskStatus& disk) {
               return disk.state == DiskState::up_to_date &&
                      disk.peer_state == DiskState::up_to_date;
           });
}

// Step by step: the primary gives way, and later one of the two, which are together, is promoted.
void SimWorld::switch_over() {
    if (sites_[primary_]->alive() && sites_[primary_]->node().is_primary()) {
        if (!random_.chance(0.6)) return;
        say(fmt::format("{} is demoted", primary_));
        wanted_.reset();
        return input(primary_, [](Node& node) { (void)node.demote(); });
    }
    for (const auto& site : sites_) {
        if (!site->alive() || site->node().is_primary()) return;
        if (site->node().status().link != LinkState::streaming) return;
    }
    if (!wanted_) promote(random_.below(2));
}

void SimWorld::vm_answer(size_t site, const NodeAnswer& answer) {
    if (!session_ || site != primary_) return;
    const bool peer_whole = peer_is_whole(site);
    const bool sync = sites_[site]->node_config().mode == Mode::sync;
    const auto write = session_->writes.find(answer.id);
    const auto flush = session_->flushes.find(answer.id);
    if (write != session_->writes.end()) {
        --in_flight_;
        if (!answer.result) return;
        write->second.answered = order_++;
        write->second.promised = sync && peer_whole;
        const bool one_connection =
            line_.up && line_.life == session_->line_life && line_.open[0] && line_.open[1];
        EXPECT_TRUE(!sync || !one_connection || peer_whole)
            << "write " << answer.id << " was answered without the peer\n"
            << log_;
    } else if (flush != session_->flushes.end()) {
        --in_flight_;
        if (!answer.result) return;
        flush->second.answered = order_++;
        for (auto& [id, each] : session_->writes) {
            if (each.answered == 0 || each.answered > flush->second.issued) continue;
            each.locally_durable |= each.disk == flush->second.disk;
            // A write that was answered alone is not the peer's until it has caught up.
            each.promised_durable |= each.promised && sync && peer_whole;
        }
    }
}

void SimWorld::on_event(size_t site, const NodeEvent& event) {
    say(fmt::format("{}: {} {}", site, event.key, event.text));
    counts_.pulled_ahead += event.key == "pulled-ahead" ? 1 : 0;
    counts_.verify_differences += event.key == "verify-difference" ? 1 : 0;
    counts_.detached += event.key == "detached" ? 1 : 0;
    if (event.key == "role" && event.text.find("-> primary") != std::string::npos &&
        event.disk == 0) {
        ++counts_.promotions;
        begin_session(site);
        // A peer that was in sync and is parted from belongs to this session only if nothing is
        // marked; the first resync or agreement will tell.
        replica_of_ = {0, 0};
        if (peer_is_whole(site)) {
            ++counts_.turns;
            session_->line_life = line_.life;
            replica_of_[1 - site] = session_->number;
        }
    }
    if (event.key == "resync" && event.text.rfind("to generation", 0) == 0) {
        ++counts_.resyncs;
        counts_.full_resyncs += event.text.find("all") != std::string::npos ? 1 : 0;
        // A copy that is whole begins anew, also if nobody saw how the former resync ended.
        const bool whole =
            sites_[site]->node().status().disks[event.disk].state != DiskState::inconsistent;
        if (whole) before_resync_[site].erase(event.disk);
        before_resync_[site].emplace(event.disk, sites_[site]->disk(event.disk).contents());
        replica_of_[site] = 0;
    }
    if (event.key == "link" && event.text == "connected, receiving") {
        // Whole from the start, if no disk is in a resync.
        bool whole = true;
        for (const DiskStatus& disk : sites_[site]->node().status().disks) {
            whole &= disk.state == DiskState::up_to_date && disk.phase == SyncPhase::idle;
        }
        if (whole && session_ && !session_->lost_power) replica_of_[site] = session_->number;
        if (whole) before_resync_[site].clear();
    }
    if (event.key == "resync-done" && event.text.rfind("up to date", 0) == 0) {
        bool whole = true;
        for (const DiskStatus& disk : sites_[site]->node().status().disks) {
            whole &= disk.state == DiskState::up_to_date && disk.phase == SyncPhase::idle;
        }
        if (whole && session_ && !session_->lost_power) replica_of_[site] = session_->number;
        before_resync_[site].erase(event.disk);
    }
    if (event.key == "undo-done") check_returned(site, event.disk);
    if (event.key == "halted" && event.text.find("split-brain") != std::string::npos) {
        ++counts_.split_brains;
        EXPECT_TRUE(faults_.split_brain || faults_.promote_peer) << "a split brain out of nothing\n"
                                                                 << log_;
    }
}

// ---- faults

void SimWorld::crash(size_t site, SimSite::Crash how) {
    if (!sites_[site]->alive()) return;
    how == SimSite::Crash::kill ? ++counts_.crashes : ++counts_.power_failures;
    say(fmt::format("{} {}", site, how == SimSite::Crash::kill ? "killed" : "loses power"));
    sites_[site]->crash(how);
    forget_views(site);
    if (line_.up) {
        line_.open[site] = false;
        const size_t other = 1 - site;
        line_.next[other] = std::max(line_.next[other], clock_.now());
        // Of what it had sent, the rest may or may not arrive.
        if (random_.chance(0.5)) {
            line_down_at(other, line_.life, line_.next[other] - clock_.now(), "the peer died");
        } else {
            line_.up = false;
            input(other, [](Node& node) { node.disconnected("the peer died"); });
        }
    }
    if (session_ && site == primary_) {
        check_local(site, *session_);
        session_->lost_power |= how == SimSite::Crash::power;
    } else {
        check_replica(site, how);
        // From here on it is what the power failure left, until it has met the primary again.
        if (how == SimSite::Crash::power) replica_of_[site] = 0;
    }
    check_undo(site);
}

void SimWorld::restart_later(size_t site) {
    if (restarting_[site]) return;
    restarting_[site] = true;
    clock_.at(milliseconds(random_.between(1, 30)), [this, site] {
        restarting_[site] = false;
        restart(site);
    });
}

void SimWorld::restart(size_t site) {
    if (sites_[site]->alive()) return;
    say(fmt::format("{} starts", site));
    if (line_.up) {
        line_.up = false;
        input(1 - site, [](Node& node) { node.disconnected("the peer restarted"); });
    }
    sites_[site]->start();
    if (site == wanted_ && !(sites_[1 - site]->alive() && sites_[1 - site]->node().is_primary())) {
        promote(site);
    }
    connect_later();
}

void SimWorld::act() {
    switch (random_.below(10)) {
        case 0:
            if (faults_.cuts) cut();
            return;
        case 1:
        case 2: {
            const size_t site = random_.below(2);
            const bool power = random_.chance(0.5);
            if (power ? faults_.power_failures : faults_.crashes) {
                crash(site, power ? SimSite::Crash::power : SimSite::Crash::kill);
                if (random_.chance(0.15)) crash(1 - site, SimSite::Crash::kill);
            }
            for (size_t index = 0; index < 2; ++index) {
                if (!sites_[index]->alive()) restart_later(index);
            }
            return;
        }
        case 3:
            if (faults_.promote_peer && !sites_[primary_]->alive()) {
                if (!promote_at_point(1 - primary_)) promote(1 - primary_);
            }
            return;
        case 4:
            if (faults_.split_brain && !line_.up && sites_[1 - primary_]->alive())
                promote(1 - primary_);
            return;
        case 5: {
            const size_t site = random_.below(2);
            input(site, [&](Node& node) { (void)node.pause_resync(random_.chance(0.3)); });
            return;
        }
        case 7:
        case 8:
            if (faults_.switchovers) switch_over();
            return;
        case 6:
            if (sites_[primary_]->alive() && random_.chance(0.5)) {
                input(primary_, [](Node& node) { (void)node.verify(0, 0, 700); });
            }
            return;
        default:
            return;
    }
}

void SimWorld::run() {
    for (size_t index = 0; index < 2; ++index) sites_[index]->start();
    promote(0);
    connect_later();
    const Instant end = clock_.now() + milliseconds(400);
    Instant next_vm = clock_.now();
    Instant next_view = clock_.now();
    Instant next_act = clock_.now() + milliseconds(20);
    // A heartbeat of ticks: what depends on time alone goes on.
    const std::function<void()> beat = [&] {
        for (size_t index = 0; index < 2; ++index) input(index, [](Node&) {});
        if (clock_.now() < end + std::chrono::seconds(600)) clock_.at(milliseconds(5), beat);
    };
    clock_.at(milliseconds(5), beat);
    while (clock_.now() < end && !testing::Test::HasFatalFailure()) {
        if (clock_.now() >= next_vm) {
            vm_step();
            next_vm = clock_.now() + microseconds(random_.below(1200));
        }
        if (clock_.now() >= next_view) {
            view_step();
            next_view = clock_.now() + microseconds(random_.below(1500));
        }
        if (clock_.now() >= next_act) {
            act();
            next_act = clock_.now() + milliseconds(random_.between(1, 25));
        }
        ASSERT_TRUE(clock_.step());
    }
    heal();
}

}  // namespace antipode::disksync
