// VcpuBridge: everything the vCPU thread says, handed to the core thread in the order it was said.
//
// The ports are called on the vCPU thread and never block; take() and the rest on the core thread.
//
// INVARIANTS
//   - A full queue refuses log entries (the vCPU then waits) but never a notice: kReserve places
//   are
//     kept for them.
//   - The core is woken for an output, a notice, or the first entry after it has emptied the queue.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "common/base/spsc_queue.h"
#include "common/base/unique_fd.h"
#include "replicator/replay/ports.h"

namespace antipode::control {

class VcpuBridge final : public replay::LogPort, public replay::OwnerPort {
  public:
    struct Drained {
        LogIndex applied;
    };
    struct Live {};
    struct Paused {};
    struct Standing {
        std::unique_ptr<replay::VmState> state;
    };
    struct DirtyPages {
        std::vector<uint64_t> bitmap;
    };
    struct Stopped {
        replay::StopReason reason;
        std::string text;
    };
    struct DigestChecked {
        ExitNumber exit;
        std::string text;  // empty: equal
    };
    struct DiskTrouble {
        std::string text;
    };
    struct HealWanted {
        std::unique_ptr<replay::HealRequest> request;
    };
    struct HealAnswered {
        std::unique_ptr<replay::HealAnswer> answer;
    };
    struct Healed {
        std::unique_ptr<replay::HealResult> result;
    };
    using Item = std::variant<replay::Recorded, replay::ReplayedOutput, Drained, Live, Paused,
                              Standing, DirtyPages, Stopped, DigestChecked, DiskTrouble, HealWanted,
                              HealAnswered, Healed>;

    explicit VcpuBridge(size_t capacity);

    // Readable when there is something to take; the core waits on it.
    int event_fd() const { return event_.get(); }
    void clear_event();
    // The next item; `entries_allowed` false leaves it there if it is a log entry.
    std::optional<Item> take(bool entries_allowed);
    bool empty() const { return !held_ && queue_.empty(); }

    bool record(replay::Recorded&& step) override;
    bool replayed(replay::ReplayedOutput&& output) override;
    void drained(ExitNumber exit, LogIndex applied) override;
    void live(ExitNumber exit) override;
    void paused(ExitNumber exit) override;
    void standing(std::unique_ptr<replay::VmState> state) override;
    void dirty_pages(std::vector<uint64_t> bitmap) override;
    void stopped(replay::StopReason reason, const std::string& text) override;
    void digest_checked(ExitNumber exit, const std::string& text) override;
    void replay_disk_error(const std::string& text) override;
    void heal_wanted(std::unique_ptr<replay::HealRequest> request) override;
    void heal_answered(std::unique_ptr<replay::HealAnswer> answer) override;
    void healed(std::unique_ptr<replay::HealResult> result) override;

  private:
    static constexpr size_t kReserve = 64;
    bool has_room() const { return queue_.count() + kReserve < queue_.capacity(); }
    void notify(Item item);
    void wake();

    SpscQueue<Item> queue_;
    std::optional<Item> held_;  // core: taken from the queue, not allowed yet
    UniqueFd event_;
};

}  // namespace antipode::control
