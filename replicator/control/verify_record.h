// VerifyRecord: where the disks of the two sites were found to differ, for people: what the status
// shows and what an alert stands for.
//
// Pure; times of day come in.
//
// INVARIANTS
//   - At most kKept places are listed. What falls out is what is equal again first, and the oldest;
//     one that is not stays counted in unresolved().
//   - A place is resolved when it was found to be equal (repaired, or overwritten by the guest), or
//     when an operator has acknowledged it; found to differ again, it is not.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "replicator/control/control_api.h"
#include "replicator/control/verify_plan.h"

namespace antipode::control {

class VerifyRecord {
  public:
    static constexpr size_t kKept = 64;

    void differs(const DriveChunk& chunk, const VerifyFinding& finding);
    void equal(const DriveChunk& first, uint32_t count, int64_t now_unix_ms);
    // Every place of every disk.
    void all_equal(int64_t now_unix_ms);
    void acknowledge();

    uint64_t unresolved() const;
    bool empty() const { return places_.empty() && unlisted_ == 0; }
    std::vector<VerifyFinding> findings() const;  // by time

  private:
    void make_room();

    std::map<DriveChunk, VerifyFinding> places_;
    uint64_t unlisted_ = 0;  // that have fallen out unresolved
};

}  // namespace antipode::control
