// The control API: what a replicator tells about itself and what it can be asked to do, over its
// control socket. One JSON object a line each way (docs/CONTROL-API.md):
//
//     {"id":1,"method":"status","params":{}}   ->   {"id":1,"result":{...}}
//                                              or {"id":1,"error":{"code":"busy","message":"..."}}
//
// This header is all that web/ and the command line know of a replicator, so it includes
// common/base only. Every value type is a plain struct; to_json() writes it, parse_*() reads it and
// names the field that is wrong. Absent numbers are std::nullopt, shown as null: "not known" is
// never shown as 0.
//
// Threads: values; no thread of its own.
// INVARIANTS
//   - Strings leave as valid UTF-8 whatever a guest wrote, and no reply exceeds kLineBytesMax.
//   - Times of day (`*_unix_ms`) are for people; nothing is decided by them.
//   - Words of enums are stable; a reader that meets an unknown one reports it by field and value.
//   - A reader ignores fields that it does not know; a field is never reused for something else.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace antipode::control {

namespace json = boost::json;

constexpr size_t kLineBytesMax = size_t{1} << 20;
constexpr uint32_t kApiVersion = 1;
constexpr size_t kConsoleTailBytesMax = 8192;
constexpr size_t kEventsPerReplyMax = 256;

// ---- Words
// -----------------------------------------------------------------------------------------

// What this site's replicator is doing. It says less than the failover core's own state, on
// purpose.
enum class State {
    starting = 1,  // has not found its peer, its role or its record yet
    primary,       // paired; output leaves under the Output Rule
    backup,        // paired; replays and acknowledges
    joining,       // a new backup that is being seeded; may not acquire yet
    pairing,       // solo, under the Output Rule towards a backup that is being seeded
    solo,          // the VM runs here without a backup, with the tiebreaker's grant
    asking,        // lost the peer, has asked the tiebreaker, releases nothing
    waiting,     // lost the peer and the tiebreaker: frozen until one answers or an operator forces
    going_live,  // won; consumes its log and re-issues pending disk I/O
    halted,      // denied, or fenced by a higher epoch: the VM stands, output is off
    switching,   // planned switchover in progress
    stopped,     // the VM was shut down on purpose
    failed,      // an error that only an operator can clear; `reason` names it
};
enum class Role { none = 1, primary, backup };
// Would a loss of the primary's site, now, lose nothing?
enum class Protection { protected_ = 1, degraded, unprotected };
enum class VcpuState { none = 1, running, waiting, paused, stopped };  // waiting: in HLT
enum class Severity { info = 1, warning, error };
enum class DiskState {
    up_to_date = 1,
    syncing,       // being filled or resynchronised; `synced_ratio` says how far
    inconsistent,  // cannot serve the VM by itself
    failed,        // the store returns errors
    fenced,        // carries a higher epoch than ours: not to be written by us
    detached,
};
// pair.toml: what a halted or restarted site does when the other one runs the VM (pair.rejoin), and
// when nobody does, as every process of the VM has died (pair.reclaim).
enum class SelfHelp { automatic = 1, wait };
enum class RecordMode { none = 1, paired, solo };  // the tiebreaker's record of the pair
enum class OperationState { running = 1, succeeded, failed, cancelled };
enum class ReplayMode { lockstep = 1, checkpoint, automatic };
// A drill: a copy of the backup's VM, run live beside it in a network of its own.
enum class DrillState {
    starting = 1,  // waits for an exit of the backup's VM at which to be copied
    running,
    ended,   // by drill_stop or at its time; its files are kept until drill_clean or the next drill
    failed,  // `text` says why
};
enum class DrillNetwork {
    none = 1,  // what the copy sends is counted and dropped
    isolated,  // the TAPs that [drill] of pair.toml names
};

