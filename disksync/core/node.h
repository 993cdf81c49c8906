// Node: one site's half of a group of replicated disks (a VM's), as a pure state machine. Two
// Nodes, a connection between them, a store and a metadata file under each disk make a replicated
// disk.
//
// Inputs are the public functions; each may add to the outputs, which take_outputs() hands over.
// The owner executes them: store operations in any order, file operations of a disk in the order
// given (all writes, then one sync), frames in order. Every LocalIo and FileIo is answered exactly
// once.
//
// One side sends, the other applies. A sending side that is primary serves a VM; what the VM writes
// goes to the local store and, in one order, to the peer. The frames carry a barrier number that
// rises when an answer has been given to the VM since the last frame: the peer may apply what has
// the same number in any order, and applies what has a higher one afterwards, so that it always
// holds a crash-consistent state of the disks, of all disks of the group together.
//
// INVARIANTS
//   - A write is given to the store only when its extents are durably in the activity log and, if
//     the peer does not get it, when a generation of which the peer has none is durable.
//   - A block in which the copies may differ is marked, or its write is in the window of frames
//     that the peer has not made durable (and so in the activity log).
//   - A mark is taken away only when the peer has made durable what was sent for the block after
//     the mark was set.
//   - A target is `inconsistent`, durably, before the first block of a resync is written to it, and
//     stays so until everything has arrived and is durable. With an undo log, what a resync
//     overwrites is durably in the log before.
//   - An answer to the VM means what the mode says (node_types.h).
//   - A primary that learns of a higher epoch stops: its writes are refused from then on.
//
// Not thread safe: one owner calls. Reads no clock: tick() and start() tell the time.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "common/base/random.h"
#include "disksync/core/node_parts.h"
#include "disksync/core/rate_control.h"

namespace antipode::disksync {

Generations generations_of(const wire::SyncGenerations& generations);

class Node {
  public:
    struct DiskConfig {
        DiskRecord record;
        std::optional<UndoLog> undo;  // if the record says that one is kept
    };
    // `disks` in the order of their names. `seed` makes generations: from the kernel, never twice.
    Node(const NodeConfig& config, std::vector<DiskConfig> disks, uint64_t seed);
    ~Node();
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    // ---- inputs
    void tick(Instant now, int64_t wall_seconds);
    void request(NodeRequest&& request);
    void local_done(LocalDone&& done);
    void file_done(Ticket ticket, const Result<>& result);
    void connected();
    void disconnected(const std::string& reason);
    void received(SyncFrame&& frame);
    // At a secondary, of the last consistent point. Errc::closed: that has passed.
    void read_view(ViewRead&& read);
    // What the connection has not sent yet.
    void link_queue(uint64_t bytes);
    // False: the node has enough to do; frames are to wait in the connection.
    bool wants_frames() const;

    // ---- commands
    enum class Force : uint8_t { no = 0, yes = 1 };
    // This site's copy becomes the one that the VM writes. Takes effect when status() says primary.
    // `epoch`: as granted; 0 = one above the highest seen.
    Result<> promote(Force force, Epoch epoch = Epoch());
    // The same from the last consistent point: what a resync has overwritten is put back first, and
    // all that came since is given up. The peer must be away. While is_returning(); if it ends
    // without this site being primary, why_not_returned() says why.
    Result<> promote_at_point(Epoch epoch = Epoch());
    bool is_returning() const { return returning_.has_value(); }
    const std::string& why_not_returned() const { return return_failed_; }
    // Ends cleanly: everything durable at both sites, nothing open.
    Result<> demote();
    // Higher epochs have been granted elsewhere: nothing of an older one is written from now on.
    void fence(Epoch epoch);
    Result<> verify(uint16_t disk, uint64_t first_block, uint64_t block_count);
    // Resync and verify, also those to come. Errc::denied at the side that receives.
    Result<> pause_resync(bool paused);
    void set_resync_rate_max(uint64_t bytes_per_second);
    void set_mode(Mode mode);
    // In a split brain: this side gives way at the next meeting.
    Result<> discard_mine();
    // This copy is not to be trusted: a full resync from the peer.
    Result<> invalidate();
    // The peer is known to have newer data.
    Result<> outdate();
    // A copy of the stores is going to be carried to a site that has none yet: from here on, what
    // is written is marked for it. What the copies will be called, disk by disk; they may be begun
    // once records_durable().
    Result<std::vector<Generation>> carry();
    bool records_durable() const;
    // Every block of the peer is to be sent again.
    Result<> resync_everything();
    // A disk that has grown at this site.
    Result<> resize(uint16_t disk, uint64_t size_bytes);

