#include "replicator/stream/urgent_pieces.h"

#include <algorithm>

namespace antipode::stream {

size_t UrgentPieces::bytes() const {
    if (!rate_) return kBytesFirst;
    const double fits = *rate_ * std::chrono::duration<double>(kPieceTime).count();
    return static_cast<size_t>(
        std::clamp(fits, static_cast<double>(kBytesMin), static_cast<double>(kBytesMax)));
}

void UrgentPieces::acknowledged(uint64_t bytes, uint64_t out, Instant now) {
    if (since_) {
        bytes_ += bytes;
        if (now - *since_ < kLookTime && out > 0) return;
        const double seconds = std::chrono::duration<double>(now - *since_).count();
        if (now - *since_ >= kLookTime) {
            const double rate = static_cast<double>(bytes_) / seconds;
            const bool limited = busy_ && out >= kBusyBytes;
            rate_ = limited ? rate : std::max(rate, rate_.value_or(rate));
        }
    }
    since_.reset();
    bytes_ = 0;
    busy_ = out >= kBusyBytes;
    if (out > 0) since_ = now;
}

}  // namespace antipode::stream
