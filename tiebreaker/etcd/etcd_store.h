// EtcdStore: the tiebreaker's records in an etcd cluster, through its v3 JSON gateway over mutual
// TLS. layout.h says what stands where.
//
// A thread of its own takes up to kPairsPerTransaction commits that wait and makes one transaction
// of them. It compares the mod_revision of the store's identity, of each pair, and of the end of
// history, and the end's value, which holds a random nonce: so it is applied once at the most. When
// no answer comes (a leader died, a line was cut) the *same* transaction is sent again, to the next
// member, until there is one: it succeeds, or its compares fail, and then the nonce in the history
// tells whether an earlier attempt was the one that was applied. So nothing is lost, doubled or in
// doubt, however often members fail.
//
// Which store it is (docs/adr/0007-etcd-store.md):
//   - identity and cluster stand in one key that each transaction compares: another cluster, and a
//     store that was given a new identity or was condemned, are noticed before anything is written;
//   - the Mark, a file on this machine, names the newest line of history that anything that was
//     told rests on, and is durable before it is told. A store whose history does not contain the
//     mark has lost decisions: it is condemned, for all tiebreakers, and not followed;
//   - without a mark (another machine, or its disk was lost) an administrator has to vouch for the
//     store: `admin adopt`.
// Several tiebreakers may serve one store, each with its own mark. What another one wrote is looked
// for each second; no decision depends on that, for each compares the pair's mod_revision.
//
// Threads: see store.h. Bounded: one transaction is under way; what waits longer than a few
// request limits while etcd does not answer is handed back as failed.
#pragma once

#include <memory>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "tiebreaker/commit_queue.h"
#include "tiebreaker/etcd/client.h"
#include "tiebreaker/etcd/kv.h"
#include "tiebreaker/etcd/layout.h"
#include "tiebreaker/etcd/mark.h"
#include "tiebreaker/history_line.h"
#include "tiebreaker/store.h"

namespace antipode::tiebreaker {

struct EtcdSettings {
    etcd::ClientSettings client;
    std::string prefix = "/antipode/";
    std::string mark;                                   // the file
    Duration size_interval = std::chrono::seconds(60);  // between looks at how large etcd is
    // Makes the way to etcd; empty: a Client.
    std::function<std::unique_ptr<etcd::Gateway>(const etcd::ClientSettings&)> gateway;
};

class EtcdStore final : public Store {
  public:
    static constexpr size_t kPairsPerTransaction = 120;  // etcd takes 128 operations by default

    enum class Use : uint8_t {
        serve = 1,  // takes the mark, makes the store if there is none
        change,     // takes the mark; the store must be there
        read,       // beside a running daemon
    };
    static Result<std::unique_ptr<EtcdStore>> open(const EtcdSettings& settings, Use use,
                                                   boost::asio::io_context* core,
                                                   Registry& registry);
    // Gives a store that was restored a new identity, once it has been verified, and makes the mark
    // that goes with it; running tiebreakers end.
    static Result<wire::StoreIdentity> renew_identity(const EtcdSettings& settings);
    // Makes the mark of a store that this machine has none of; verified before.
    static Result<wire::StoreIdentity> adopt(const EtcdSettings& settings);
    ~EtcdStore() override;

    wire::StoreIdentity identity() const override { return info_.identity; }
    Result<std::vector<Stored>> load() override;
    Result<> start(ChangedHandler changed) override;
    void commit(Commit commit) override { queue_.push(std::move(commit)); }
    std::chrono::nanoseconds stalled() const override { return queue_.stalled(); }
    void stop() override { queue_.stop(); }
    Result<std::vector<Decided>> history(const Name& pair, size_t lines_max) override;
    Result<Verification> verify() override;
    Result<> backup(const std::string& path) override;

  private:
    using Batch = CommitQueue::Batch;
    using Results = std::vector<CommitResult>;
    // A transaction under way and which commits of the batch it holds.
    struct Attempt {
        etcd::Transaction transaction;
        std::vector<size_t> commits;
        etcd::End end;  // if it is applied
        bool writes = false;
    };
    struct Settled {
        enum class How : uint8_t {
            done = 1,  // succeeded
            moved,     // its compares did not hold; `answer` says how it stands now
            failed,    // nothing was written
            ended,     // we are to end: nobody knows
        };
        How how = How::failed;
        etcd::TransactionAnswer answer;
        std::string error;
    };

    EtcdStore(const EtcdSettings& settings, boost::asio::io_context* core, Registry& registry);
    static Result<std::unique_ptr<EtcdStore>> prepare(const EtcdSettings& settings, Use use,
                                                      boost::asio::io_context* core,
                                                      Registry& registry);
    // Which store it is (etcd_store_open.cc).
    Result<etcd::TransactionAnswer> look();
    Result<> take_store(const etcd::TransactionAnswer& now);
    Result<> check_identity();
    Result<> check_mark(const etcd::KeyValue& history) const;
    Result<> cover(const etcd::End& end);
    Result<> make(const etcd::TransactionAnswer& now);
    Result<> put_store(uint64_t end_revision);
    void condemn(const std::string& why);
    Result<Stored> stored_from(const etcd::KeyValue& pair) const;
    enum class Walk : uint8_t { on = 1, enough };
    using Visit = std::function<Result<Walk>(const etcd::KeyValue&)>;
    Result<> walk(etcd::Range range, const Visit& visit);
    etcd::Range pairs_range(uint64_t revision) const;
    Result<std::vector<Stored>> pairs_at(uint64_t revision, uint64_t written_since);
    Result<LastRecords> verify_history_up_to(const etcd::End& end, Verification& out);
    Result<> expect_sound();

    // The store's thread.
    void run();
    Results write(const Batch& batch);
    Attempt attempt_of(const Batch& batch, const std::vector<size_t>& waiting) const;
    Settled settle(const Attempt& attempt);
    Result<> on_done(const Batch& batch, const Attempt& attempt, uint64_t revision,
                     std::vector<size_t>& waiting, Results& results);
    Result<> on_moved(const Batch& batch, const Attempt& attempt,
                      const etcd::TransactionAnswer& answer, std::vector<size_t>& waiting,
                      Results& results);
    void committed(const Batch& batch, const Attempt& attempt, uint64_t revision,
                   std::vector<size_t>& waiting, Results& results);
    Result<> check_moved(const etcd::TransactionAnswer& answer);
    void hand_back_what_waits(const std::string& why);
    void follow();
    void look_at_size();
    static Results all(const Batch& batch, CommitResult::Kind kind, const std::string& why);

    const etcd::Keys keys_;
    const Duration patience_;
    std::unique_ptr<etcd::Gateway> client_;
    std::unique_ptr<etcd::MarkFile> mark_;  // null: only reads
    etcd::StoreInfo info_;
    uint64_t store_revision_ = 0;  // mod_revision of the store's key
    etcd::End end_;
    uint64_t end_revision_ = 0;       // mod_revision of the end's key
    uint64_t followed_revision_ = 0;  // what others wrote is known up to here
    bool behind_ = false;             // others have written since
    Instant followed_at_{};
    const Duration size_interval_;
    Instant size_looked_at_;
    uint64_t size_said_ = 0;  // the size that was last warned of
    bool ended_ = false;      // nothing more may be told
    std::string ended_why_;
    ChangedHandler changed_;

    CommitMetrics metrics_;
    Counter& retries_;
    Registry& registry_;
    CommitQueue queue_;  // last: its thread uses the rest
};

}  // namespace antipode::tiebreaker