    NodeOutputs take_outputs();
    NodeStatus status() const;
    size_t disk_count() const { return disks_.size(); }
    bool is_primary() const;
    // Of the last consistent point, as status() has it; and why the former one has passed.
    std::optional<uint64_t> point() const;
    const std::string& point_ended() const { return point_ended_; }
    // Nothing is under way: no request, no store or file operation, nothing to be written down.
    bool idle() const;

  private:
    using Disk = NodeDisk;
    using Change = NodeChange;
    using Sent = NodeSent;
    using Incoming = NodeIncoming;
    using LocalAction = NodeAction;
    using View = NodeView;
    using LogRead = NodeLogRead;

    // ---- node.cc: outputs, files, state
    void event(NodeEvent::Weight weight, uint16_t disk, std::string key, std::string text);
    Ticket local(LocalAction&& action, LocalIo&& io);
    // Of each disk that has its store; how many, each of which tells that it is done.
    uint32_t flush_stores(LocalAction::Kind kind);
    void flush_former_life();
    void pump_files();
    void flush_for_log(uint16_t disk);
    void log_flush_done(uint16_t disk, const Result<>& result);
    void pump();
    uint64_t change_record(uint16_t disk, const Superblock& next,
                           DiskRecord::Order order = DiskRecord::Order::any);
    void set_state(uint16_t disk, DiskState state, const std::string& why);
    void records_changed();
    DiskStatus disk_status(uint16_t index) const;
    bool streaming_out() const { return link_ == LinkState::streaming && sending_; }
    bool streaming_in() const { return link_ == LinkState::streaming && !sending_; }
    void halt(const std::string& reason);
    void drop_link(const std::string& reason);
    void link_down(const std::string& reason);

    // ---- node_role.cc: who is primary
    void finish_promotion();
    void become_primary();
    uint64_t checksum_of_generations() const;
    bool is_at_rest() const;
    bool may_turn() const;
    void ask_for_turn();
    void part_from_peer(const std::string& why);
    std::optional<Errc> why_not_turn(const SyncFrame& frame) const;
    void on_turn(const SyncFrame& frame);
    void answer_turn();
    void on_turned(const SyncFrame& frame);
    void turn_stream(bool sending);
    void on_demoted();
    bool role_is_recorded() const;
    bool together() const;
    bool waits_for_peer();
    void finish_demotion();
    void raise_epoch(Epoch epoch);

    // ---- node_client.cc: what the VM wants
    void answer(uint64_t id, Result<> result, SharedBytes data = {});
    void client_read(NodeRequest&& request);
    void client_read_done(LocalAction&& action, Result<> result);
    void forward_read(uint64_t id, uint16_t disk, uint64_t offset, uint64_t length);
    void add_change(Change&& change);
    bool has_enough_changes() const;
    void pump_changes();
    bool may_start_changes();
    bool start_change(Change& change);
    bool is_reserved(const Disk& disk, const Change& change) const;
    void send_change(Change& change);
    void settle(Change& change);
    void change_local_done(uint64_t id, Result<> result);
    void local_write_failed(Change& change, Error error);
    bool may_answer(const Change& change) const;
    void finish_changes();
    void finish_change(uint64_t id);
    void detach(uint16_t disk, const Error& error);
    bool start_generation_if_shared();
    bool alone_is_recorded() const;

    // ---- node_link.cc: meeting the peer, and the sender's view of its progress
    SyncFrame frame_of(SyncType type, uint16_t disk, wire::SyncBody body, SharedBytes payload = {});
    void send(SyncFrame&& frame) { outputs_.frames.push_back(std::move(frame)); }
    uint64_t send_change_frame(SyncFrame&& frame, Sent&& sent);
    bool drained() const;
    void greet_if_drained();
    void send_hellos();
    CopyView own_view(const Disk& disk) const;
    void on_hello(const SyncFrame& frame);
    bool hello_fits(const SyncFrame& frame);
    void greet_done();
    SyncDirection direction_broken_off(const Disk& disk) const;
    SyncDecision decide_disk(Disk& disk);
    SyncDirection direction_of_equals() const;
    void begin_comparing();
    void on_bitmap(const SyncFrame& frame);
    void begin_streaming();
    void send_own_bitmap(uint16_t disk);
    void on_ack(const wire::SyncAck& ack);
    void look_at_sent(uint64_t after, uint64_t last, const std::function<void(Sent&)>& look);
    void settle_window();
    void settle_sent(const Sent& sent);
    void on_adopted(const SyncFrame& frame);
    void on_failed(const SyncFrame& frame);
    void on_read_answer(const SyncFrame& frame);
    void dispatch(wire::SyncFrame&& frame);
    void protocol_error(const std::string& what);
    void window_lost();
    void mark(Disk& disk, BlockRange blocks);

