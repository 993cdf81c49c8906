#include "replicator/stream/bulk_pacer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace antipode::stream {
namespace {

constexpr double kTokenSeconds = 0.004;  // how long a burst the cap allows
constexpr double kPaceGain = 1.2;
constexpr double kPaceGainStartup = 2.2;
constexpr double kPaceBurstSeconds = 0.001;  // what the thread's timers can tell apart
// On a shorter way all of a window is not more than such a burst and what may be queued. And the
// turns of busy threads are as long as the way: what it carries shows in the best of some rounds.
constexpr Duration kShortWay = std::chrono::milliseconds(3);
constexpr double kPeakKept = 0.98;
constexpr double kTokenBytesMin = 64 << 10;  // and at least one piece
// Too few bytes for a round's numbers to mean anything.
constexpr Duration kRoundMin = std::chrono::milliseconds(1);
constexpr Duration kPieceTime = std::chrono::microseconds(250);
constexpr int kNoiseSamples = 64;
constexpr Duration kNoiseSampleMax = std::chrono::milliseconds(10);  // one jump is no jitter
constexpr Duration kNoiseInterval = std::chrono::milliseconds(4);
// Where round trips in a row differ by more, it is jitter; it is over when they differ by less.
constexpr Duration kJitter = std::chrono::microseconds(400);
constexpr Duration kJitterOver = std::chrono::microseconds(250);
constexpr Duration kJitterTime = std::chrono::milliseconds(500);  // one change of the line is none
// One look at few round trips, or while nothing is known of the line, is not believed at once.
constexpr size_t kSamplesMin = 4;
// What stands so many rounds although the window has given way is no queue of ours.
constexpr int kStandingRounds = 6;
constexpr double kStanding = 0.8;
constexpr Duration kQueueAboveNoise = std::chrono::milliseconds(20);
constexpr int kQueueOverNoise = 10;
// A trial waits until the new window is what was measured, and averages over some rounds.
constexpr int kTrialSkipped = 2;
constexpr int kTrialRounds = 6;
// As long as the window doubles, a look tells: on a long way each round counts.
constexpr int kTrialRoundsStartup = 1;
constexpr double kTrialUp = 1.25;
constexpr double kTrialDown = 0.8;
constexpr double kTrialStartup = 2;

double seconds(Duration d) {
    return std::chrono::duration<double>(d).count();
}

// Doubling finds a short line's rate; on a long one the last doubling would queue for a whole round
// trip.
double startup_factor(uint64_t window) {
    if (window < (1u << 20)) return 2;
    return window < (4u << 20) ? 1.5 : 1.25;
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
        drain_wanted_ = line_found_full_;
    }
    auto& slot = base_[base_slot_];
    if (!slot || rtt < *slot) slot = rtt;
}

void BulkPacer::Bucket::refill(Instant now) {
    tokens = std::min(tokens + rate * seconds(now - at), burst);
    at = now;
}

Instant BulkPacer::Bucket::opens_at(Instant now) const {
    const double by_now = tokens + rate * seconds(now - at);
    if (rate == 0 || by_now > 0) return now;
    const std::chrono::duration<double> wait(-by_now / rate);
    return now + std::chrono::duration_cast<Duration>(wait) + std::chrono::microseconds(1);
}

void BulkPacer::Bucket::set(double new_rate, double new_burst, Instant now) {
    if (rate == 0) {
        tokens = 0;
        at = now;
    }
    refill(now);
    rate = new_rate;
    burst = new_burst;
}

uint64_t BulkPacer::limit() const {
    return window_ > drain_bytes_ + kWindowBytesMin ? window_ - drain_bytes_ : window_;
}

uint64_t BulkPacer::allowance(Instant now) {
    if (in_flight_ >= limit()) {
        round_limited_ = true;
        return 0;
    }
    cap_.refill(now);
    pace_.refill(now);
    if (!cap_.open()) round_capped_ = true;
    if (!cap_.open() || !pace_.open()) return 0;
    return limit() - in_flight_;
}

Instant BulkPacer::ready_at(Instant now) const {
    if (in_flight_ >= limit()) return Instant::max();
    return std::max(cap_.opens_at(now), pace_.opens_at(now));
}

// A little faster than the window goes round, so that it is the window that decides.
void BulkPacer::set_pace(Instant now) {
    if (!round_rtt_) return;
    if (*round_rtt_ < kShortWay) {
        pace_ = {};
        return;
    }
    const double rate = static_cast<double>(window_) / std::max(seconds(*round_rtt_), 1e-5);
    const double gain = line_found_full_ ? kPaceGain : kPaceGainStartup;
    pace_.set(gain * rate, std::max(static_cast<double>(piece_bytes()), rate * kPaceBurstSeconds),
              now);
}

void BulkPacer::set_cap(uint64_t bytes_per_second, Instant now) {
    const auto rate = static_cast<double>(bytes_per_second);
    cap_.set(rate, std::max(kTokenBytesMin, rate * kTokenSeconds), now);
}

