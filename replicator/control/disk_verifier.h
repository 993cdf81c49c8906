// DiskVerifier: at the primary, compares the disks of a protected VM with the backup's while the VM
// runs, and has what differs put right.
//
//   primary                                        backup
//     fixes a range at the point where it is
//     (fixed_ranges.h) and says so, in the log's
//     own class                              ->      fixes the same range at the same point, which
//     reads it once what came before has             it has not come to, or not left
//     landed, lets it go                             reads it once it has come there and what came
//                                                    before has landed, lets it go
//     compares                               <-      VerifyDigests
//
// WHY A DIFFERENCE IS ONE. Both sites execute the same requests in the same order, so the content
// behind a point is the same at both or one of the disks is wrong. At each site FixedRanges sees to
// it that the range has everything from before the point and nothing from behind it while it is
// read. That the backup has not left the point when it hears of it follows from the order: it is
// never ahead of what the log has told it, all of which the primary executed before it fixed the
// range. It is looked at all the same (FixedRanges::add): if it ever were, the backup says "later".
// WHY NONE IS MISSED. Every chunk is compared so (VerifyPlan), or the verify says that it failed.
//
// A repair goes the same way: the backup keeps the range fixed until the primary's bytes of that
// point are there and written; then the chunk is compared again.
//
// A guest's write is held up only where it meets a range that is fixed, and only while what came
// before it lands and one read (a repair: and one transfer) is done.
//
// Core thread. look() often; every message of the backup through receive(). Nothing of the backup
// is waited for longer than kAnswerMax. on_done() is called once, not from within the constructor.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replicator/control/disk_set.h"
#include "replicator/control/verify_plan.h"

namespace antipode::control {

class DiskVerifier {
  public:
    static constexpr Duration kAnswerMax = std::chrono::seconds(10);

    struct Hooks {
        std::function<bool(const VerifyMessage&)> send;  // false: not now
        // The other site has other bytes here.
        std::function<void(const VerifyFound&)> on_found;
        // These were equal, all but those that on_found() has told of.
        std::function<void(const DriveChunk& first, uint32_t count)> on_compared;
        std::function<void(Result<void>)> on_done;
    };
    // `sizes`: as VerifyPlan's. `seed`: nobody knows it before.
    DiskVerifier(DiskSet& disks, VerifyPlan plan, uint64_t seed, Hooks hooks);
    ~DiskVerifier();

    enum class Room : uint8_t { none, some };  // beside the log
    void look(Room room, Instant now);
    void receive(const VerifyMessage& message, Instant now);
    // What is out will not be answered: the session broke, the backup's VM is being put right.
    void interrupt(const std::string& why, Instant now);

    const VerifyPlan::Figures& figures() const { return plan_.figures(); }

  private:
    struct Out {
        VerifyBatch batch;
        Instant asked{};
        std::optional<uint64_t> fix;
        std::vector<ChunkDigest> own;
        std::vector<ChunkDigest> theirs;
        std::vector<std::byte> bytes;  // of a repair, until they are sent
    };
    bool begin(const VerifyBatch& batch, Instant now);
    void settled(uint64_t number);
    void read(uint64_t number, Result<std::vector<std::byte>> bytes);
    void compare_if_whole(uint64_t number, Instant now);
    void send_bytes(Out& out);
    void put_off(uint64_t number, const std::string& why, Instant now);
    void let_go(Out& out);
    void end_if_over(Instant now);
    void later(const VerifyLater& later, Instant now);

    DiskSet& disks_;
    VerifyPlan plan_;
    const uint64_t seed_;
    Hooks hooks_;
    std::map<uint64_t, Out> out_;  // by number
    bool over_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// The digests of a range's chunks.
std::vector<ChunkDigest> digests_of(std::span<const std::byte> bytes, uint64_t seed);

}  // namespace antipode::control
