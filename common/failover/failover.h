// Failover: one site's part in keeping exactly one VM, as a pure state machine.
//
//     Failover core(config);
//     for each thing that happens:   run(core.step(input, now));   arm_timer(core.deadline());
//
// The shell (replicator/control/node, or the simulator) feeds Inputs (input.h) and carries out
// Outputs (output.h) in order. The core holds no socket, no file, no thread and reads no clock. The
// first input is Start. What is in force is remembered by the core: the gate, the epoch, who the
// partner is.
//
// The life of a pair, in the words of docs/PROTOCOL-failover.md:
//
//     starting --create--> going_live --> paired_primary <------------- pairing <-- seeding <--
//     solo
//        |                                    |   ^  lost the backup       |                     ^
//        +----- begin ---> paired_backup      |   +--- it came back        +-- give up: acquire  |
//        |                   | lost primary   v                            v                     |
//        |                   v              asking_primary ---------- granted ------------------>+
//        |                 asking_backup ---granted--> going_live (consume log, fence, persist)->+
//        |                   | denied           | denied
//        |                   +----> halting <---+
//        v                             v
//     (reclaim)    rejoining <----- halted
//
// Threads: one, the owner's; a value type: it may be copied (the exhaustive tests do).
// INVARIANTS
//   - Nothing is promised at an epoch that is not durable here: no acknowledgement, no released
//   output, no
//     acquire, before Persisted has confirmed it.
//   - The gate is open only while this member is the sole member of the tiebreaker's record, or an
//   operator
//     has forced it; otherwise output leaves for what the partner's present incarnation has
//     acknowledged.
//   - An acquire, once sent, is taken back only by the tiebreaker's word.
//   - No decision depends on how long something took; time only says when to ask.
//   - LogIndex never goes back while a VM lives, across epochs and sites; a seed's cut is an entry
//   itself.
// A transition that transition_table.h calls forbidden is the shell's error and fails a check;
// whatever a peer or the tiebreaker sends is at worst ignored.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/failover/input.h"
#include "common/failover/output.h"
#include "common/failover/transition_table.h"

namespace antipode::failover {

enum class Policy : uint8_t { automatic = 1, operator_decides };

struct Config {
    Name pair;
    Name site;
    Name peer_site;  // with three sites: the one that is the peer at the start
    // All three sites of a pair that has so many, as in its record: the two of the first start,
    // sorted, then the third, which cannot create the pair. Empty: site and peer_site are all there
    // are.
    wire::Sites sites;
    wire::FirstRole first_role = wire::FirstRole::primary;
    Policy rejoin = Policy::automatic;   // a halted site becomes a backup by itself
    Policy reclaim = Policy::automatic;  // a VM whose processes all died is booted again by itself
    // The tiebreaker tells of every change of the record while the connection lasts. It is asked
    // all the same, but seldom once it has answered: 10,000 pairs that ask every second are 10,000
    // questions a second to one tiebreaker, for nothing.
    Duration query_interval = std::chrono::seconds(1);       // without an answer
    Duration told_interval = std::chrono::seconds(20);       // after one
    Duration ask_interval = std::chrono::milliseconds(250);  // an unanswered request is sent again
    Duration hello_interval = std::chrono::seconds(1);
    Duration seed_retry_interval = std::chrono::seconds(2);
    // The backup is reachable but acknowledges nothing new: give it up after this long.
    Duration acknowledge_limit = std::chrono::seconds(5);
    Duration switch_over_limit = std::chrono::seconds(2);
};

class Failover {
  public:
    explicit Failover(Config config);

    Outputs step(const Input& input, Instant now);
    // When to send Tick at the latest; Instant::max() = never.
    Instant deadline() const;

    State state() const { return state_; }
    Event last_event() const { return last_event_; }  // what the last input meant; for traces
    Epoch epoch() const { return epoch_; }
    const Member& me() const { return me_; }
    const Member& partner() const { return partner_; }
    const Name& peer_site() const { return peer_site_; }
    const Config& config() const { return config_; }
    // TurnTo means something now (site_choice.h).
    bool may_turn() const;
    // The record, if the tiebreaker has told of it since it was last connected.
    const wire::Record* told_record() const { return record_fresh_ ? &*record_ : nullptr; }
    bool pair_asked() const { return pair_asked_; }
    const std::string& reason() const { return reason_; }
    const Durable& durable() const { return durable_; }
    const SetGate& gate() const { return gate_; }
    LogIndex log_end() const { return log_end_; }     // backup: kept up to here
    LogIndex acknowledged() const { return acked_; }  // primary: the partner has up to here
    const std::optional<wire::Record>& record() const { return record_; }
    const std::optional<wire::PeerMessage>& peer() const { return peer_; }  // its last hello
    const std::map<AlarmCode, std::string>& alarms() const { return alarms_; }
    bool tiebreaker_usable() const { return tiebreaker_up_ && store_accepted(); }
    bool peer_suspected() const { return suspected_; }
    // Asking, and the tiebreaker cannot be reached: nothing will happen by itself.
    bool frozen() const;