void BulkPacer::sent(uint64_t bytes, Instant now) {
    // After a pause nothing is known of the time in between.
    if (in_flight_ == 0) {
        begin_round(now);
        round_end_ = sent_total_ + bytes;
    }
    in_flight_ += bytes;
    sent_total_ += bytes;
    cap_.tokens -= static_cast<double>(bytes);
    pace_.tokens -= static_cast<double>(bytes);
}

void BulkPacer::acknowledged(uint64_t bytes, std::optional<Duration> rtt, Instant now) {
    bytes = std::min(bytes, in_flight_);
    in_flight_ -= bytes;
    acknowledged_total_ += bytes;
    round_acknowledged_ += bytes;
    if (window_ < goal_) {
        const auto part = static_cast<uint64_t>(growth_per_byte_ * static_cast<double>(bytes));
        window_ = std::min(goal_, window_ + part);
    }
    if (rtt) {
        learn_base(*rtt, now);
        learn_noise(*rtt, now);
        if (trial_ && trial_->rounds >= kTrialSkipped) {
            trial_->rtt_sum += *rtt;
            ++trial_->rtt_count;
        }
        if (round_rtts_.size() < kRoundSamplesMax) round_rtts_.push_back(*rtt);
    }
    if (acknowledged_total_ >= round_end_ && now - round_start_ >= kRoundMin) end_round(now);
}

void BulkPacer::begin_round(Instant now) {
    round_start_ = now;
    round_acknowledged_ = 0;
    round_end_ = sent_total_;
    round_rtts_.clear();
    round_limited_ = false;
    round_capped_ = false;
}

void BulkPacer::end_round(Instant now) {
    const auto base = base_rtt();
    if (!round_rtts_.empty() && base) {
        const auto quartile = round_rtts_.begin() + static_cast<ptrdiff_t>(round_rtts_.size() / 4);
        std::nth_element(round_rtts_.begin(), quartile, round_rtts_.end());
        rounds_[round_index_++ % kRounds] = {round_acknowledged_, now - round_start_};
        const double rate = smoothed_rate();
        peak_rate_ = std::max(rate, peak_rate_ * kPeakKept);
        const Duration delay = *quartile - *base;
        round_rtt_ = *quartile;
        queue_delay_ = delay;
        delivery_rate_ = rate;
        learn_line();
        if (drain_bytes_ > 0) {
            drain_bytes_ = 0;  // this round was about the base, not about the window
        } else if (drain_wanted_ && !trial_) {
            drain_wanted_ = false;
            drain_bytes_ = static_cast<uint64_t>(rate * seconds(2 * kQueueDelayTarget));
        } else {
            adjust(delay, *base, now);
        }
        window_ = std::clamp(window_, kWindowBytesMin, window_max_);
        set_pace(now);
    }
    begin_round(now);
}

// A round in which a cap, or too little to send, held the rate down says nothing of the line; nor
// does one that was drained on purpose, or one from before the line was found full.
void BulkPacer::learn_line() {
    if (drain_bytes_ > 0) return;
    const bool by_line = round_limited_ && !round_capped_ && line_found_full_;
    line_rounds_ = by_line ? line_rounds_ + 1 : 0;
    if (line_rounds_ >= kRounds) line_rate_ = delivery_rate_;
}

double BulkPacer::smoothed_rate() const {
    Round all;
    for (const Round& round : rounds_) {
        all.bytes += round.bytes;
        all.time += round.time;
    }
    return static_cast<double>(all.bytes) / std::max(seconds(all.time), 1e-6);
}

uint64_t BulkPacer::piece_bytes() const {
    if (!delivery_rate_) return kPieceBytesMax / 8;
    const auto fits = static_cast<uint64_t>(*delivery_rate_ * seconds(kPieceTime));
    return std::clamp(fits, kPieceBytesMin, kPieceBytesMax);
}

// What arrives in one go says nothing about the line's jitter: looks now and then.
void BulkPacer::learn_noise(Duration rtt, Instant now) {
    if (now < next_noise_) return;
    next_noise_ = now + kNoiseInterval;
    if (last_rtt_) {
        const Duration difference = rtt > *last_rtt_ ? rtt - *last_rtt_ : *last_rtt_ - rtt;
        noise_ += (std::min(difference, kNoiseSampleMax) - noise_) / kNoiseSamples;
    }
    last_rtt_ = rtt;
}

