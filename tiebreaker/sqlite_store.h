// SqliteStore: the tiebreaker's records in one SQLite database on this machine.
//
// A thread of its own takes all commits that wait, writes them in one transaction, and has one
// fsync for all of them (WAL, synchronous=FULL): while the disk works the next batch gathers.
//
// Life of the file: it is made beside its place with a random identity, flushed, and renamed, so
// that it is there whole or not at all. It remembers which file it is (inode and time of birth): a
// copy that was put back is noticed at open and refused, since it may be older than what was
// answered; `admin restore` gives it a new identity, and every pair must be enrolled again. A lock
// file keeps a second daemon out.
//
// History lines are chained: each carries the SHA-256 of itself and of the line before it, and
// triggers forbid changing them. verify() follows the chain. Of each pair so many lines are kept
// (history_limit.h).
//
// Threads: see store.h. INVARIANTS: a batch is one transaction, all or nothing; after an I/O error
// of a COMMIT every later commit is doubtful too.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>

#include "common/base/metrics.h"
#include "common/base/unique_fd.h"
#include "tiebreaker/commit_queue.h"
#include "tiebreaker/history_limit.h"
#include "tiebreaker/history_line.h"
#include "tiebreaker/sqlite.h"
#include "tiebreaker/store.h"

namespace antipode::tiebreaker {

class SqliteStore final : public Store {
  public:
    enum class Use : uint8_t {
        serve = 1,  // takes the lock, makes the file if it is absent
        change,     // takes the lock; the file must be there
        read,       // beside a running daemon
    };
    static Result<std::unique_ptr<SqliteStore>> open(const std::string& path, Use use,
                                                     boost::asio::io_context* core,
                                                     Registry& registry);
    // Writes a copy of the backup `from` to `path`, with a new identity. Nothing may be at `path`,
    // or it is kept as `path`.replaced; the daemon must not run.
    static Result<wire::StoreIdentity> restore(const std::string& from, const std::string& path);
    ~SqliteStore() override;

    wire::StoreIdentity identity() const override { return identity_; }
    Result<std::vector<Stored>> load() override;
    Result<> start(ChangedHandler changed) override;
    void commit(Commit commit) override;
    std::chrono::nanoseconds stalled() const override { return queue_.stalled(); }
    void stop() override { queue_.stop(); }
    Result<std::vector<Decided>> history(const Name& pair, size_t lines_max) override;
    Result<Verification> verify() override;
    Result<> backup(const std::string& path) override;

    // For commands that change something without a daemon; blocks.
    CommitResult commit_now(Commit commit);
    // The file does not grow beyond so many pages; what needs more fails as on a full disk. 0:
    // beyond what it has. Before start().
    void set_pages_max(size_t pages_max);
    // Before start().
    void set_history_limits(const HistoryLimits& limits) { history_limit_.set_limits(limits); }

  private:
    using Batch = CommitQueue::Batch;
    struct Statements;

    SqliteStore(Database database, boost::asio::io_context* core, Registry& registry);
    Result<> prepare();
    std::vector<CommitResult> write(const Batch& batch);
    Result<std::vector<CommitResult>> write_in_transaction(const Batch& batch);
    Result<CommitResult> write_one(const Commit& commit, HistoryEnd& end);
    Result<std::optional<Stored>> find(const Name& pair);

    UniqueFd lock_;
    Database database_;
    wire::StoreIdentity identity_;
    std::unique_ptr<Statements> statements_;  // of the store thread, once it runs
    HistoryEnd last_line_;                    // durable
    HistoryLimit history_limit_;              // of the store thread, once it runs
    bool doubtful_ = false;
    CommitMetrics metrics_;
    Counter& lines_taken_out_;
    CommitQueue queue_;  // last: its thread uses the rest
};

}  // namespace antipode::tiebreaker
