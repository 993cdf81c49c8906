// SimSite: one site of a simulated pair: a Node, its disks, its side files, and what of them
// survives the end of its process or of its machine.
#pragma once

#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "disksync/core/node.h"
#include "tests/sim_disksync/sim_disk.h"
#include "tests/unit/disksync/crash_storage.h"

namespace antipode::disksync {

// Virtual time: events in the order of their time, then of their making.
class SimClock {
  public:
    void at(Duration delay, std::function<void()> event) {
        queue_.push({now_ + delay, next_++, std::move(event)});
    }
    bool step() {
        if (queue_.empty()) return false;
        Entry entry = std::move(const_cast<Entry&>(queue_.top()));
        queue_.pop();
        now_ = entry.time;
        entry.event();
        return true;
    }
    Instant now() const { return now_; }

  private:
    struct Entry {
        Instant time;
        uint64_t number;
        std::function<void()> event;
        bool operator<(const Entry& other) const {
            return time != other.time ? time > other.time : number > other.number;
        }
    };
    std::priority_queue<Entry> queue_;
    Instant now_ = Instant(std::chrono::seconds(1));
    uint64_t next_ = 0;
};

struct SimSiteConfig {
    std::string name;
    NodeConfig node;
    uint64_t id = 0;
    uint64_t size_bytes = 0;
    size_t disks = 1;
    size_t log_extents = 4;
};

class SimSite {
  public:
    SimSite(SimSiteConfig config, SimClock& clock, Random& random);

    void start();
    enum class Crash : uint8_t { kill = 1, power = 2 };
    void crash(Crash how);
    bool alive() const { return node_ != nullptr; }
    Node& node() { return *node_; }
    const NodeConfig& node_config() const { return config_.node; }
    SimDisk& disk(size_t index = 0) { return *disks_[index]; }
    size_t disk_count() const { return disks_.size(); }

    // Call after each input to the node.
    void run_outputs();
    std::function<void(SyncFrame&&)> send;            // to the peer, in order
    std::function<void()> disconnect;                 // the node wants to
    std::function<void(const NodeAnswer&)> answered;  // to the VM
    std::function<void(const NodeEvent&)> on_event;

    // What the disk would be if its resync were undone now (from the durable side files).
    SimDisk::Sectors undone(size_t index);
    Superblock record_on_disk(size_t index);
    uint64_t life() const { return life_; }

  private:
    std::vector<Node::DiskConfig> load();
    void run_local(LocalIo&& io);
    void run_file(FileIo&& io);
    void read_file(FileIo&& io, Duration delay);
    Duration delay(double mean_us);

    SimSiteConfig config_;
    SimClock& clock_;
    Random& random_;
    std::vector<std::unique_ptr<SimDisk>> disks_;
    std::vector<std::unique_ptr<CrashDisk>> metadata_;
    std::vector<std::unique_ptr<CrashDisk>> undo_;
    std::vector<std::unique_ptr<env::Storage>> metadata_files_;
    std::vector<std::unique_ptr<env::Storage>> undo_files_;
    std::vector<bool> undo_exists_;
    std::vector<Instant> file_free_;  // file operations of a disk run one after the other
    std::unique_ptr<Node> node_;
    uint64_t life_ = 0;
    uint64_t seeds_ = 0;
    bool running_outputs_ = false;
};

}  // namespace antipode::disksync
