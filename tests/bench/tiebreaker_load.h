// Load: many sites in one process and one thread: thousands of connections to a tiebreaker, each of
// which asks for its pair's next epoch. For the bench.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "tests/unit/tiebreaker/fixture.h"

namespace antipode::tiebreaker::bench {

// One connection; speaks for one pair (it is the site where the VM runs) or watches several.
struct Connection {
    int descriptor = -1;
    SSL* ssl = nullptr;
    wire::ArbiterFrameBuffer in;
    std::string out;
    bool greeted = false;
    uint32_t events = 0;  // of epoll
    std::string pair;
    uint64_t epoch = 0;
    Instant due{};  // of the request under way
    uint64_t answers = 0;
    Instant polled{};  // of the ping or query under way
    uint64_t polls = 0;
};

class Load {
  public:
    Load(uint16_t port, testing::SslContextPointer a, testing::SslContextPointer b);
    ~Load();

    // From here on each connection sends what a site's client sends when nothing happens: a ping
    // every three seconds, and the question for its pair's record every twenty.
    void begin_polling() { polling_ = true; }
    // Only that, for so long; how long each answer took, sorted, in milliseconds.
    std::vector<double> polls(std::chrono::seconds time);
    // `pairs` pairs: a connection of site-a each, and one of site-b for each `per_watcher` of them.
    // At most 128 handshakes at once. Returns when all are welcome, watched and enrolled.
    void connect(size_t pairs, size_t per_watcher);
    size_t connection_count() const { return connections_.size(); }

    // Decisions, each of another pair, `at_once` of them under way; how many in `time`.
    uint64_t closed_loop(size_t at_once, std::chrono::seconds time);
    // So many a second, whatever becomes of them; how long each took, sorted, in milliseconds.
    std::vector<double> open_loop(double per_second, std::chrono::seconds time);
    // Every pair at once; how long each took, sorted, in milliseconds.
    std::vector<double> burst();

  private:
    void open(Connection& connection, SSL_CTX* context);
    void shake(size_t index);
    void read(size_t index);
    void flush(Connection& connection, size_t index);
    void want(size_t index, uint32_t events);
    void on_frame(size_t index, const wire::ArbiterFrame& frame);
    void send(size_t index, uint64_t number, wire::ArbiterBody body);
    void ask(size_t index, Instant due);
    void on_poll_answered(size_t index);
    void send_polls();
    // Handles what is ready until `done`, or fails after a minute without any.
    void run_until(const std::function<bool()>& done);
    void turn(int wait_ms);

    uint16_t port_;
    testing::SslContextPointer a_, b_;
    int epoll_ = -1;
    std::vector<Connection> connections_;
    size_t pairs_ = 0;
    size_t per_watcher_ = 1;
    size_t welcome_ = 0, watched_ = 0, enrolled_ = 0;
    wire::StoreIdentity store_;
    std::function<void(size_t index)> decided_;
    bool polling_ = false;
    std::deque<std::pair<Instant, size_t>> polls_due_;  // in the order of time
    std::vector<double> polls_took_ms_;
};

// What a process holds in memory now.
double resident_kib(pid_t pid);
// What all its threads have run so far.
double cpu_seconds(pid_t pid);
// A configuration on SQLite, with the limits on rates that a tiebreaker has if nobody says
// otherwise, or with none that matter; `limits` is put at the end of that table.
enum class Rates : uint8_t { as_shipped = 1, unlimited };
std::string write_load_config(const testing::TempDirectory& directory,
                              const testing::Certificates& made, const std::string& database,
                              uint16_t port, Rates rates, const std::string& limits = {});
// Whether this process may have so many descriptors; takes all it may have.
bool allow_descriptors(size_t count);

}  // namespace antipode::tiebreaker::bench
