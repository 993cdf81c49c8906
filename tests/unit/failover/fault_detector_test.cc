#include "common/failover/fault_detector.h"

#include <gtest/gtest.h>
#include <vector>

#include "common/base/random.h"

namespace antipode::failover {
namespace {

using namespace std::chrono_literals;

// A path with independent loss and uniform jitter; runs the detector as the core loop does.
struct Path {
    Duration latency = 10ms;
    Duration jitter = 0ms;
    double loss = 0;
    uint64_t seed = 1;
};

struct Outcome {
    uint64_t false_alarms = 0;
    Duration detection{};  // from the peer's death to the suspicion
    FaultDetector detector;
};

Outcome run(const Path& path, Duration alive) {
    const FaultDetectorConfig config;
    Random random(path.seed);
    Instant now{};
    Outcome outcome{0, {}, FaultDetector(config, now)};
    FaultDetector& detector = outcome.detector;
    std::vector<std::pair<Instant, uint64_t>> under_way;
    Suspicion before = Suspicion::none;
    uint64_t sequence = 0;
    const Instant death = now + alive;
    const auto jitter_ns = static_cast<uint64_t>(path.jitter.count());
    for (Instant next_send = now; now < death + 10s; now += 5ms) {
        for (; next_send <= now && next_send < death; next_send += config.interval) {
            ++sequence;
            if (random.chance(path.loss)) continue;
            const auto late = Duration(static_cast<Duration::rep>(random.between(0, jitter_ns)));
            under_way.emplace_back(next_send + path.latency + late, sequence);
        }
        for (size_t i = 0; i < under_way.size();) {
            if (under_way[i].first > now) {
                ++i;
                continue;
            }
            detector.heartbeat(under_way[i].second, now);
            under_way.erase(under_way.begin() + static_cast<std::ptrdiff_t>(i));
        }
        const Suspicion suspicion = detector.check(now);
        const bool raised = suspicion == Suspicion::suspected && before == Suspicion::none;
        before = suspicion;
        if (raised && now < death) ++outcome.false_alarms;
        if (raised && now >= death) {
            outcome.detection = now - death;
            break;
        }
    }
    return outcome;
}

TEST(FaultDetector, DetectsWithin400MillisecondsAt20MillisecondsRoundTrip) {
    const Outcome clean = run({10ms, 0ms, 0}, 60s);
    EXPECT_EQ(clean.false_alarms, 0u);
    EXPECT_LT(clean.detection, 250ms);
    const Outcome rough = run({10ms, 5ms, 0.01, 7}, 60s);
    EXPECT_EQ(rough.false_alarms, 0u);
    EXPECT_LT(rough.detection, 400ms);
}

TEST(FaultDetector, NoFalseAlarmInADayOfOnePercentLossAnd30MillisecondsJitter) {
    const Outcome day = run({10ms, 30ms, 0.01, 42}, 24h);
    EXPECT_EQ(day.false_alarms, 0u);
    EXPECT_GT(day.detection, Duration(0));
    EXPECT_LT(day.detection, 400ms);
    EXPECT_NEAR(day.detector.loss(), 0.01, 0.01);
}

TEST(FaultDetector, AdaptsToLoss) {
    const Outcome lossy = run({10ms, 10ms, 0.2, 3}, 10min);
    EXPECT_EQ(lossy.false_alarms, 0u);
    EXPECT_GT(lossy.detector.limit(), run({10ms, 10ms, 0.01, 3}, 10min).detector.limit());
}

TEST(FaultDetector, APeerThatWasNeverHeardIsSuspectedInTheEnd) {
    FaultDetector detector({}, Instant{});
    Instant now{};
    for (; now < Instant(1900ms); now += 50ms) EXPECT_EQ(detector.check(now), Suspicion::none);
    EXPECT_EQ(detector.check(Instant(2000ms)), Suspicion::suspected);
}

TEST(FaultDetector, LogTrafficEndsASilence) {
    FaultDetector detector({}, Instant{});
    Instant now{};
    for (uint64_t i = 1; i < 100; ++i, now += 25ms) detector.heartbeat(i, now);
    for (int i = 0; i < 100; ++i, now += 50ms) {
        detector.heard(now);
        EXPECT_EQ(detector.check(now), Suspicion::none);
    }
}

TEST(FaultDetector, OwnStallIsNotThePeersSilence) {
    FaultDetector detector({}, Instant{});
    Instant now{};
    for (uint64_t i = 1; i < 100; ++i, now += 25ms) {
        detector.heartbeat(i, now);
        detector.check(now);
    }
    now += 1h;
    EXPECT_EQ(detector.check(now), Suspicion::none) << "we were stopped for an hour";
    for (int i = 0; i < 6; ++i) detector.check(now += 50ms);
    EXPECT_EQ(detector.suspicion(), Suspicion::suspected) << "but it stays silent";
}

TEST(FaultDetector, LateAndRepeatedHeartbeatsTeachNothing) {
    FaultDetector detector({}, Instant{});
    Instant now{};
    for (uint64_t i = 1; i < 1000; ++i, now += 25ms) {
        detector.heartbeat(i, now);
        if (i > 1) detector.heartbeat(i - 1, now);
        detector.heartbeat(i, now);
    }
    EXPECT_NEAR(detector.mean_seconds(), 0.025, 0.001);
    EXPECT_EQ(detector.loss(), 0);
}

TEST(FaultDetector, ARestartedPeerBeginsItsNumbersAgain) {
    FaultDetector detector({}, Instant{});
    Instant now{};
    for (uint64_t i = 1; i < 100; ++i, now += 25ms) detector.heartbeat(i, now);
    detector.peer_restarted(now);
    for (uint64_t i = 1; i < 100; ++i, now += 25ms) {
        detector.heartbeat(i, now);
        EXPECT_EQ(detector.check(now), Suspicion::none);
    }
    EXPECT_LT(detector.limit(), 400ms);
}

}  // namespace
}  // namespace antipode::failover
