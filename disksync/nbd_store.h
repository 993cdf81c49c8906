// NbdStore: an export of any NBD server as a LocalStore (see there for the contract), by libnbd's
// aio API.
//
// One thread owns the connection: it polls libnbd's descriptor and an eventfd, issues commands and
// runs completions. When the connection ends, it connects again and issues everything anew that had
// no answer: all requests are idempotent, and the caller keeps overlapping ones apart.
//
// A server that crashed and came back may have lost writes that it had answered but not flushed. So
// these are kept here (KeptWrites: a copy each, up to unflushed_bytes_max, then the store flushes
// by itself) and are written again, in order, before anything else after a reconnect.
//
// INVARIANTS
//   - A job completes when all of its commands have ended; commands are pieces that the server
//   takes.
//   - kept_ holds every change that was answered since the last flush that succeeded, in the order
//   of
//     the answers.
//   - After `reconnect_timeout` without a connection, or when the server came back with a smaller
//     export, the store has failed for good: it never guesses.
//
// A server that stalls without closing the connection stalls the store: commands are never issued a
// second time while the first may still be executed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "common/base/unique_fd.h"
#include "disksync/local_store.h"

struct nbd_handle;

namespace antipode::disksync {

class NbdStore final : public LocalStore {
  public:
    static Result<std::unique_ptr<NbdStore>> open(const std::string& uri,
                                                  const StoreOptions& options);
    ~NbdStore() override;

    Result<> submit(StoreRequest&& request) override;
    Result<> close() override;
    uint64_t size_bytes() const override { return size_bytes_.load(std::memory_order_acquire); }
    uint32_t alignment_bytes() const override { return export_.alignment_bytes; }
    uint32_t requests_in_flight_max() const override { return options_.requests_in_flight_max; }
    const std::string& name() const override { return uri_; }
    Result<std::vector<StoreExtent>> extents(uint64_t offset_bytes, uint64_t length_bytes) override;
    // NBD tells the size at connect only: a grown export is taken up at the next connection.
    Result<uint64_t> refresh_size() override { return size_bytes(); }
    StoreStatus status() const override;

  private:
    struct CloseHandle {
        void operator()(nbd_handle* handle) const;
    };
    using Handle = std::unique_ptr<nbd_handle, CloseHandle>;

    struct Export {
        uint64_t size_bytes = 0;
        uint32_t alignment_bytes = 512;
        uint64_t command_bytes_max = 0;
        bool read_only = false;
        bool can_flush = false;
        bool can_fua = false;
        bool can_trim = false;
        bool can_zero = false;
        bool can_extents = false;
    };
    struct Connection {
        Handle handle;
        Export properties;
    };

    enum class JobKind : uint8_t { caller, own_flush, replay, extents };
    struct Job {
        JobKind kind = JobKind::caller;
        StoreRequest request;
        uint32_t commands_left = 0;
        bool flush_follows = false;  // FUA with a server that has none
        int error_number = 0;
        Result<> looked;            // no command of it was sent if this is an error
        uint64_t flush_covers = 0;  // a flush: sequence of the newest kept write at its issue
        std::vector<StoreExtent> extents;
        std::function<void(Result<std::vector<StoreExtent>>)> extents_done;
    };
    struct Command {
        std::shared_ptr<Job> job;
        StoreOperation operation = StoreOperation::read;
        uint64_t offset_bytes = 0;
        uint64_t length_bytes = 0;
        std::byte* data = nullptr;
    };
    struct KeptWrite {
        uint64_t sequence = 0;
        StoreOperation operation = StoreOperation::write;
        uint64_t offset_bytes = 0;
        uint64_t length_bytes = 0;
        std::vector<std::byte> data;
    };
    struct Cookie;  // what libnbd hands back: whose command it was

    NbdStore(std::string uri, const StoreOptions& options, Connection connection, UniqueFd wake);
    static Result<Connection> connect(const std::string& uri, const StoreOptions& options,
                                      int wake_fd, const std::atomic<bool>* give_up);
    static Result<> await_ready(nbd_handle* handle, const std::string& uri, Instant deadline,
                                int wake_fd, const std::atomic<bool>* give_up);
    static Result<Export> properties_of(nbd_handle* handle, const std::string& uri);

    void set_health(StoreHealth health, std::string text);

    // All below: the store's thread (nbd_store_loop.cc).
    void main();
    void take_submitted();
    void split(const std::shared_ptr<Job>& job);
    uint64_t command_bytes_max(StoreOperation operation) const;
    void issue_ready();
    bool issue(Command&& command);
    int64_t send(const Command& command, uint64_t id);
    void poll_once();
    void retire();
    void command_ended(const Command& command, int error_number);
    void keep(const Command& command);
    void finish(Job& job);
    Result<> outcome(Job& job);
    void flush_by_itself();
    bool server_gone() const;
    void connection_lost();
    void reconnect();
    Result<> adopt(Connection connection);
    void next_replay();
    void fail_for_good(Error error);
    bool finish_closing();
    void say_goodbye();

    const std::string uri_;
    const StoreOptions options_;
    Export export_;
    std::atomic<uint64_t> size_bytes_{0};
    const UniqueFd wake_;  // eventfd

    Handle handle_;
    uint64_t next_id_ = 1;
    std::deque<Command> ready_;
    std::map<uint64_t, Command> on_wire_;
    std::vector<std::pair<uint64_t, int>> ended_;  // filled by libnbd's callbacks inside a notify
    std::deque<KeptWrite> kept_;
    uint64_t kept_bytes_ = 0;
    uint64_t kept_sequence_ = 0;
    std::optional<size_t> replaying_;  // index into kept_; after a reconnect
    bool own_flush_pending_ = false;
    bool flush_failed_ = false;
    std::string loss_;               // what libnbd said when the connection broke
    bool last_flush_begun_ = false;  // at close
    std::vector<std::byte> zeroes_;  // written where the server has no write-zeroes
    std::optional<Instant> close_deadline_;

    mutable std::mutex mutex_;
    std::deque<std::shared_ptr<Job>> submitted_;
    uint32_t jobs_in_flight_ = 0;          // of callers
    std::optional<Error> ended_for_good_;  // failed or closed: nothing is taken any more
    StoreStatus status_;
    std::atomic<bool> closing_{false};
    std::mutex close_mutex_;
    Result<> close_result_;
    std::thread thread_;  // last: it uses all of the above
};

}  // namespace antipode::disksync
