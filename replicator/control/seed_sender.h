// SeedSender: copies the running VM to a new backup: memory and disks in rounds while it runs, the
// rest and the state at a cut.
//
//   begin -> round: pages written, disk chunks written -> ... -> little is left: on_ready()
//   cut   -> the VM stands at an exit -> what was written since, and its state -> the VM goes on ->
//   on_cut()
//
// Core thread. The engine brings dirty pages and the state, DiskSet the disk's chunks; sending
// waits for the receiver's progress, so that at most kOutstandingBytesMax are on their way.
//
// INVARIANTS
//   - A page or chunk that changed after it was read is sent again before SeedEnd.
//   - What of the disks the receiver has already is not sent (disk_copy.h); a snapshot has it all.
//   - The guest stands only from the cut until what is left has been copied within this process.
// On failure (a disk error) on_failed() is called once and nothing further.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "replicator/control/disk_copy.h"
#include "replicator/control/output_gate.h"
#include "replicator/control/seed_frames.h"
#include "replicator/replay/vm_engine.h"

namespace antipode::control {

class SeedSender {
  public:
    static constexpr uint64_t kOutstandingBytesMax = 8 << 20;
    static constexpr uint64_t kReadyPagesMax = 512;
    static constexpr uint64_t kReadyChunksMax = 32;
    static constexpr uint32_t kRoundsMax = 12;

    struct Hooks {
        std::function<bool(std::span<const std::byte>)>
            send;  // false: not now, pump() is called again
        std::function<void()> on_ready;
        std::function<void(LogIndex position, Duration stood)> on_cut;  // the guest stood so long
        std::function<void(const std::string&)> on_failed;
    };

    // How the guest is made to stand for the last round.
    enum class Cut : uint8_t {
        follow,    // at an exit: another VM follows the log from there
        snapshot,  // between two exits: whoever follows the log already notices nothing
    };

    SeedSender(uint64_t attempt, replay::VmEngine& engine, DiskSet& disks, Cut kind, Hooks hooks);
    ~SeedSender();

    void begin();
    void cut();
    // The engine's answers.
    void dirty_pages(const std::vector<uint64_t>& bitmap);
    void standing(std::unique_ptr<replay::VmState> state, LogIndex position,
                  const OutputGate& gate);
    // The receiver has taken so many bytes of this attempt in all.
    void progress(uint64_t bytes);
    void digests(SeedDigests answer) { disk_copy_.answer(std::move(answer)); }
    // Sends what can be sent now.
    void pump();

    uint64_t attempt() const { return attempt_; }
    bool done() const { return phase_ == Phase::done; }
    // Of Cut::snapshot: the number of the state that it waits for; 0: none.
    uint64_t snapshot() const { return snapshot_; }
    double ratio() const;
    DiskCopy::Figures disk_figures() const { return disk_copy_.figures(); }

  private:
    enum class Phase : uint8_t { copying, ready, standing, finishing, done, failed };
    void next_round();
    bool send_piece(const SeedPiece& piece);
    bool send_pages();
    bool send_ready();
    void copy_standing_pages();
    void leave_cut();
    void let_go();
    void fail(const std::string& text);

    const uint64_t attempt_;
    replay::VmEngine& engine_;
    const Cut kind_;
    Hooks hooks_;
    uint64_t snapshot_ = 0;
    Instant stood_since_{};
    DiskCopy disk_copy_;
    Phase phase_ = Phase::copying;
    std::deque<uint64_t> pages_;    // to send, of the running VM's memory
    std::deque<SeedPiece> pieces_;  // ready to send, before anything else
    bool dirty_asked_ = false;
    bool cut_wanted_ = false;
    uint32_t round_ = 0;
    uint64_t round_pages_ = 0;  // dirty when the round began
    uint64_t piece_count_ = 0;
    uint64_t sent_bytes_ = 0;
    uint64_t progress_bytes_ = 0;
    uint64_t total_units_ = 1;
    std::optional<SeedEnd> end_;
};

}  // namespace antipode::control
