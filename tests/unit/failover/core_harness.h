// One failover core and a hand to feed it: answers, durable writes and peers are made by the test.
#pragma once

#include <gtest/gtest.h>
#include <optional>

#include "common/failover/failover.h"

namespace antipode::failover {

inline const Name kPairName = Name::literal("web1");
inline const Name kSiteA = Name::literal("site-a");
inline const Name kSiteB = Name::literal("site-b");
constexpr wire::StoreIdentity kStore{77};

inline Member site_a(uint64_t incarnation = 1) {
    return {kSiteA, Incarnation(incarnation)};
}
inline Member site_b(uint64_t incarnation = 1) {
    return {kSiteB, Incarnation(incarnation)};
}

// Completes durable writes at once unless told to hold them back.
class Core {
  public:
    Core(Member self, Member other) : me(self), peer(other), core(config(self.site, other.site)) {}

    static Config config(const Name& site, const Name& peer_site) {
        Config config;
        config.pair = kPairName;
        config.site = site;
        config.peer_site = peer_site;
        config.first_role = site == kSiteA ? wire::FirstRole::primary : wire::FirstRole::backup;
        return config;
    }

    void step(const Input& input) {
        add(core.step(input, now));
        while (!hold_writes && next_done_ < done_.size()) {
            const Input done = done_[next_done_++];
            add(core.step(done, now));
        }
    }
    void finish_writes() {
        hold_writes = false;
        while (next_done_ < done_.size()) {
            const Input done = done_[next_done_++];
            add(core.step(done, now));
        }
    }
    void pass(Duration time) {
        now += time;
        if (core.deadline() <= now) step(Tick{});
    }

    // The last output of a kind since clear(), or nullptr.
    template <typename T>
    const T* last() const {
        for (auto output = outputs.rbegin(); output != outputs.rend(); ++output) {
            if (const T* found = std::get_if<T>(&*output)) return found;
        }
        return nullptr;
    }
    template <typename T>
    size_t index_of() const {
        for (size_t i = 0; i < outputs.size(); ++i) {
            if (std::holds_alternative<T>(outputs[i])) return i;
        }
        return outputs.size();
    }
    const wire::PeerMessage* said(wire::PeerMessageKind kind) const {
        for (auto output = outputs.rbegin(); output != outputs.rend(); ++output) {
            const Send* send = std::get_if<Send>(&*output);
            if (send != nullptr && send->message.kind == kind) return &send->message;
        }
        return nullptr;
    }
    const wire::Request* asked(wire::RequestKind kind) const {
        for (auto output = outputs.rbegin(); output != outputs.rend(); ++output) {
            const Ask* ask = std::get_if<Ask>(&*output);
            if (ask != nullptr && ask->request.kind == kind) return &ask->request;
        }
        return nullptr;
    }
    void clear() { outputs.clear(); }
    State state() const { return core.state(); }

    wire::PeerMessage from_peer(wire::PeerMessageKind kind, uint64_t epoch) const {
        wire::PeerMessage message;
        message.kind = kind;
        message.pair = kPairName;
        message.epoch = Epoch(epoch);
        message.from = peer;
        message.to = me;
        return message;
    }
    void hello(State peer_state, uint64_t epoch, uint64_t live_epoch = 0,
               wire::StoreIdentity store = kStore) {
        wire::PeerMessage message = from_peer(wire::PeerMessageKind::hello, epoch);
        message.state = peer_state;
        message.live_epoch = Epoch(live_epoch);
        message.disk = wire::DiskCopy::complete;
        message.memory = wire::VmMemory::none;
        message.first_role =
            peer.site == kSiteA ? wire::FirstRole::primary : wire::FirstRole::backup;
        message.store = store;
        step(PeerSays{message});
    }
    wire::Record paired(uint64_t epoch, Member holder, Member other) const {
        wire::Record record = base(epoch);
        record.mode = wire::PairMode::paired;
        record.holder = holder;
        record.members = {holder, other};
        return record;
    }
    wire::Record solo(uint64_t epoch, Member holder) const {
        wire::Record record = base(epoch);
        record.mode = wire::PairMode::solo;
        record.holder = holder;
        record.members = {holder, Member{}};
        return record;
    }
    // The tiebreaker answers the last request with this record.
    void answer(const wire::Record& record, wire::AnswerKind kind = wire::AnswerKind::record) {
        wire::Request request;
        if (const Ask* ask = last<Ask>()) {
            request = ask->request;
        } else {
            request.kind = wire::RequestKind::query;
            request.pair = kPairName;
            request.me = me;
        }
        step(TiebreakerAnswer{{kind, wire::RefusalReason::none, request, record, record.store}});
    }
    void refuse(wire::RefusalReason reason) {
        const Ask* ask = last<Ask>();
        ASSERT_NE(ask, nullptr);
        step(TiebreakerAnswer{{wire::AnswerKind::refused, reason, ask->request, {}, kStore}});
    }