// Stable: hooks, alerts and documents name them. Never renumber or reuse a word.
enum class EventCode {
    service_started = 1,
    service_stopping,
    state_changed,
    peer_connected,
    peer_lost,
    link_degraded,
    link_restored,
    acquire_asked,
    acquire_won,
    acquire_denied,
    went_live,
    halted,
    paired,
    seed_started,
    seed_finished,
    switchover_started,
    switchover_finished,
    forced,
    tiebreaker_connected,
    tiebreaker_lost,
    tiebreaker_refused,
    digest_mismatch,
    digest_healed,
    disk_failed,
    disk_fenced,
    disk_sync_started,
    disk_sync_finished,
    disk_put_back,
    disk_undo_dropped,
    vm_started,
    vm_paused,
    vm_resumed,
    vm_stopped,
    vm_error,
    lag_exceeded,
    lag_recovered,
    operator_action,
    drill_started,
    drill_finished,
    fault_injected,
    fault_ended,
    certificate_expiring,
    verify_started,
    verify_finished,
    disk_mismatch,  // the two sites' disks were found to differ
    disk_repaired,
    mode_changed,  // a VM of mode `auto` goes by deltas from now on, or by events again
};

enum class Method {
    // Reading.
    status = 1,
    events,
    metrics,  // Prometheus text, as a JSON string
    history,
    console,
    operation,
    methods,
    drill,          // the drill that runs or the last one
    drill_console,  // what the drill's copy printed; takes ConsoleRequest
    // Acting. Each takes ActionRequest.
    pause,
    resume,
    switchover,
    failover,   // the backup asks the tiebreaker for the pair although its primary may be alive
    force,      // go live without the tiebreaker's consent: the one act that can break the promise
    rejoin,     // a halted site comes back as a new backup
    reclaim,    // every process of the VM has died: boot it again from this site's disks
    protect,    // a solo site looks for its backup and seeds it
    unprotect,  // a primary gives its backup up on purpose and goes solo
    seed,       // seed the present backup again from the start
    move_backup,  // a primary gives its backup up and seeds one at the site `to`
    verify,       // compare the disks of both sites, or one of them, while the VM runs
    resync,       // the same, and what differs at the backup is written anew from here
    resolve,      // settle a split brain: `keep` names the site whose data stay
    shutdown,     // stop the VM, as by its power button held down, and the pair with it
    reset,        // as by its reset button: it boots again from its disk, at both sites
    nmi,          // a non-maskable interrupt; a Linux guest can be set to dump and panic on it
    sysrq,        // `text`: the key. A break on the guest's console, then that key
    console_input,
    cancel,    // cancel an operation
    snapshot,  // the VM with memory and disks to a file; `text` names it
    drill_start,
    drill_stop,
    drill_clean,   // remove the files of a drill that has ended
    drill_input,   // types into the console of the drill's copy
    inject_fault,  // guarded, with an automatic end
    reload,        // read the pair's settings again
    enrol,         // the tiebreaker has lost this pair's record: make a new one, where the VM runs
    verify_acknowledge,  // differences that a verify has found are known of
};
enum class Access { read = 1, drill, operate, admin };

struct MethodInfo {
    Method method;
    std::string_view name;
    Access access;
    bool confirmed;  // needs the pair's name typed in `confirm`
    std::string_view summary;
    bool implemented = true;  // by this version; what is not is refused, and offered to nobody
};
std::span<const MethodInfo> all_methods();
const MethodInfo& info(Method method);

// The stable word of an enumerator, and back; nullopt for no such word. Instantiated for every enum
// here and for Errc.
template <typename Enum>
std::string_view word(Enum value);
template <typename Enum>
std::optional<Enum> from_word(std::string_view text);
// How bad an event of this code is unless its author says otherwise.
Severity default_severity(EventCode code);

// ---- Values
// ----------------------------------------------------------------------------------------

struct Event {
    uint64_t sequence = 0;  // from 1, over the life of the process
    int64_t time_unix_ms = 0;
    EventCode code = EventCode::service_started;
    Severity severity = Severity::info;
    std::string text;
};

struct Alert {
    EventCode code = EventCode::state_changed;  // the event that would announce it
    Severity severity = Severity::warning;
    std::string text;
    int64_t since_unix_ms = 0;
};

