#include "replicator/stream/bulk_pacer.h"

#include <algorithm>
#include <cmath>

namespace antipode::stream {
namespace {

constexpr double kTokenSeconds = 0.004;      // how long a burst the cap allows
constexpr double kTokenBytesMin = 64 << 10;  // and at least one piece
constexpr uint64_t kGrowthDivisor = 8;
// Too few bytes for a round's numbers to mean anything.
constexpr Duration kRoundMin = std::chrono::milliseconds(1);

double seconds(Duration d) {
    return std::chrono::duration<double>(d).count();
}

}  // namespace

std::optional<Duration> BulkPacer::base_rtt() const {
    std::optional<Duration> base;
    for (const auto& slot : base_) {
        if (slot && (!base || *slot < *base)) base = slot;
    }
    return base;
}

void BulkPacer::learn_base(Duration rtt, Instant now) {
    if (now >= base_slot_end_) {
        base_slot_ = (base_slot_ + 1) % kBaseSlots;
        base_[base_slot_].reset();
        base_slot_end_ = now + kBaseSlot;
    }
    auto& slot = base_[base_slot_];
    if (!slot || rtt < *slot) slot = rtt;
}

void BulkPacer::refill(Instant now) {
    const double burst = std::max(kTokenBytesMin, static_cast<double>(cap_) * kTokenSeconds);
    tokens_ += static_cast<double>(cap_) * seconds(now - tokens_at_);
    tokens_ = std::min(tokens_, burst);
    tokens_at_ = now;
}

uint64_t BulkPacer::allowance(Instant now) {
    if (in_flight_ >= window_) {
        round_limited_ = true;
        return 0;
    }
    if (cap_ != 0) {
        refill(now);
        if (tokens_ <= 0) return 0;
    }
    return window_ - in_flight_;
}

Instant BulkPacer::ready_at(Instant now) const {
    if (cap_ == 0 || in_flight_ >= window_) return Instant::max();
    const double tokens = tokens_ + static_cast<double>(cap_) * seconds(now - tokens_at_);
    if (tokens > 0) return now;
    const double wait = -tokens / static_cast<double>(cap_);
    return now + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(wait)) +
           std::chrono::microseconds(1);
}

void BulkPacer::set_cap(uint64_t bytes_per_second, Instant now) {
    cap_ = bytes_per_second;
    tokens_ = 0;
    tokens_at_ = now;
}

void BulkPacer::sent(uint64_t bytes, Instant now) {
    if (in_flight_ == 0) {  // after a pause nothing is known of the time in between
        round_start_ = now;
        round_acknowledged_ = 0;
        round_end_ = sent_total_ + bytes;
        round_rtt_min_.reset();
    }
    in_flight_ += bytes;
    sent_total_ += bytes;
    if (cap_ != 0) tokens_ -= static_cast<double>(bytes);
}

void BulkPacer::acknowledged(uint64_t bytes, std::optional<Duration> rtt, Instant now) {
    bytes = std::min(bytes, in_flight_);
    in_flight_ -= bytes;
    acknowledged_total_ += bytes;
    round_acknowledged_ += bytes;
    if (rtt) {
        learn_base(*rtt, now);
        if (!round_rtt_min_ || *rtt < *round_rtt_min_) round_rtt_min_ = rtt;
    }
    if (acknowledged_total_ >= round_end_ && now - round_start_ >= kRoundMin) end_round(now);
}

void BulkPacer::end_round(Instant now) {
    const auto base = base_rtt();
    if (round_rtt_min_ && base) {
        const Duration delay = *round_rtt_min_ - *base;
        queue_delay_ = delay;
        const double rate = static_cast<double>(round_acknowledged_) / seconds(now - round_start_);
        delivery_rate_ = rate;
        if (delay > kQueueDelayTarget) {
            line_found_full_ = true;
            const double fits = rate * seconds(*base + kQueueDelayTarget / 2);
            window_ = std::min(window_, static_cast<uint64_t>(fits));
        } else if (round_limited_ && delay < kQueueDelayTarget / 2) {
            window_ += line_found_full_ ? window_ / kGrowthDivisor : window_;
        }
        window_ = std::clamp(window_, kWindowBytesMin, window_max_);
    }
    round_start_ = now;
    round_acknowledged_ = 0;
    round_end_ = sent_total_;
    round_rtt_min_.reset();
    round_limited_ = false;
}

void BulkPacer::restart(Instant now) {
    in_flight_ = 0;
    acknowledged_total_ = sent_total_;
    window_ = std::clamp(window_ / 2, kWindowBytesMin, std::min(window_max_, kWindowBytesFirst));
    line_found_full_ = false;
    round_start_ = now;
    round_acknowledged_ = 0;
    round_end_ = sent_total_;
    round_rtt_min_.reset();
    round_limited_ = false;
}

}  // namespace antipode::stream