    // ---- node_source.cc: resync and verify, the side that sends
    void start_resync(uint16_t index, bool full);
    void pump_source();
    bool pump_resync(uint16_t index);
    bool pump_verify(uint16_t index);
    bool know_extents(uint16_t index, uint64_t block);
    void extents_known(LocalAction&& action, LocalDone&& done);
    uint64_t hole_at(const Disk& disk, uint64_t block) const;
    bool read_run(uint16_t index, BlockRange run, bool verify, bool digests);
    bool read_reserved(uint16_t index);
    void run_read(LocalAction&& action, Result<> result);
    void send_data(uint16_t index, BlockRange run, const SharedBytes& data);
    void send_zeroes(uint16_t index, BlockRange run);
    void send_digests(uint16_t index, BlockRange run, const SharedBytes& data, bool verify);
    void on_digest_answer(const SyncFrame& frame);
    void resync_answer(uint16_t index, Sent& sent, const SyncFrame& frame);
    void verify_answer(uint16_t index, const Sent& sent, const SyncFrame& frame);
    void verify_differs(uint16_t index, uint64_t block, const BlockDigest& theirs);
    void finish_verify_if_done(uint16_t index);
    void cut_verify(uint16_t index, const std::string& why);
    void note_verify(Disk& disk, uint64_t blocks, bool complete);
    bool resync_has_arrived(const Disk& disk) const;
    void finish_resync_if_done(uint16_t index);
    void send_end(uint16_t index);
    bool use_digests(const Disk& disk) const;
    bool source_may_read(const Disk& disk);

    // ---- node_view.cc: the last consistent point, for readers
    NoPoint::Why why_no_point_of(const Disk& disk) const;
    NoPoint look_for_point() const;
    Error point_error(const NoPoint& none) const;
    Result<> why_no_point() const;
    void watch_point();
    PointStatus point_status() const;
    void pump_views();
    bool start_view(const ViewRead& read);
    void read_piece(uint64_t number, View& view, const UndoLog::Piece& piece);
    void read_log(LogRead&& read);
    void log_read_done(LogRead&& read, Result<> result);
    void view_part_done(uint64_t number, Result<> result);
    void view_done(uint64_t number);

    // ---- node_return.cc: back to it
    void pump_return();
    bool return_is_recorded() const;
    void mark_for_return();
    void pump_put_back();
    void put_back(LogRead&& read, Result<> result);
    void return_step_done(uint16_t disk, Result<> result);
    void record_return();
    void finish_return();

    // ---- node_target.cc: the side that applies
    void on_begin(const SyncFrame& frame);
    void begin_resync(uint16_t index, const wire::SyncBegin& begin, bool full);
    void give_up_older_points(uint16_t index);
    void on_change(SyncFrame&& frame);
    const char* change_breaks_a_rule(const SyncFrame& frame) const;
    void on_read(const SyncFrame& frame);
    void pump_target();
    enum class Start : uint8_t { started = 1, waits = 2 };
    Start start_incoming(size_t index);
    Start start_write(Incoming& incoming);
    Start start_digests(Incoming& incoming);
    Start start_end(Incoming& incoming);
    bool must_preserve(const Incoming& incoming) const;
    void preserve(uint16_t disk, size_t from);
    void old_block_read(LocalAction&& action, Result<> result);
    void undo_written(uint16_t disk, const Result<>& result);
    void undo_io(uint16_t disk, std::vector<MetaWrite> writes, bool remove);
    void abandon_undo(uint16_t disk, const std::string& why);
    void incoming_done(uint64_t sequence, Result<> result);
    void digests_read(LocalAction&& action, Result<> result);
    void pop_done();
    void maybe_flush_target();
    void flush_target(bool barrier);
    void target_flush_done(LocalAction&& action, Result<> result);
    void end_adopted(uint16_t disk);
    void target_failed(uint16_t disk, const Error& error);
    void acknowledge();
    void target_lost();