    // ---- Ways into states ----
    void start(std::optional<Durable> stored = std::nullopt, Host host = Host::rebooted) {
        step(Start{me, stored, stored ? stored->epoch : Epoch(0), host});
        step(TiebreakerUp{kStore});
        step(SessionUp{});
    }
    void to_paired_primary() {
        start();
        hello(State::starting, 0);
        refuse(wire::RefusalReason::unknown_pair);
        answer(paired(1, me, peer), wire::AnswerKind::paired);
        hello(State::paired_backup, 1);
        ASSERT_EQ(state(), State::paired_primary);
        clear();
    }
    void to_paired_backup() {
        start();
        hello(State::starting, 0);
        begin(1, 0);
        hello(State::paired_primary, 1, 1);
        ASSERT_EQ(state(), State::paired_backup);
        clear();
    }
    // A backup, by an operator's word and without the tiebreaker. Outputs are kept.
    void to_forced() {
        to_paired_backup();
        step(TiebreakerDown{});
        step(PeerSuspected{});
        step(SessionDown{});
        step(Command{CommandKind::force, "web1"});
        step(LogDrained{LogIndex(0)});
        ASSERT_EQ(state(), State::forced);
    }
    void begin(uint64_t epoch, uint64_t previous) {
        wire::PeerMessage message = from_peer(wire::PeerMessageKind::begin, epoch);
        message.previous_epoch = Epoch(previous);
        message.store = kStore;
        step(PeerSays{message});
    }
    void to_solo() {
        to_paired_primary();
        step(PeerSuspected{});
        answer(solo(2, me), wire::AnswerKind::granted);
        ASSERT_EQ(state(), State::solo);
        clear();
    }
    void to_pairing() {
        to_solo();
        peer.incarnation = Incarnation(2);
        step(PeerTrusted{});
        step(SessionUp{});
        hello(State::rejoining, 2);
        step(PeerSays{from_peer(wire::PeerMessageKind::join, 2)});
        ASSERT_EQ(state(), State::seeding);
        step(SeedReady{last<BeginSeed>()->attempt});
        ASSERT_EQ(state(), State::pairing);
    }
    // A primary that lost to its peer, and is being seeded by it. Its VM's memory is kept.
    void to_being_seeded(uint64_t attempt) {
        to_paired_primary();
        step(PeerSuspected{});
        answer(solo(2, peer), wire::AnswerKind::denied);
        step(VmHalted{});
        step(PeerTrusted{});
        hello(State::solo, 2, 2);
        ASSERT_EQ(state(), State::rejoining);
        wire::PeerMessage begin = from_peer(wire::PeerMessageKind::seed_begin, 2);
        begin.attempt = attempt;
        step(PeerSays{begin});
        ASSERT_NE(last<ReceiveSeed>(), nullptr);
    }
    void log(uint64_t epoch, uint64_t first, uint64_t last_entry) {
        step(LogReceived{Epoch(epoch), peer, me, LogIndex(first), LogIndex(last_entry)});
    }
    void ack(uint64_t epoch, uint64_t last_entry) {
        step(AckReceived{Epoch(epoch), peer, me, LogIndex(last_entry)});
    }

    Member me;
    Member peer;
    Failover core;
    Instant now{std::chrono::seconds(100)};
    bool hold_writes = false;
    Outputs outputs;

  private:
    static wire::Record base(uint64_t epoch) {
        wire::Record record;
        record.pair = kPairName;
        record.store = kStore;
        record.epoch = Epoch(epoch);
        record.sites = {kSiteA, kSiteB};
        return record;
    }
    void add(Outputs more) {
        for (Output& output : more) {
            if (const Persist* persist = std::get_if<Persist>(&output)) {
                done_.push_back(Persisted{persist->number});
            } else if (const FenceDisk* fence = std::get_if<FenceDisk>(&output)) {
                done_.push_back(DiskFenced{fence->epoch});
            }
            outputs.push_back(std::move(output));
        }
    }
    std::vector<Input> done_;
    size_t next_done_ = 0;
};

}  // namespace antipode::failover