  private:
    // What there is of the VM at this site.
    enum class Vm : uint8_t {
        none = 1,
        running,
        paused,            // by a switchover
        following,         // replays the log
        stopped_primary,   // kept; it ran as the primary
        stopped_follower,  // kept; it may have log left to consume
    };
    enum class PrimaryLive : uint8_t { unknown = 1, yes };
    enum class Target : uint8_t { solo = 1, unprotected, paired, forced };

    // failover.cc: dispatch, what follows from the state by itself, small helpers.
    Event classify(const Input& input) const;
    Event classify_message(const wire::PeerMessage& message) const;
    Event classify_answer(const wire::Answer& answer) const;
    void handle(Event event, const Input& input);
    void settle();
    void settle_state();
    void settle_gate();
    void settle_acknowledgement();
    void settle_hello();
    void settle_alarms();
    void on_tick();
    void on_persisted(uint64_t number);
    void enter(State next, std::string reason);
    bool third_site() const { return config_.site == config_.sites[2]; }
    bool idle() const { return state_ == State::starting || state_ == State::halted; }
    bool asking() const {
        return state_ == State::asking_primary || state_ == State::asking_backup;
    }
    bool usable_session() const { return session_up_ && peer_.has_value(); }
    bool from_partner(const wire::PeerMessage& message) const {
        return message.from == partner_ && message.to == me_;
    }
    bool store_accepted() const;
    bool stored(Epoch epoch) const { return stored_.epoch >= epoch; }
    uint64_t persisted_number() const { return persisted_number_; }
    void persist();
    void fence();
    void use_epoch(Epoch epoch, const Member& partner);
    template <typename T>
    void emit(T output) {
        out_.emplace_back(std::move(output));
    }
    wire::PeerMessage message(wire::PeerMessageKind kind) const;
    void send(wire::PeerMessageKind kind, LogIndex position = {});
    void send_begin();
    void raise(AlarmCode code, std::string text);
    void clear(AlarmCode code);

    // failover_live.cc: winning, losing, and what leads there.
    void on_start(const Start& start);
    void on_local(Event event, const Input& input);
    void go_live(Epoch epoch, Target target, const std::string& reason);
    void settle_going_live();
    void now_live();
    void halt(Epoch epoch, const std::string& reason);
    void settle_halting();
    bool diverges_at(Epoch epoch) const;
    void lose_partner(const std::string& reason);
    void become_backup(Epoch epoch, const Member& primary, PrimaryLive live,
                       const std::string& reason);
    void follow_live_primary();
    void flush();
    void disk_incomplete();
    void on_disk_flushed();
    bool resumable() const;
    void try_resume();
    void on_vm_paused(LogIndex last);
    void on_guest_stopped(LogIndex position);
    void on_vm_failed(const std::string& why);

    // failover_peer.cc: what the other site says.
    void on_link(Event event, const Input& input);
    void on_turn_to(const Name& site);
    void on_hello(Event event, const wire::PeerMessage& hello);
    void on_hello_fences(const wire::PeerMessage& hello);
    void on_plain_hello(const wire::PeerMessage& hello);
    void on_message(Event event, const wire::PeerMessage& message);
    void on_begin(const wire::PeerMessage& begin);
    void on_join(const wire::PeerMessage& join);
    void on_seed_loaded_said(const wire::PeerMessage& loaded);
    void on_hand_over(const wire::PeerMessage& hand_over);
    void on_log(const LogReceived& log);
    void on_ack(const AckReceived& ack);
    void start_switching_backup();

    // failover_seed.cc: seeding, from both sides.
    void on_seed(Event event, const Input& input);
    void begin_seeding(const Member& to);
    void cut_if_ready();
    void abort_seed();  // of the sender, if one is under way
    void abandon_seeding(const std::string& reason);
    void enter_rejoining();
    void settle_rejoining();
    void leave_rejoining(const std::string& reason);