struct Lag {  // how far the backup's execution is behind the primary's
    std::optional<double> seconds;
    std::optional<uint64_t> entries;
    std::optional<uint64_t> bytes;
};

struct LogRate {
    std::optional<double> bytes_per_second;       // before compression
    std::optional<double> wire_bytes_per_second;  // after it
    std::optional<double> entries_per_second;
};

// One class of the channel's messages since this process began: log, control, resync, seed.
struct LinkClassStatus {
    std::string name;
    uint64_t sent_bytes = 0;  // before compression
    uint64_t sent_compressed_bytes = 0;
    uint64_t received_bytes = 0;
    uint64_t received_compressed_bytes = 0;
    uint64_t repeated_frames = 0;  // after a loss or a reconnect
    uint64_t waiting_bytes = 0;    // not acknowledged by the peer
};

// One way of the heartbeats: an address of each site.
struct LinkPathStatus {
    std::string listen;
    std::string peer_address;
    bool heard = false;  // within the last second
    std::optional<double> rtt_seconds;
    std::optional<double> jitter_seconds;
    std::optional<double> loss_ratio;  // 0..1
    std::optional<double> last_heard_seconds;
};

struct LinkStatus {
    bool session_up = false;    // the logging channel
    bool heartbeat_up = false;  // the UDP heartbeats
    std::string peer_address;
    std::optional<double> rtt_seconds;
    std::optional<double> jitter_seconds;
    std::optional<double> loss_ratio;  // 0..1
    uint64_t sent_bytes = 0;
    uint64_t received_bytes = 0;
    uint64_t reconnects = 0;
    std::optional<double> last_heard_seconds;     // ago, by either way
    std::optional<double> clock_offset_seconds;   // the peer's monotonic clock minus ours
    std::optional<double> sent_bytes_per_second;  // over the last second, all of the channel
    std::optional<double> received_bytes_per_second;
    // What got through when bulk last asked for all it could have; and the part of it that is sent.
    std::optional<double> line_bytes_per_second;
    std::optional<double> utilisation_ratio;
    uint64_t bulk_bytes_per_second_max = 0;  // resync and seeding, by schedule; 0: no cap
    std::vector<LinkClassStatus> classes;
    std::vector<LinkPathStatus> paths;  // the figures above are of all together
};

struct OutputStatus {
    uint64_t held = 0;
    uint64_t released = 0;
    std::optional<double> delay_p50_seconds;
    std::optional<double> delay_p99_seconds;
};

struct ExecutionStatus {
    uint64_t exits = 0;
    std::optional<double> exits_per_second;
    std::optional<double>
        throttle_ratio;     // share of time the vCPU is slowed to keep the lag in bounds
    LogIndex log_index{0};  // last entry written (primary) or applied (backup)
    LogIndex acknowledged{0};
};

struct DigestStatus {
    uint64_t checked = 0;
    uint64_t mismatches = 0;
    uint64_t healed_pages = 0;
    std::optional<uint64_t> last_ok_exit;
};

struct DiskStatus {
    std::string id;
    std::string path;
    uint64_t size_bytes = 0;
    Epoch epoch{0};
    DiskState state = DiskState::detached;
    std::optional<double> synced_ratio;  // 0..1
    std::optional<uint64_t> dirty_bytes;
    uint64_t read_bytes = 0;
    uint64_t written_bytes = 0;
    std::string text;  // why, where the state is not up_to_date
};

struct MemberStatus {
    std::string site;
    Incarnation incarnation{0};  // as 16 hex digits on the wire
};

struct TiebreakerRecord {
    RecordMode mode = RecordMode::none;
    Epoch epoch{0};
    std::string holder;  // of a solo record
    std::vector<MemberStatus> members;
};