void BulkPacer::adjust(Duration delay, Duration base, Instant now) {
    const double rate = *delivery_rate_;
    if (trial_ && noise_ < kJitterOver) trial_.reset();
    if (noise_ <= kJitter) quiet_at_ = now;
    if (trial_ || now - quiet_at_ >= kJitterTime) {
        // No jitter explains that: it is a queue, and one to be got rid of at once.
        if (delay > kQueueAboveNoise + kQueueOverNoise * noise_) {
            trial_.reset();
            trials_failed_ = true;
            return shrink(rate, base);
        }
        return trial_ ? next_trial() : begin_trial(1);
    }
    if (delay > kQueueDelayTarget) {
        if (!believes(delay, base)) return;
        if (stands(delay)) return rebase(base + delay);
        return shrink(rate, base);
    }
    seen_ = {};
    if (delay < kQueueDelayTarget * 2 / 3 && round_limited_) {
        grow(rate);
    } else {
        growth_ = 0;
        observing_ = false;
    }
}

// A host that stood still for a moment looks like a queue for a round.
bool BulkPacer::believes(Duration delay, Duration base) {
    const bool uncertain = !line_found_full_ || round_rtts_.size() < kSamplesMin;
    if (!uncertain || delay > base / 4 || std::exchange(seen_.doubted, true)) return true;
    goal_ = 0;  // neither more nor less until the next round has been seen
    return false;
}

// Behind a window that gives way our own queue is gone after a round or two.
bool BulkPacer::stands(Duration delay) {
    const bool less = delay < std::chrono::duration_cast<Duration>(seen_.delay * kStanding);
    if (seen_.standing == 0 || less) {
        seen_.standing = 0;
        seen_.delay = delay;
    }
    return ++seen_.standing > kStandingRounds;
}

// The smallest round trip was a lucky one, or the rest is others' queue; and what was taken for a
// full line was none.
void BulkPacer::rebase(Duration base) {
    base_.fill(std::nullopt);
    base_[base_slot_] = base;
    line_found_full_ = false;
    seen_ = {};
}

void BulkPacer::grow(double rate) {
    const auto window = static_cast<double>(window_);
    if (!line_found_full_)
        return step_up(static_cast<uint64_t>(window * (startup_factor(window_) - 1)));
    if (std::exchange(observing_, !observing_)) return;
    // From a step that queues for less than half the target, doubled as long as nothing queues.
    const auto first = static_cast<uint64_t>(rate * seconds(kQueueDelayTarget) * 0.3);
    growth_ = std::min(std::max(first, growth_ * 2), window_ / 8);
    step_up(growth_);
}

void BulkPacer::step_up(uint64_t bytes) {
    goal_ = std::min(window_ + bytes, window_max_);
    growth_per_byte_ = static_cast<double>(bytes) / static_cast<double>(window_);
}

void BulkPacer::shrink(double rate, Duration base) {
    line_found_full_ = true;
    growth_ = 0;
    goal_ = 0;
    observing_ = false;
    const double carries = base < kShortWay ? std::max(rate, peak_rate_) : rate;
    const auto fits = static_cast<uint64_t>(carries * seconds(base + kQueueDelayTarget / 2));
    window_ = std::min(fits, window_);
}

void BulkPacer::begin_trial(double factor) {
    trial_ = Trial();
    trial_->factor = factor;
    trial_->window_before = window_;
    goal_ = 0;
    window_ = static_cast<uint64_t>(static_cast<double>(window_) * factor);
    window_ = std::clamp(window_, kWindowBytesMin, window_max_);
}

void BulkPacer::next_trial() {
    if (!round_limited_) {  // there was too little to send to tell
        *trial_ = {trial_->factor, trial_->window_before, 0, {}, 0};
    }
    const int looks = trials_failed_ ? kTrialRounds : kTrialRoundsStartup;
    if (++trial_->rounds < kTrialSkipped + looks || trial_->rtt_count == 0) return;
    const double mean = seconds(trial_->rtt_sum) / static_cast<double>(trial_->rtt_count);
    judge_trial(static_cast<double>(window_) / std::max(mean, 1e-6));
}

void BulkPacer::judge_trial(double rate) {
    const double factor = trial_->factor;
    const double up = trials_failed_ ? kTrialUp : kTrialStartup;
    const bool paid = rate > reference_rate_ * (1 + factor) / 2;
    if (factor == 1) {
        reference_rate_ = rate;
        return begin_trial(up);
    }
    if (paid) {
        reference_rate_ = rate;
        return begin_trial(factor);  // what paid may pay again
    }
    window_ = trial_->window_before;
    trials_failed_ = true;
    line_found_full_ = true;
    begin_trial(factor > 1 ? kTrialDown : 1);
}

void BulkPacer::restart(Instant now) {
    in_flight_ = 0;
    acknowledged_total_ = sent_total_;
    window_ = std::clamp(window_ / 2, kWindowBytesMin, std::min(window_max_, kWindowBytesFirst));
    line_found_full_ = false;
    growth_ = 0;
    goal_ = 0;
    observing_ = false;
    drain_bytes_ = 0;
    seen_ = {};
    trial_.reset();
    trials_failed_ = false;
    last_rtt_.reset();
    round_rtt_.reset();
    pace_ = {};
    rounds_ = {};
    peak_rate_ = 0;
    line_rounds_ = 0;
    begin_round(now);
}

}  // namespace antipode::stream