    // failover_record.cc: the tiebreaker, and what an idle site does about its record.
    void on_tiebreaker(Event event, const Input& input);
    void on_answer(Event event, const wire::Answer& answer);
    void check_sites(const wire::Record& record);
    void on_granted(const wire::Record& record);
    void on_paired_primary(const wire::Record& record);
    void on_paired_backup(const wire::Record& record);
    void on_lost(const wire::Record& record);
    void on_same(const wire::Answer& answer);
    void on_refused(const wire::Answer& answer);
    void settle_idle();
    void consider_create();
    void consider_reclaim();
    bool newest_here() const;
    bool may_vouch(const Name& site) const;
    bool vm_usable_here() const;
    std::optional<wire::RequestKind> wanted() const;
    bool answers_question(const wire::Answer& answer) const;
    wire::Request request(wire::RequestKind kind) const;
    void settle_asking();

    // failover_command.cc
    void on_command(Event event, const Command& command);
    Epoch next_forced(Epoch highest) const;
    void on_force(const Command& command);
    void on_enrol_again(const Command& command);
    void on_switch_over();
    void refuse(CommandKind kind, std::string reason);

    Config config_;
    Instant now_{};
    Outputs out_;
    State state_ = State::starting;
    Event last_event_ = Event::start;
    std::string reason_;

    // Who and when.
    Member me_;
    Member partner_;     // the other member of the epoch, or who is being seeded or seeds us
    Epoch epoch_;        // the epoch this site acts in
    Epoch known_epoch_;  // the highest heard of
    Durable durable_;    // as last written
    Durable stored_;     // as last confirmed
    uint64_t persist_number_ = 0;
    uint64_t persisted_number_ = 0;
    std::vector<std::pair<uint64_t, Durable>> writing_;  // not confirmed yet, in order
    Epoch disk_fenced_;
    Epoch disk_fence_asked_;
    uint64_t flushes_under_way_ = 0;
    bool flush_counts_ = false;  // nothing was begun since that the last flush does not cover

    // The peer.
    Name peer_site_;
    bool session_up_ = false;
    bool suspected_ = false;
    std::optional<wire::PeerMessage> peer_;  // its last hello in this session
    bool hello_due_ = false;
    Instant next_hello_{};
    Epoch begin_from_;  // previous_epoch of our begin

    // The tiebreaker.
    bool tiebreaker_up_ = false;
    wire::StoreIdentity tiebreaker_store_;
    std::optional<wire::Record> record_;
    bool record_absent_ = false;
    bool record_fresh_ = false;   // told since the tiebreaker was last connected
    bool record_behind_ = false;  // its store has lost decisions: its record is older than ours
    Epoch acquire_asked_;         // an acquire of this epoch may have left
    Epoch same_confirmed_;        // the tiebreaker has said, after that, that this epoch stands
    bool insist_ = false;         // asking although the partner may be well: do not resume
    bool query_now_ = false;
    std::optional<wire::Request> asked_;  // the last one
    Instant next_ask_{};

    // The VM and its log.
    Vm vm_ = Vm::none;
    SetGate gate_;
    UseEpoch used_;
    LogIndex log_end_;          // backup: accepted up to here
    LogIndex acked_;            // primary: acknowledged by the partner
    LogIndex produced_;         // primary: written
    Instant ack_progress_{};    // acked_ rose, or nothing was outstanding
    Acknowledge acknowledged_;  // the last one sent
    bool consuming_ = false;    // ConsumeLog was asked: no more entries fit in
    bool drained_ = false;      // and it is done

    // Going live and halting.
    Target target_ = Target::solo;
    std::optional<RunFrom> run_from_;  // nullopt: the VM runs already
    bool sealed_ = false;              // fence and persist have been asked for this epoch
    bool vm_halted_ = false;
    bool drop_memory_ = false;
    bool unprotected_wanted_ = false;
    std::string retire_reason_;  // not empty: this process ends when it has halted

    // Seeding; `attempt_` and the rest belong to whichever side we are.
    uint64_t attempt_ = 0;
    bool seed_running_ = false;
    bool seed_ready_ = false;
    bool seed_cut_ = false;
    LogIndex cut_position_;
    bool seed_acked_ = false;
    bool pair_asked_ = false;  // a pair request of this epoch may have left
    bool loaded_ = false;
    LogIndex loaded_position_;
    bool join_wanted_ = false;
    Instant next_join_{};
    Instant seed_not_before_{};

    // Switchover.
    bool pausing_ = false;
    bool handed_over_ = false;
    std::optional<LogIndex> hand_over_position_;
    Instant switch_limit_{};

    // Idle sites and operators.
    Epoch forcing_;
    bool rejoin_wanted_ = false;
    bool reclaim_wanted_ = false;
    bool enrol_wanted_ = false;
    bool reclaiming_ = false;
    bool creating_ = false;
    Member witness_;

    std::map<AlarmCode, std::string> alarms_;
};

}  // namespace antipode::failover
