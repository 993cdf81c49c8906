// VerifyFollower: at the backup, names what its disks hold behind the point that the primary names,
// and writes what the primary sends in its place (disk_verifier.h).
//
//   ask -> fixed at the point -> settled -> read -> VerifyDigests
//                                      \-> + the bytes -> written -> VerifyWritten
//
// Core thread; look() often.
//
// INVARIANTS
//   - A range is let go only when nothing of this is with the disk there: a repair that is being
//     written is not given up, whatever else is, so that no write of the guest can pass it.
//   - The guest is held up by a repair for kBytesMax at most before the write itself begins.
//   - A repair carries the epoch of this site as every write does (DiskSet::write_chunk): a fenced
//     disk refuses it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "replicator/control/disk_set.h"
#include "replicator/control/verify_frames.h"

namespace antipode::control {

class VerifyFollower {
  public:
    static constexpr size_t kAsksMax = 16;
    static constexpr size_t kEarlyMax = 8;
    static constexpr Duration kBytesMax = std::chrono::seconds(2);

    using Send = std::function<void(const VerifyMessage&)>;
    VerifyFollower(DiskSet& disks, Send send) : disks_(disks), send_(std::move(send)) {}
    ~VerifyFollower();

    void receive(VerifyMessage message);
    void look(Instant now);
    // Everything is let go; what is asked is answered with "later".
    void drop_all(const std::string& why);

  private:
    enum class Step : uint8_t { waits, settled, writes };
    struct Asked {
        VerifyAsk ask;
        uint64_t fix = 0;
        Step step = Step::waits;
        Instant settled{};
        std::vector<std::byte> bytes;
    };
    void begin(const VerifyAsk& ask);
    DiskRange range_of(const VerifyAsk& ask) const;
    void settled(uint64_t number);
    void read(uint64_t number, const Result<std::vector<std::byte>>& bytes);
    void take_bytes(VerifyBytes body);
    void write_if_whole(Asked& asked);
    void drop(uint64_t number);
    void refuse(uint64_t number, std::string why,
                VerifyLater::Again again = VerifyLater::Again::yes);

    DiskSet& disks_;
    Send send_;
    std::map<uint64_t, Asked> asked_;  // by number
    // Bytes that came before their question, which travels in another class.
    std::map<uint64_t, VerifyBytes> early_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace antipode::control
