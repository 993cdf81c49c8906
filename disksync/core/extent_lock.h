// ExtentLock: who is at which bytes of a disk. Changes hold their range alone; readers that need a
// block to stand still (resync, verify) share theirs with each other.
//
// Nothing waits here: try_lock() says yes or no, and the owner asks again when something was
// unlocked. Pure. One owner. Linear in the number of holders, of which there are a few hundred.
//
// INVARIANT: no two holders overlap unless both are readers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/base/check.h"

namespace antipode::disksync {

class ExtentLock {
  public:
    enum class Kind : uint8_t { change = 1, reader = 2 };

    bool try_lock(uint64_t holder, uint64_t offset, uint64_t length, Kind kind) {
        if (conflicts(offset, length, kind)) return false;
        held_.push_back({holder, offset, length, kind});
        return true;
    }
    bool conflicts(uint64_t offset, uint64_t length, Kind kind) const {
        for (const Held& held : held_) {
            if (kind == Kind::reader && held.kind == Kind::reader) continue;
            if (offset < held.offset + held.length && held.offset < offset + length) return true;
        }
        return false;
    }
    void unlock(uint64_t holder) {
        for (size_t index = 0; index < held_.size(); ++index) {
            if (held_[index].holder != holder) continue;
            held_[index] = held_.back();
            held_.pop_back();
            return;
        }
        FT_CHECK(false, "{} holds no range", holder);
    }
    void clear() { held_.clear(); }
    size_t count() const { return held_.size(); }

  private:
    struct Held {
        uint64_t holder;
        uint64_t offset;
        uint64_t length;
        Kind kind;
    };
    std::vector<Held> held_;
};

}  // namespace antipode::disksync
