// Drill: the backup's side of a drill (docs/CONTROL-API.md): its files, its process, its clock, and
// what is known of it.
//
//     prepare -> the replaying VM stands at an exit -> fork_copy -> running -> ended | failed
//
// Core thread. The copy is a process of its own (drill_clone.h): whatever it does, the backup goes
// on; ending a drill is a SIGKILL and takes no longer than that.
//
// INVARIANTS
//   - on_ended() is called once, when the process is gone.
//   - A drill ends at its time, or when its overlays hold more than they may.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "replicator/control/control_api.h"
#include "replicator/control/control_journal.h"
#include "replicator/control/drill_clone.h"
#include "replicator/control/drill_overlay.h"

namespace antipode::control {

class Drill {
  public:
    struct Settings {
        std::string directory;  // for the overlays; made
        const vmm::VmConfig* config = nullptr;
        std::vector<uint64_t> drive_bytes;
        Duration duration{};
        DrillStatus status;  // id, network, actor, taps, times as known
        std::function<int64_t()> unix_ms;
        std::function<void(const DrillStatus&)> on_ended;
    };
    static Result<std::unique_ptr<Drill>> prepare(boost::asio::io_context& context,
                                                  Settings settings);
    // Removes what a drill left in `directory`.
    static void clean(const std::string& directory);
    ~Drill();

    const std::vector<std::shared_ptr<DrillOverlay>>& overlays() const { return overlays_; }
    // The VM stands at an exit, as `state` says, and the overlays keep what changes from here on.
    Result<void> fork_copy(vmm::VirtualMachine& source, const replay::VmState& state,
                           LogIndex position, uint64_t guest_clock_ns);
    void end(DrillState state, const std::string& text);
    Result<void> type(std::string_view text);

    bool over() const { return over_; }
    DrillStatus status() const;
    DrillStatus& notes() { return settings_.status; }
    ConsoleReply console(const ConsoleRequest& request) const { return journal_.console(request); }

  private:
    Drill(boost::asio::io_context& context, Settings settings);
    void wait_for_words();
    void hear();
    void watch();

    Settings settings_;
    ControlJournal journal_;  // of its console
    std::vector<std::shared_ptr<DrillOverlay>> overlays_;
    std::shared_ptr<FrameCounters> frames_;
    boost::asio::posix::stream_descriptor socket_;
    boost::asio::steady_timer timer_;
    Instant ends_{};
    int process_ = -1;
    bool over_ = false;
    DrillReport report_{};
    std::string last_words_;
};

}  // namespace antipode::control