    NodeConfig config_;
    const PairId pair_id_;
    std::vector<Disk> disks_;
    Random random_;
    Instant now_{};
    int64_t wall_seconds_ = 0;
    NodeOutputs outputs_;
    Ticket next_ticket_ = 1;
    std::map<Ticket, LocalAction> actions_;
    std::map<Ticket, uint16_t> file_tickets_;  // -> disk; of metadata plans
    struct UndoTicket {
        uint16_t disk = 0;
        bool removes = false;
    };
    std::map<Ticket, UndoTicket> undo_tickets_;

    // The last consistent point.
    bool point_is_there_ = false;
    uint64_t point_number_ = 1;
    std::string point_ended_;    // why the former one did
    int64_t point_seconds_ = 0;  // since 1970; 0: not known
    std::deque<ViewRead> views_waiting_;
    std::map<uint64_t, View> views_;
    uint64_t next_view_ = 1;
    uint64_t view_bytes_ = 0;
    std::map<Ticket, LogRead> log_reads_;
    std::optional<NodeReturn> returning_;
    std::string return_failed_;

    // The VM.
    std::map<uint64_t, Change> changes_;
    std::set<uint64_t> waiting_;  // of these, what has not begun; in the order in which they came
    std::set<uint64_t> unanswered_;  // and what has
    // To what something has happened, so that it may be answered or forgotten. There may be many
    // changes that only wait to be durable at the peer: nothing walks over them.
    std::vector<uint64_t> touched_;
    bool all_touched_ = false;  // of unanswered_
    uint64_t unsettled_ = 0;
    uint64_t unsettled_bytes_ = 0;
    uint64_t next_change_ = 1;
    std::map<uint64_t, NodeRequest> forwarded_reads_;
    uint64_t next_forwarded_ = 1;
    bool demoting_ = false;
    std::optional<uint32_t> closing_flushes_left_;  // of a demotion, once everything is done
    bool promoting_ = false;
    // A promotion within a connection: the peer agrees, or it is parted from and met again.
    bool turn_asked_ = false;
    Instant turn_until_{};
    bool turn_owed_ = false;        // to the peer that asked, once the record is durable
    bool parted_together_ = false;  // by this promotion
    std::optional<Instant> waits_for_peer_until_;  // since a promotion that parted the two
    bool fenced_ = false;
    uint32_t start_flushes_left_ = 0;

    // The connection.
    LinkState link_ = LinkState::down;
    bool sending_ = false;
    std::string link_reason_;
    uint64_t link_queue_bytes_ = 0;
    Instant heard_{};
    bool pinged_ = false;
    uint8_t peer_version_ = 0;  // of its frames
    uint64_t link_life_ = 0;    // counts connections
    bool greet_when_drained_ = false;

    // The sender.
    uint64_t sequence_ = 0;
    uint64_t barrier_ = 0;
    bool answered_since_frame_ = false;
    std::deque<Sent> window_;
    // Where the digests of a disk's run of blocks are in the window: by disk, whether of a verify,
    // and first block.
    std::map<std::tuple<uint16_t, bool, uint64_t>, uint64_t> digests_asked_;
    wire::SyncAck peer_;  // how far the peer is
    uint64_t backlog_bytes_ = 0;
    uint64_t data_in_flight_ = 0;  // of resync; sent and not applied
    RateControl rate_;

    // The target.
    std::deque<Incoming> incoming_;
    uint64_t incoming_bytes_ = 0;
    wire::SyncAck own_;
    wire::SyncAck acknowledged_;
    Mode peer_mode_ = Mode::async;
    uint32_t running_changes_ = 0;
    uint32_t running_ = 0;
    uint64_t running_barrier_ = 0;
    bool flushing_ = false;
    bool flush_again_ = false;  // someone waits for what is applied by now
    bool flush_soon_ = false;
    bool flush_expected_ = false;  // by its habits, the client's next
    uint32_t flushes_left_ = 0;
    uint64_t flush_covers_ = 0;
    uint64_t undurable_bytes_ = 0;
    bool undurable_changes_ = false;  // among them writes of the VM
    std::optional<Instant> undurable_since_;
};

}  // namespace antipode::disksync
