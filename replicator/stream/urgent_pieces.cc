#include "replicator/stream/urgent_pieces.h"

#include <algorithm>

namespace antipode::stream {

size_t UrgentPieces::bytes() const {
    if (!rate_) return kBytesFirst;
    const double fits = *rate_ * std::chrono::duration<double>(kPieceTime).count();
    return static_cast<size_t>(
        std::clamp(fits, static_cast<double>(kBytesMin), static_cast<double>(kBytesMax)));
}

uint64_t UrgentPieces::window() const {
    if (!rate_ || *rate_ >= kNarrowRate) return UINT64_MAX;
    const double fits = *rate_ * std::chrono::duration<double>(kQueueTime).count();
    return std::max(static_cast<uint64_t>(fits), kWindowBytesMin);
}

void UrgentPieces::acknowledged(uint64_t bytes, uint64_t out, Duration base, Instant now) {
    if (since_) {
        bytes_ += bytes;
        const Duration time = now - *since_;
        const bool enough = time >= kLookTime || (time >= kLookTimeMin && bytes_ >= kLookBytes);
        if (!enough && out > 0) return;
        if (enough) {
            const double rate =
                static_cast<double>(bytes_) / std::chrono::duration<double>(time).count();
            const double length = std::chrono::duration<double>(base + kQueued).count();
            const bool queued = static_cast<double>(out) > rate * length;
            const bool limited = busy_ && queued && out >= kBusyBytes;
            if (limited || rate > rate_.value_or(kNarrowRate)) rate_ = rate;
        }
    }
    since_.reset();
    bytes_ = 0;
    busy_ = out >= kBusyBytes;
    if (out > 0) since_ = now;
}

}  // namespace antipode::stream