struct TiebreakerStatus {
    bool reachable = false;
    std::string address;
    std::string text;                           // why it is not reachable, or what it last refused
    std::optional<double> last_answer_seconds;  // ago
    std::optional<double> rtt_seconds;
    std::optional<TiebreakerRecord> record;  // as last told
    // Of this site's certificate or its authority's, whichever expires first.
    std::optional<int64_t> certificate_not_after_unix_ms;
};

struct VmStatus {
    std::string name;
    VcpuState vcpu = VcpuState::none;
    ReplayMode mode = ReplayMode::lockstep;
    std::optional<double> uptime_seconds;  // of the guest, over failovers
    uint64_t memory_bytes = 0;
    uint32_t vcpu_count = 0;
    std::string console_tail;
};

struct Operation {  // a long action; web shows it as a task
    uint64_t id = 0;
    Method method = Method::status;
    OperationState state = OperationState::running;
    std::optional<double> progress_ratio;  // 0..1
    std::string text;
    std::string actor;
    int64_t started_unix_ms = 0;
    std::optional<int64_t> ended_unix_ms;
};

// What drill_start takes in ActionRequest::options, a JSON object as text.
struct DrillOptions {
    DrillNetwork network = DrillNetwork::none;
    uint64_t overlay_bytes_max = uint64_t{4}
                                 << 30;  // what both sides may write; then the drill ends
};

// A drive of a drill's copy as it was when it was copied, before the copy wrote anything.
struct DrillDisk {
    std::string id;
    uint64_t size_bytes = 0;
    std::string sha256;  // hexadecimal; empty until it is known
};

struct DrillStatus {
    uint64_t id = 0;  // from 1, over the life of the process; also the id of its operation
    DrillState state = DrillState::starting;
    DrillNetwork network = DrillNetwork::none;
    std::string text;  // why it ended or failed
    std::string actor;
    int64_t started_unix_ms = 0;
    int64_t ends_unix_ms = 0;  // at the latest
    std::optional<int64_t> ended_unix_ms;
    std::optional<int64_t> copied_unix_ms;  // the moment that the copy is of
    Epoch epoch{0};                         // at which it was taken
    LogIndex log_index{0};                  // the copy holds everything up to this entry
    std::optional<double> lag_seconds;      // of the backup, at that moment
    std::optional<double> copy_seconds;     // the backup's replay stood for it
    std::optional<double> live_seconds;     // from drill_start until the copy ran
    VcpuState vcpu = VcpuState::none;       // of the copy, as are all below
    std::optional<double> uptime_seconds;
    uint64_t exits = 0;
    uint64_t memory_bytes = 0;   // written by it or by the backup since: held twice
    uint64_t overlay_bytes = 0;  // its disk writes, and what the backup's have replaced
    uint64_t overlay_bytes_max = 0;
    uint64_t sent_frames = 0;
    uint64_t received_frames = 0;
    std::vector<std::string> taps;  // of the isolated network, in the order of the VM's interfaces
    std::vector<DrillDisk> disks;
    std::string console_tail;
};

// Of a VM in checkpoint mode, at the site where it runs.
struct CheckpointFigures {
    uint64_t taken = 0;
    uint64_t acknowledged = 0;  // the last one that the backup has
    std::optional<double> interval_seconds;
    std::string bound;  // what sets the interval: shortest, pause, bandwidth or longest
    uint64_t last_bytes = 0;
    uint64_t last_pages = 0;
    std::optional<double> last_pause_seconds;  // how long the guest stood for it
};

// How a VM of mode `auto` is protected now.
struct AutoFigures {
    bool by_deltas = false;                        // else by events, as in lockstep
    std::string reason;                            // of deltas, for people; empty in lockstep
    std::optional<int64_t> since_unix_ms;          // as this site knows it
    std::optional<double> lockstep_after_seconds;  // where it runs: of deltas, before lockstep
    uint64_t deltas = 0;                           // in this life of the process
    uint64_t last_bytes = 0;
    uint64_t last_pages = 0;
    std::optional<double> last_pause_seconds;  // how long the guest stood for it, where it runs
};

