#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>

namespace antipode::sim {

void World::at(Instant time, Task task) {
    queue_.push_back({std::max(time, now_), scheduled_++, std::move(task)});
    std::push_heap(queue_.begin(), queue_.end(), later);
}

void World::run_until(Instant end) {
    while (!queue_.empty() && !stopped_ && queue_.front().time <= end) {
        std::pop_heap(queue_.begin(), queue_.end(), later);
        Entry entry = std::move(queue_.back());
        queue_.pop_back();
        now_ = entry.time;
        ++steps_;
        entry.task();
    }
    if (!stopped_) now_ = std::max(now_, end);
}

void World::note(uint64_t a, uint64_t b, uint64_t c) {
    for (const uint64_t word : {static_cast<uint64_t>(now_.time_since_epoch().count()), a, b, c}) {
        hash_ = (hash_ ^ word) * 0xff51afd7ed558ccdu;
        hash_ ^= hash_ >> 29;
    }
}

void World::print(const std::string& line) const {
    const double seconds = std::chrono::duration<double>(now_.time_since_epoch()).count();
    std::printf("%10.6f  %s\n", seconds, line.c_str());
}

}  // namespace antipode::sim
