#include "common/failover/fault_detector.h"

#include <algorithm>
#include <cmath>

namespace antipode::failover {

namespace {

// Memory of the averages, in heartbeats: about 10 s at the default interval.
constexpr double kGapWeight = 1.0 / 400;
constexpr double kLossWeight = 1.0 / 2000;
constexpr uint64_t kWarmUp = 20;
constexpr int kIntervalsMin = 10;  // in limit_max

double seconds(Duration duration) {
    return std::chrono::duration<double>(duration).count();
}

Duration from_seconds(double value) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

// How many deviations above the mean a normal value is with probability 10^-phi (Mills' ratio).
double deviations(double phi) {
    return std::sqrt(2 * std::log(10.0) * phi);
}

}  // namespace

FaultDetector::FaultDetector(FaultDetectorConfig config, Instant now)
    : config_(config), last_heard_(now), last_check_(now), mean_(seconds(config.interval)) {
    config_.limit_max = std::max(config_.limit_max, kIntervalsMin * config_.interval);
    limit_ = config_.limit_max;
}

double FaultDetector::jitter_seconds() const {
    return std::sqrt(variance_);
}

void FaultDetector::heard(Instant now) {
    last_heard_ = std::max(last_heard_, now);
}

void FaultDetector::peer_restarted(Instant now) {
    heartbeats_ = 0;
    last_sequence_ = 0;
    heard(now);
}

void FaultDetector::heartbeat(uint64_t sequence, Instant now) {
    heard(now);
    if (heartbeats_ > 0 && sequence <= last_sequence_) return;  // late or repeated
    const uint64_t step = heartbeats_ > 0 ? sequence - last_sequence_ : 1;
    const double gap = seconds(now - last_heartbeat_);
    if (heartbeats_ > 0) {
        // A long outage says nothing about the loss of a path that works.
        const auto lost = static_cast<double>(std::min<uint64_t>(step - 1, 4));
        for (double i = 0; i < lost; i += 1) loss_ += (1 - loss_) * kLossWeight;
        loss_ -= loss_ * kLossWeight;
        if (step == 1 && gap < seconds(config_.limit_max)) learn_gap(gap);
    }
    last_sequence_ = sequence;
    last_heartbeat_ = now;
    ++heartbeats_;
    ++learned_from_;
    update_limit();
}

void FaultDetector::learn_gap(double value) {
    // The first gaps weigh more, so that the averages are of use soon.
    const double weight = std::max(kGapWeight, 1.0 / static_cast<double>(learned_from_ + 1));
    const double difference = value - mean_;
    mean_ += weight * difference;
    variance_ += weight * (difference * difference * (1 - weight) - variance_);
}

void FaultDetector::update_limit() {
    if (learned_from_ < kWarmUp) {
        limit_ = config_.limit_max;
        return;
    }
    const double loss = std::clamp(loss_, config_.loss_min, 0.9);
    const double losses = std::ceil(config_.phi / -std::log10(loss));
    const double mean = std::max(mean_, seconds(config_.interval));
    const double silence = (losses + 1) * mean + deviations(config_.phi) * jitter_seconds();
    limit_ = std::clamp(from_seconds(silence), config_.limit_min, config_.limit_max);
}

Suspicion FaultDetector::check(Instant now) {
    const Duration since_check = now - last_check_;
    last_check_ = now;
    if (since_check > config_.stall_limit) last_heard_ = std::min(last_heard_ + since_check, now);
    suspicion_ = now - last_heard_ >= limit_ ? Suspicion::suspected : Suspicion::none;
    return suspicion_;
}

double FaultDetector::phi(Instant now) const {
    const double silence = seconds(std::max(now - last_heard_, Duration::zero()));
    return config_.phi * silence / seconds(limit_);
}

}  // namespace antipode::failover
