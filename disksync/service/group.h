// Group: the replicated disks of one VM at one site, running: a Node (core/node.h), the stores and
// side files under it, the connection to the peer, and the control socket.
//
// Threads: start(), stop() and submit() from any thread. What belongs together, the Node, which
// connection counts, who waits for what, is the core, under one lock. Whoever has something for it
// takes the lock and does all that follows from it: a caller of submit(), a store's thread, the io
// thread, which has the sockets and timers. A small request to a store that can is done in the
// thread that submits it, so that it costs no change of thread at all. A thread for each disk
// writes its side files. Completions run with the core's lock: they must not block, nor call this.
// Order of locks: the core's, then any other.
//
// INVARIANTS
//   - A request that submit() took is answered exactly once; stop() answers what is left with
//     Errc::closed.
//   - At most one connection to the peer. A newer one that has proved who it is replaces an older
//     one.
//
// On failure: a side file that cannot be written ends the process (core/node.cc says why); a store
// that fails is dealt with by policy; a connection that ends is tried again, for ever.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "common/env/posix/line_socket.h"
#include "disksync/core/node.h"
#include "disksync/local_store.h"
#include "disksync/service/group_config.h"
#include "disksync/service/side_files.h"
#include "disksync/service/sync_link.h"

namespace antipode::disksync {

class Group {
  public:
    static Result<std::unique_ptr<Group>> start(const GroupConfig& config);
    ~Group();
    void stop();

    struct Request {
        uint16_t disk = 0;
        StoreOperation operation = StoreOperation::read;
        uint64_t offset_bytes = 0;
        uint64_t length_bytes = 0;  // of data: at most kDataBytesMax
        wire::SharedBytes data;     // write
        Fua fua = Fua::no;
    };
    using Completion = std::function<void(Result<> result, const wire::SharedBytes& data)>;
    static constexpr uint64_t kDataBytesMax = wire::kSyncDataBytesMax;
    static constexpr uint64_t kZeroBytesMax = uint64_t{64} << 20;
    void submit(Request&& request, Completion done);

    // A client wants to write: is this site primary, or can it become so by itself? Blocks.
    Result<> open_for_writing();

    // A disk as it was at the last consistent point of the group, read only, as long as there is
    // that point. Blocks where there may be one in a moment. Errc::limit: too many are open.
    struct View {
        uint16_t disk = 0;
        uint64_t point = 0;
    };
    static constexpr uint32_t kViewsMax = 64;
    Result<View> open_view(uint16_t disk);
    void close_view(const View& view);
    // At most kDataBytesMax. Errc::closed: the point has passed.
    void read_view(const View& view, uint64_t offset_bytes, uint64_t length_bytes, Completion done);
    bool has_point();

    std::optional<uint16_t> find_disk(std::string_view name) const;
    const GroupConfig& config() const { return config_; }
    uint64_t size_bytes(uint16_t disk);
    uint32_t alignment_bytes(uint16_t disk) const { return stores_[disk].store->alignment_bytes(); }

  private:
    struct StoreSlot {
        std::unique_ptr<LocalStore> store;
        std::unique_ptr<SideFiles> files;
        std::deque<LocalIo> waiting;  // the store has enough to do
    };
    explicit Group(const GroupConfig& config) : config_(config) {}

    // ---- group.cc: life, requests, stores
    Result<> open();
    Result<Node::DiskConfig> open_disk(uint16_t index);
    void main();
    void drain();
    std::function<void()> with_core(std::function<void()> task);
    void post(std::function<void()> task);
    void input(const std::function<void(Node&)>& act);
    void tick_node();
    void run_outputs();
    void run_local(LocalIo&& io);
    void run_here(LocalIo&& io);
    void keep_done(LocalDone&& done, uint16_t disk);
    void local_done(LocalDone&& done, uint16_t disk);
    bool take_done();
    void run_file(FileIo&& io);
    void beat();
    void follow_schedule();
    void set_rate(uint64_t bytes_per_second);
    void record(const NodeEvent& event);
    void record(const VerifyFinding& finding);
    void append_journal(const std::string& line);
    void settle_waiters();
    void tell_views();  // group_view.cc
    void wait_until(std::function<std::optional<Result<>>()> settled,
                    std::function<void(Result<>)> done, Duration limit);

