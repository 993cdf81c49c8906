// UrgentPieces: how large a piece of a log message may be, so that the line is done with it in
// about 50 ms: the peer's fault detector takes each piece for a sign of life, and on a narrow line
// whose queue is full nothing else may come through for a while.
//
// The rate is learned from acknowledgements. A lower one, and at first one below kNarrowRate, is
// believed only while more was on its way than the line's own length explains: what is little to
// send says nothing of the line. On a fast line pieces are as large as they can be.
//
// And how much may be on its way: what is queued in front of a narrow line must not be older than
// the time after which a connection is given up (ChannelConfig::connection_timeout), or it is given
// up again and again while all is well. On other lines that is not bounded here.
//
// Pure: time comes in. One owner. INVARIANTS: kBytesMin <= bytes() <= kBytesMax;
// window() >= kWindowBytesMin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/base/clock.h"
#include "common/wire/frame.h"

namespace antipode::stream {

class UrgentPieces {
  public:
    static constexpr Duration kPieceTime = std::chrono::milliseconds(50);
    static constexpr size_t kBytesMin = 4 << 10;
    static constexpr size_t kBytesFirst = 16 << 10;  // while nothing is known
    static constexpr size_t kBytesMax = wire::kPieceBytesMax;
    static constexpr uint64_t kBusyBytes = 32 << 10;  // on their way: the line has enough to do
    static constexpr Duration kQueued = std::chrono::milliseconds(200);  // longer than its length
    // A look is long enough for some pieces; on a fast line many are there sooner.
    static constexpr Duration kLookTime = std::chrono::milliseconds(500);
    static constexpr Duration kLookTimeMin = std::chrono::milliseconds(20);
    static constexpr uint64_t kLookBytes = 256 << 10;

    static constexpr double kNarrowRate = 1e6;
    static constexpr Duration kQueueTime = std::chrono::milliseconds(1500);
    static constexpr uint64_t kWindowBytesMin = 96 << 10;

    size_t bytes() const;
    uint64_t window() const;
    std::optional<double> rate() const { return rate_; }  // bytes a second
    // `bytes` of frames have arrived, and `out` are still on their way. `base`: the round trip of a
    // line without a queue.
    void acknowledged(uint64_t bytes, uint64_t out, Duration base, Instant now);

  private:
    std::optional<double> rate_;
    std::optional<Instant> since_;  // the look under way began, while something was out
    uint64_t bytes_ = 0;            // that have arrived since
    bool busy_ = false;             // enough was out when it began
};

}  // namespace antipode::stream
