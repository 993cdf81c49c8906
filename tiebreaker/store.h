// Store: where the tiebreaker's records are durable. SQLite on this machine (sqlite_store.h), or
// an etcd cluster (etcd/etcd_store.h).
//
// The service decides on a record in memory and hands the store a Commit: "if the pair is still at
// this version, write this". `done` says committed only when the record, and the line of history
// that goes with it, will survive a crash; an answer is sent only then. A commit that writes no
// record still asks whether the version holds, so that a denial, too, is never given on an outdated
// record.
//
// Threads: load(), history(), verify(), backup() block and are called before the service starts or
// by the admin command; commit() is called on the core thread, never blocks, and `done` comes on
// the core thread's io_context. INVARIANTS
//   - A pair's version rises with each write and is never 0 for a pair that has a record.
//   - History is only ever added to; SQLite's keeps so many lines of each pair (history_limit.h).
//   - After `doubtful` nobody can say what is on the disk: the process must end and read it again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "common/base/result.h"
#include "common/wire/arbiter_messages.h"
#include "tiebreaker/arbiter.h"

namespace antipode::tiebreaker {

using UnixTime = std::chrono::sys_time<std::chrono::milliseconds>;

struct Stored {
    wire::Record record;
    uint64_t version = 0;
    friend bool operator==(const Stored&, const Stored&) = default;
};

// One line of history: a request that was decided.
struct Decided {
    uint64_t sequence = 0;  // given by the store
    UnixTime at{};
    std::string by;  // who asked: "site-a 45DD... 10.0.0.1:4711", or administrator()
    wire::Request request;
    wire::AnswerKind kind = wire::AnswerKind::refused;
    wire::RefusalReason reason = wire::RefusalReason::none;
    Epoch epoch;                         // of the record after it
    uint64_t unlisted = 0;               // decisions alike that were not listed before this one
    std::optional<wire::Record> record;  // after it, where it changed
};

struct CommitResult {
    enum class Kind : uint8_t {
        committed = 1,
        conflict,  // the pair is at another version; nothing was written
        failed,    // nothing was written
        doubtful,  // it may have been written
    };
    Kind kind = Kind::failed;
    std::optional<Stored> current;  // committed: what was written; conflict: as it is now
    std::string error;              // failed, doubtful
};

struct Commit {
    Name pair;
    uint64_t expected_version = 0;  // 0: has no record
    std::optional<wire::Record> record;
    std::optional<Decided> history;
    std::function<void(CommitResult)> done;
};

struct Verification {
    uint64_t pairs = 0;
    uint64_t history_lines = 0;
    uint64_t lines_taken_out = 0;       // by the limit (history_limit.h)
    std::vector<std::string> findings;  // empty: all is well
};

class Store {
  public:
    virtual ~Store() = default;

    virtual wire::StoreIdentity identity() const = 0;
    virtual Result<std::vector<Stored>> load() = 0;
    // From here on commit() may be called. `changed`: another tiebreaker on the same store has
    // written a pair; on the core thread.
    using ChangedHandler = std::function<void(const Stored&)>;
    virtual Result<> start(ChangedHandler changed) = 0;
    virtual void commit(Commit commit) = 0;
    // How long its thread is at one step, or the oldest commit waits for it to begin; a store that
    // is not there is no reason to hang.
    virtual std::chrono::nanoseconds stalled() const = 0;
    // Finishes what was handed in, then stops. No `done` comes after it.
    virtual void stop() = 0;

    // The newest lines, oldest first; of one pair, or of all for an empty name.
    virtual Result<std::vector<Decided>> history(const Name& pair, size_t lines_max) = 0;
    virtual Result<Verification> verify() = 0;
    virtual Result<> backup(const std::string& path) = 0;
};

// What history says of an administrator: "administrator uid 0".
std::string administrator(uid_t uid);

// A random identity; never 0.
wire::StoreIdentity random_identity();

}  // namespace antipode::tiebreaker
