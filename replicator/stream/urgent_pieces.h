// UrgentPieces: how large a piece of a log message may be, so that the line is done with it in
// about 50 ms: the peer's fault detector takes each piece for a sign of life, and on a narrow line
// whose queue is full nothing else may come through for a while.
//
// The rate is learned from acknowledgements. A lower one is believed only while much was on its way
// from one look to the next: what is little to send says nothing of the line. On a fast line pieces
// are as large as they can be.
//
// Pure: time comes in. One owner. INVARIANT: kBytesMin <= bytes() <= kBytesMax.
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
    static constexpr uint64_t kBusyBytes = 64 << 10;  // on their way: the line has enough to do
    static constexpr Duration kLookTime = std::chrono::milliseconds(100);

    size_t bytes() const;
    std::optional<double> rate() const { return rate_; }  // bytes a second
    // `bytes` of frames have arrived, and `out` are still on their way.
    void acknowledged(uint64_t bytes, uint64_t out, Instant now);

  private:
    std::optional<double> rate_;
    std::optional<Instant> since_;  // the look under way began, while something was out
    uint64_t bytes_ = 0;            // that have arrived since
    bool busy_ = false;             // enough was out when it began
};

}  // namespace antipode::stream
