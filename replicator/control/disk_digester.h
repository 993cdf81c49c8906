// DiskDigester: at a new backup, names what its disks hold where the primary asks.
//
// Core thread; the disks are read asynchronously, kReadsMax chunks at a time. One question after
// the other, answered in their order; at most kAsksMax wait. A chunk that cannot be read is given a
// digest that fits nothing, so that it is sent and written anew.
//
// Precondition: nothing that was asked of the disks before this attempt is still under way
// (DiskSet::when_idle), else it could change what has been named already.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "replicator/control/disk_set.h"
#include "replicator/control/seed_digests.h"

namespace antipode::control {

class DiskDigester {
  public:
    static constexpr size_t kReadsMax = 8;
    static constexpr size_t kAsksMax = 16;

    struct Hooks {
        std::function<void(SeedDigests)> on_answer;
        std::function<void(const std::string&)> on_failed;  // once, and nothing further
    };

    DiskDigester(DiskSet& disks, Hooks hooks) : disks_(disks), hooks_(std::move(hooks)) {}
    ~DiskDigester() { *alive_ = false; }

    void ask(const SeedAsk& ask);

  private:
    void begin_next();
    void read_on();
    void chunk_read(size_t index, const Result<std::vector<std::byte>>& bytes);
    void fail(const std::string& text);

    DiskSet& disks_;
    Hooks hooks_;
    std::deque<SeedAsk> asks_;  // the first is being answered
    SeedDigests answer_;
    size_t next_ = 0;  // to read, of the first
    size_t done_ = 0;
    size_t reading_ = 0;
    bool failed_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace antipode::control
