// NodePair: two Nodes with simulated disks and a line between them, under virtual time, for tests
// that say what happens when. The line comes back by itself after a while, unless told not to.
//
// One thread.
#pragma once

#include <gtest/gtest.h>

#include "tests/sim_disksync/sim_site.h"

namespace antipode::disksync {

class NodePair {
  public:
    static constexpr uint64_t kSize = 12 * kExtentBytes;
    static constexpr Duration kLineDelay = std::chrono::microseconds(300);
    static constexpr Duration kReconnect = std::chrono::milliseconds(20);

    // `version`: what both sites' frames say.
    explicit NodePair(const NodeConfig& node, size_t disks = 1,
                      uint8_t version = wire::kSyncVersion)
        : version_(version) {
        for (size_t index = 0; index < 2; ++index) {
            SimSiteConfig config;
            config.node = node;
            config.node.pair = Name::literal("web1");
            config.name = index == 0 ? "A" : "B";
            config.id = index + 1;
            config.size_bytes = kSize;
            config.disks = disks;
            sites_[index] = std::make_unique<SimSite>(config, clock_, random_);
            SimSite& site = *sites_[index];
            site.send = [this, index](SyncFrame&& frame) { send(index, std::move(frame)); };
            site.disconnect = [this, index] { close_end(index); };
            site.answered = [this, index](const NodeAnswer& answer) { note(index, answer); };
            site.on_event = [this, index](const NodeEvent& event) {
                if (std::getenv("ANTIPODE_EVENTS") != nullptr) {
                    std::printf("%zu: %s: %s\n", index, event.key.c_str(), event.text.c_str());
                }
                events_[index].push_back(event);
            };
            site.start();
        }
        beat();
        connect();
        run_until([this] { return together(); });
    }

    Node& node(size_t site) { return sites_[site]->node(); }
    SimSite& site(size_t site) { return *sites_[site]; }
    SimDisk& disk(size_t site) { return sites_[site]->disk(); }
    Instant now() const { return clock_.now(); }
    // False: the frame is lost. Must not change what the frame means.
    std::function<bool(size_t from, SyncFrame& frame)> tamper;
    bool reconnects = true;

    void input(size_t site, const std::function<void(Node&)>& act) {
        if (!sites_[site]->alive()) return;
        node(site).tick(clock_.now(), 0);
        act(node(site));
        sites_[site]->run_outputs();
    }
    void run_for(Duration time) {
        const Instant end = clock_.now() + time;
        while (clock_.now() < end) ASSERT_TRUE(clock_.step());
    }
    bool run_until(const std::function<bool()>& condition,
                   Duration limit = std::chrono::seconds(30)) {
        const Instant end = clock_.now() + limit;
        while (!condition() && clock_.now() < end) clock_.step();
        return condition();
    }
    bool together() {
        for (const auto& site : sites_) {
            if (!site->alive()) return false;
            const NodeStatus status = site->node().status();
            if (status.link != LinkState::streaming || status.disks[0].marked_blocks != 0 ||
                status.disks[0].state != DiskState::up_to_date) {
                return false;
            }
        }
        return true;
    }
    bool promote(size_t site) {
        input(site, [](Node& node) { ASSERT_TRUE(node.promote(Node::Force::no)); });
        return run_until([&] { return node(site).is_primary(); });
    }

    // The id to ask after: one block of a number.
    uint64_t write(size_t site, uint64_t sector, Stamp stamp, Fua fua = Fua::no) {
        NodeRequest request;
        request.id = ++last_request_;
        request.operation = StoreOperation::write;
        request.offset_bytes = sector * kSimSectorBytes;
        request.length_bytes = kSimSectorBytes;
        request.data = SharedBytes::make(kSimSectorBytes);
        request.fua = fua;
        fill(request.data.writable(), stamp);
        input(site, [&](Node& node) { node.request(std::move(request)); });
        return last_request_;
    }
    uint64_t flush(size_t site) {
        NodeRequest request;
        request.id = ++last_request_;
        request.operation = StoreOperation::flush;
        input(site, [&](Node& node) { node.request(std::move(request)); });
        return last_request_;
    }
    bool answered(uint64_t id) const { return answers_.contains(id); }
    bool succeeded(uint64_t id) const {
        const auto found = answers_.find(id);
        return found != answers_.end() && found->second.has_value();
    }
    // What the test wants to look at in the moment of an answer.
    std::function<void(uint64_t id)> on_answer;

    bool has_event(size_t site, const std::string& key, const std::string& text = "") const {
        return std::any_of(events_[site].begin(), events_[site].end(), [&](const NodeEvent& event) {
            return event.key == key && event.text.find(text) != std::string::npos;
        });
    }
    void forget_events() { events_ = {}; }

    void cut() {
        if (!std::exchange(up_, false)) return;
        ++life_;
        for (size_t index = 0; index < 2; ++index) {
            input(index, [](Node& node) { node.disconnected("cut"); });
        }
        connect_later();
    }
    void crash(size_t site, SimSite::Crash how) {
        sites_[site]->crash(how);
        cut();
    }
    // As if it were on the line.
    void deliver(size_t from, const SyncFrame& frame) {
        clock_.at(kLineDelay, [this, from, life = life_, bytes = wire::encode(frame)] {
            if (life != life_) return;
            auto decoded = wire::decode_sync_message(bytes);
            ASSERT_TRUE(decoded.has_value()) << decoded.error().to_string();
            input(1 - from, [&](Node& node) { node.received(std::move(*decoded)); });
        });
    }
    void step() { ASSERT_TRUE(clock_.step()); }
    void restart(size_t site) { sites_[site]->start(); }
    void connect() {
        if (up_ || !sites_[0]->alive() || !sites_[1]->alive()) return;
        up_ = true;
        ++life_;
        for (size_t index = 0; index < 2; ++index) {
            input(index, [](Node& node) { node.connected(); });
        }
    }

  private:
    void beat() {
        clock_.at(std::chrono::milliseconds(1), [this] {
            for (size_t index = 0; index < 2; ++index) input(index, [](Node&) {});
            beat();
        });
    }
    void connect_later() {
        clock_.at(kReconnect, [this] {
            if (reconnects) connect();
        });
    }
    void send(size_t from, SyncFrame&& frame) {
        if (!up_ || (tamper && !tamper(from, frame))) return;
        frame.version = version_;
        deliver(from, frame);
    }
    // A node ends its connection: what it sent arrives, and then the end.
    void close_end(size_t from) {
        if (!up_) return;
        clock_.at(kLineDelay, [this, from, life = life_] {
            if (life != life_) return;
            up_ = false;
            ++life_;
            input(1 - from, [](Node& node) { node.disconnected("closed by the peer"); });
            connect_later();
        });
    }
    void note(size_t, const NodeAnswer& answer) {
        answers_.emplace(answer.id, answer.result);
        if (on_answer) on_answer(answer.id);
    }

    const uint8_t version_;
    SimClock clock_;
    Random random_{1};
    std::array<std::unique_ptr<SimSite>, 2> sites_;
    std::array<std::vector<NodeEvent>, 2> events_;
    std::map<uint64_t, Result<>> answers_;
    uint64_t last_request_ = 0;
    bool up_ = false;
    uint64_t life_ = 0;
};

}  // namespace antipode::disksync
