// DeltaFilter: which of the pages that were written since the last delta the backup has already.
//
// Between two deltas without an exit in between, the backup stands: it has of a page what the last
// delta brought. So a page that was written and is as it was then need not be sent again. Where
// there was an exit, or an event that writes memory, the backup has run on, and nothing is known.
//
// vCPU thread of the recorder only. Bounded: of more than kPagesMax pages it remembers none.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>

namespace antipode::replay {

class DeltaFilter {
  public:
    static constexpr size_t kPagesMax = 1 << 16;

    // A delta at this exit begins.
    void begin(uint64_t exit) {
        if (exit != exit_) forget();
        exit_ = exit;
    }
    // The backup's memory has changed otherwise.
    void forget() { hashes_.clear(); }
    // False: the backup has this page with these contents.
    bool differs(uint64_t page, uint64_t hash) {
        if (hashes_.size() >= kPagesMax) forget();
        const auto [at, is_new] = hashes_.try_emplace(page, hash);
        if (is_new) return true;
        return std::exchange(at->second, hash) != hash;
    }

  private:
    uint64_t exit_ = 0;
    std::unordered_map<uint64_t, uint64_t> hashes_;
};

}  // namespace antipode::replay