// A place where the disks of the two sites were found to differ.
struct VerifyFinding {
    std::string disk;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    std::string primary_digest;  // XXH3-128, seeded anew for each verify; hexadecimal
    std::string backup_digest;
    int64_t found_unix_ms = 0;
    std::optional<int64_t> equal_unix_ms;  // repaired, or found to be equal, by then
    bool acknowledged = false;
};

// What is known of the last comparison of the two sites' disks.
struct VerifyStatus {
    uint64_t operation = 0;               // at the site that compared; 0: it was not this one
    std::optional<OperationState> state;  // null there
    bool repairs = false;
    std::optional<int64_t> started_unix_ms;
    std::optional<int64_t> ended_unix_ms;
    uint64_t total_bytes = 0;
    uint64_t compared_bytes = 0;
    uint64_t mismatches = 0;  // places of 64 KiB, by this verify
    uint64_t repaired = 0;
    uint64_t unresolved = 0;              // by any: neither repaired nor acknowledged
    std::vector<VerifyFinding> findings;  // the newest, oldest first
};

struct Versions {
    std::string software;
    uint32_t api = kApiVersion;
    uint32_t protocol = 0;
    std::string peer_software;
};

struct Status {
    std::string pair;
    std::string site;
    std::string peer_site;   // whom this site is turned to
    std::string spare_site;  // of a pair with three sites: the other one; else empty
    State state = State::starting;
    std::string reason;  // one sentence: why it is in this state
    int64_t state_since_unix_ms = 0;
    Role role = Role::none;
    Protection protection = Protection::unprotected;
    std::string protection_reason;
    Epoch epoch{0};
    Incarnation incarnation{0};
    SelfHelp rejoin = SelfHelp::automatic;
    SelfHelp reclaim = SelfHelp::automatic;
    std::vector<MemberStatus> members;
    Lag execution_lag;
    LogRate log_rate;
    LinkStatus link;
    OutputStatus output;
    ExecutionStatus execution;
    DigestStatus digest;
    std::optional<CheckpointFigures> checkpoint;
    std::optional<AutoFigures> automatic;
    std::vector<DiskStatus> disks;
    std::optional<VerifyStatus> verify;
    TiebreakerStatus tiebreaker;
    VmStatus vm;
    std::optional<DrillStatus> drill;   // the one that runs, or the last one
    std::vector<Operation> operations;  // running ones and the last few
    std::vector<Alert> alerts;
    std::vector<Event> events;  // the newest few, newest last
    Versions versions;
    int64_t time_unix_ms = 0;  // of this snapshot
};

// One point of the charts.
struct Sample {
    int64_t time_unix_ms = 0;
    std::optional<double> lag_seconds;
    std::optional<double> lag_entries;
    std::optional<double> lag_bytes;
    std::optional<double> log_bytes_per_second;
    std::optional<double> wire_bytes_per_second;
    std::optional<double> log_entries_per_second;
    std::optional<double> rtt_seconds;
    std::optional<double> jitter_seconds;
    std::optional<double> loss_ratio;
    std::optional<double> output_delay_p50_seconds;
    std::optional<double> output_delay_p99_seconds;
    std::optional<double> outputs_held;
    std::optional<double> exits_per_second;
    std::optional<double> throttle_ratio;
};
// The chart point that a status is.
Sample sample_of(const Status& status);

// ---- Requests
// --------------------------------------------------------------------------------------

struct EventsRequest {
    uint64_t after = 0;  // sequence; 0 = from the oldest kept
    uint64_t limit = 100;
};
struct EventsReply {
    std::vector<Event> events;  // oldest first
    uint64_t oldest = 0;        // kept; a gap between `after` and this was dropped
    uint64_t newest = 0;
};

struct HistoryRequest {
    int64_t after_unix_ms = 0;  // samples later than this
};
struct HistoryReply {
    int64_t step_ms = 1000;
    std::vector<Sample> samples;  // oldest first; on the wire as columns + rows
};

