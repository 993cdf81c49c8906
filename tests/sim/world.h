// The simulator's world: virtual time, one source of chance, one queue of what happens next, the
// trace.
//
// Everything in a simulation runs in one thread, in the order of (time, number of scheduling);
// nothing asks the machine for the time or for chance. So a seed is a run, and two runs of a seed
// have the same trace hash. INVARIANT: time never goes back; a task scheduled for the past runs
// now.
#pragma once

#include <cstdint>
#include <fmt/format.h>
#include <functional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"

namespace antipode::sim {

using namespace std::chrono_literals;

using Task = std::function<void()>;

class World {
  public:
    explicit World(uint64_t seed) : random(seed) {}

    Random random;

    Instant now() const { return now_; }
    void after(Duration delay, Task task) { at(now_ + delay, std::move(task)); }
    void at(Instant time, Task task);
    // Runs until the queue is empty, `end` has come or stop() was called.
    void run_until(Instant end);
    void stop() { stopped_ = true; }
    bool stopped() const { return stopped_; }
    uint64_t steps() const { return steps_; }

    bool chance(double probability) { return random.chance(probability); }
    Duration between(Duration low, Duration high) {
        return Duration(static_cast<Duration::rep>(random.between(
            static_cast<uint64_t>(low.count()), static_cast<uint64_t>(high.count()))));
    }

    // The trace: hashed always, kept as text only when someone wants to read it.
    void note(uint64_t a, uint64_t b = 0, uint64_t c = 0);
    uint64_t trace_hash() const { return hash_; }
    bool verbose = false;
    template <typename... Args>
    void say(fmt::format_string<Args...> format, Args&&... args) {
        if (verbose) print(fmt::format(format, std::forward<Args>(args)...));
    }

  private:
    struct Entry {
        Instant time;
        uint64_t number;
        Task task;
    };
    static bool later(const Entry& a, const Entry& b) {
        return a.time != b.time ? a.time > b.time : a.number > b.number;
    }
    void print(const std::string& line) const;

    Instant now_{};
    std::vector<Entry> queue_;  // a heap
    uint64_t scheduled_ = 0;
    uint64_t steps_ = 0;
    uint64_t hash_ = 0x9e3779b97f4a7c15u;
    bool stopped_ = false;
};

}  // namespace antipode::sim
