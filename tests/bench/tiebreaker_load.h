// Load: many sites in one process and one thread: thousands of connections to a tiebreaker, each of
// which asks for its pair's next epoch. For the bench.
#pragma once

#include <chrono>
#include <cstdint>
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
};

class Load {
  public:
    Load(uint16_t port, testing::SslContextPointer a, testing::SslContextPointer b);
    ~Load();

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
};

// What a process holds in memory now.
double resident_kib(pid_t pid);
// What all its threads have run so far.
double cpu_seconds(pid_t pid);
// A configuration on SQLite without limits on rates; `limits` is put at the end of that table.
std::string write_load_config(const testing::TempDirectory& directory,
                              const testing::Certificates& made, const std::string& database,
                              uint16_t port, const std::string& limits);
// Whether this process may have so many descriptors; takes all it may have.
bool allow_descriptors(size_t count);

}  // namespace antipode::tiebreaker::bench
