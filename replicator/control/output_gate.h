// OutputGate: the Output Rule. An output leaves the primary only when the backup has acknowledged
// every log entry up to and including the one it depends on.
//
// Pure: outputs and acknowledgements in, what may leave out. The execution of the guest does not
// wait for the gate; only outputs do (and, through the bound on the log, the guest when the backup
// is too slow).
//
// INVARIANTS
//   - released() is the number of the last output handed out; it never goes down, nor skips one.
//   - While frozen nothing is handed out, whatever is acknowledged.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "replicator/vmm/machine.h"

namespace antipode::control {

struct HeldOutput {
    OutputNumber number;
    LogIndex needs;  // the entry that must be acknowledged first
    vmm::Output output;
    Instant time;  // when the guest made it
};

class OutputGate {
  public:
    enum class Mode : uint8_t {
        frozen,  // asking: nothing leaves
        gated,   // paired: the Output Rule
        open,    // solo: everything leaves
    };

    void set_mode(Mode mode) { mode_ = mode; }
    Mode mode() const { return mode_; }
    void hold(HeldOutput output);
    void acknowledge(LogIndex index);
    // Gated: what depends on more than this entry waits, whatever is acknowledged; nothing: no
    // more.
    void hold_behind(std::optional<LogIndex> entry) { hold_behind_ = entry; }
    // What may leave now, in order.
    std::vector<HeldOutput> take();

    // A new stream of log entries starts: what is held depends on nothing any more but its order.
    // Used when the mode is about to be open.
    void forget_log();

    OutputNumber released() const { return released_; }
    // A replaying site: outputs up to this one have left the primary. They are not to leave here;
    // the caller gets them for its record.
    std::vector<HeldOutput> released_elsewhere(OutputNumber number);
    const std::deque<HeldOutput>& held() const { return held_; }
    // A site that begins in the middle of a VM's life: outputs up to this one are not its business.
    void begin_after(OutputNumber released);
    size_t held_count() const { return held_.size(); }
    uint64_t held_bytes() const { return held_bytes_; }

  private:
    Mode mode_ = Mode::frozen;
    LogIndex acknowledged_;
    std::optional<LogIndex> hold_behind_;
    OutputNumber released_;
    std::deque<HeldOutput> held_;
    uint64_t held_bytes_ = 0;
};

}  // namespace antipode::control