    // ---- group_link.cc: the connection
    Result<> open_link();
    void accept();
    void dial_later(Duration delay);
    void dial();
    void adopt(boost::asio::ip::tcp::socket socket, env::TlsRole role);
    void link_ready(const std::shared_ptr<SyncLink>& link);
    void link_closed(const std::shared_ptr<SyncLink>& link, const std::string& reason);
    void disconnect();

    // ---- group_control.cc: what operators say
    void command(const std::string& line, env::LineSocket::Reply reply);
    Result<std::string> simple_command(const std::vector<std::string>& words);
    Result<std::string> disk_command(const std::vector<std::string>& words);
    boost::json::object point_json(const PointStatus& point) const;
    void carry_command(const env::LineSocket::Reply& reply);
    void role_command(const std::vector<std::string>& words, const env::LineSocket::Reply& reply);
    boost::json::object policies_json() const;
    std::string status_text();
    std::string events_text() const;
    Result<uint16_t> disk_of(const std::string& name) const;

    const GroupConfig config_;
    boost::asio::io_context context_{1};
    std::vector<StoreSlot> stores_;
    std::mutex core_;  // of everything below that is not said to be of another's
    std::unique_ptr<Node> node_;
    // What the thread that submits will do itself: at most one.
    std::vector<LocalIo>* collected_ = nullptr;
    std::atomic<bool> wants_frames_{true};
    bool shut_ = false;
    std::unique_ptr<env::LineSocket> control_;
    UniqueFd journal_;
    Instant last_tick_{};
    std::time_t schedule_followed_ = 0;
    std::optional<uint64_t> scheduled_rate_;
    uint64_t rate_max_ = 0;
    bool running_outputs_ = false;
    bool outputs_again_ = false;
    std::unique_ptr<boost::asio::steady_timer> beat_timer_;
    std::deque<std::string> recent_events_;  // JSON
    std::string link_note_;                  // why there is no connection

    std::unordered_map<uint64_t, Completion> completions_;
    uint64_t next_request_ = 1;
    std::vector<uint32_t> views_open_;      // by disk
    std::optional<uint64_t> viewed_point_;  // the newest that was opened and has not passed
    struct Waiter {
        std::function<std::optional<Result<>>()> settled;
        std::function<void(Result<>)> done;
        Instant limit;
    };
    std::vector<Waiter> waiters_;

    std::shared_ptr<boost::asio::ssl::context> tls_;
    std::unique_ptr<boost::asio::ip::tcp::acceptor> acceptor_;
    std::unique_ptr<boost::asio::ip::tcp::resolver> resolver_;
    std::unique_ptr<boost::asio::ip::tcp::socket> dialling_;
    std::unique_ptr<boost::asio::steady_timer> dial_timer_;
    bool dial_pending_ = false;
    bool detached_by_operator_ = false;
    std::shared_ptr<SyncLink> link_;                   // the one that counts
    std::vector<std::shared_ptr<SyncLink>> greeting_;  // in their handshakes

    std::mutex mutex_;
    std::vector<std::pair<LocalDone, uint16_t>> done_;
    std::vector<uint64_t> sizes_;  // as the metadata says
    bool done_cared_for_ = false;  // somebody is on the way to the core's lock for done_
    bool stopping_ = false;
    std::thread thread_;
};

// Makes the metadata of every disk of the configuration. Nothing may serve them.
enum class FirstContents : uint8_t {
    blank = 1,         // to be filled by the peer
    data = 2,          // this copy has the data
    empty = 3,         // both copies are of zeroes, at both sites; looked at here
    carried = 4,       // a copy of the peer's, made while that went on
    called_empty = 5,  // as empty, and whoever says so is believed
};
// What a copy that was carried here is called, by disk (`disksync carry`).
using CarriedCopies = std::map<std::string, Generation>;
Result<> create_group(const GroupConfig& config, FirstContents contents,
                      const CarriedCopies& carried = {});

}  // namespace antipode::disksync