struct ConsoleRequest {
    uint64_t after = 0;  // byte offset in all that the guest ever printed in this process
};
struct ConsoleReply {
    uint64_t begin = 0;  // offset of the first byte of text; > after when some was dropped
    uint64_t end = 0;
    std::string text;
};

struct ActionRequest {
    bool check = false;         // preflight only: say what would happen, do nothing
    std::string actor;          // who asks, for the event: "admin via web"
    std::string confirm;        // the pair's name, where the method wants it typed
    std::string note;           // free text of the operator, goes into the event
    bool peer_is_down = false;  // force: the operator swears it
    bool accept_loss =
        false;          // force: of acknowledged writes, where this site's copy may lack some
    std::string disk;   // resync, verify: one disk; empty = all
    std::string keep;   // resolve: the site whose data stay
    std::string fault;  // inject_fault: link_cut | link_degrade | tiebreaker_cut | kill_primary
    std::optional<double> duration_seconds;  // inject_fault, drill_start
    std::string to;                          // move_backup: where the backup is to be
    std::string text;                        // console_input, drill_input, sysrq, snapshot
    uint64_t operation = 0;                  // cancel
    std::string options;                     // drill_start: DrillOptions as text
};

struct Finding {                         // of a preflight
    Severity severity = Severity::info;  // error: the action would be refused
    std::string text;
};
struct ActionReply {
    bool allowed = true;
    std::vector<Finding> findings;
    std::string consequence;            // what will happen, in a sentence
    std::optional<uint64_t> operation;  // id of the operation started, if it is a long one
};

// ---- Codec
// -----------------------------------------------------------------------------------------

json::value to_json(const Status& value);
json::value to_json(const Operation& value);
json::value to_json(const DrillStatus& value);
json::value to_json(const DrillOptions& value);
json::value to_json(const EventsReply& value);
json::value to_json(const EventsRequest& value);
json::value to_json(const HistoryReply& value);
json::value to_json(const HistoryRequest& value);
json::value to_json(const ConsoleReply& value);
json::value to_json(const ConsoleRequest& value);
json::value to_json(const ActionRequest& value);
json::value to_json(const ActionReply& value);
json::value to_json(const Event& value);
json::value methods_json();

Result<Status> parse_status(const json::value& value);
Result<Operation> parse_operation(const json::value& value);
Result<DrillStatus> parse_drill_status(const json::value& value);
// `text`: ActionRequest::options; empty = the defaults.
Result<DrillOptions> parse_drill_options(std::string_view text);
Result<EventsReply> parse_events_reply(const json::value& value);
Result<EventsRequest> parse_events_request(const json::value& value);
Result<HistoryReply> parse_history_reply(const json::value& value);
Result<HistoryRequest> parse_history_request(const json::value& value);
Result<ConsoleReply> parse_console_reply(const json::value& value);
Result<ConsoleRequest> parse_console_request(const json::value& value);
Result<ActionRequest> parse_action_request(const json::value& value);
Result<ActionReply> parse_action_reply(const json::value& value);

// A line of the socket without its line feed.
struct Request {
    uint64_t id = 0;
    Method method = Method::status;
    json::object params;
};
// `id` is set as soon as it is readable, so that the refusal of a bad request can name it.
Result<Request> parse_request(std::string_view line, std::optional<uint64_t>& id);
std::string request_line(uint64_t id, Method method, json::value params);
std::string result_line(uint64_t id, json::value result);
std::string error_line(std::optional<uint64_t> id, const Error& error);
// A reply: the result, or the peer's Error, or Errc::protocol when it is neither.
struct Reply {
    std::optional<uint64_t> id;
    Result<json::value> result;
};
Result<Reply> parse_reply(std::string_view line);

// Bounded parsing (depth 32), for everything that comes from outside.
Result<json::value> parse_json(std::string_view text);
// `bytes` as valid UTF-8: what is not becomes U+FFFD, control characters except \t \n \r go.
// At most the last `bytes_max` bytes are kept.
std::string printable(std::string_view bytes, size_t bytes_max);

}  // namespace antipode::control
