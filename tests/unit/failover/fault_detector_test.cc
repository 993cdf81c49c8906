#include "common/failover/fault_detector.h"

#include <gtest/gtest.h>
#include <vector>

#include "common/base/random.h"

namespace antipode::failover {
namespace {

using namespace std::chrono_literals;

// A path with independent loss, bursts of loss and uniform jitter; runs the detector as the core
// loop does.
struct Path {
    Duration latency = 10ms;
    Duration jitter = 0ms;
    double loss = 0;
    uint64_t seed = 1;
    Duration interval = 25ms;
    double bursts = 0;  // chance that one begins with this heartbeat, if the last one is over
    int burst_length = 0;
};

constexpr int kBetweenBursts = 100;

struct Outcome {
    uint64_t false_alarms = 0;
    Duration detection{};  // from the peer's death to the suspicion
    FaultDetector detector;
};

Outcome run(const Path& path, Duration alive) {
    FaultDetectorConfig config;
    config.interval = path.interval;
    Random random(path.seed);
    int burst = 0;
    int since_burst = 0;
    Instant now{};
    Outcome outcome{0, {}, FaultDetector(config, now)};
    FaultDetector& detector = outcome.detector;
    std::vector<std::pair<Instant, uint64_t>> under_way;
    Suspicion before = Suspicion::none;
    uint64_t sequence = 0;
    const Instant death = now + alive;
    const auto jitter_ns = static_cast<uint64_t>(path.jitter.count());
    for (Instant next_send = now; now < death + 20s; now += 5ms) {
        for (; next_send <= now && next_send < death; next_send += config.interval) {
            ++sequence;
            if (++since_burst > kBetweenBursts && random.chance(path.bursts)) {
                burst = path.burst_length;
                since_burst = 0;
            }
            if (burst > 0 && burst-- > 0) continue;
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

// As the replicator sends them if nobody says otherwise: a route that changes, or a queue that
// overflows, takes six in a row now and then.
TEST(FaultDetector, BurstsOfLossAt20MillisecondsRaiseNoAlarm) {
    const Outcome bursts = run({10ms, 10ms, 0.005, 11, 20ms, 0.002, 6}, 4h);
    EXPECT_EQ(bursts.false_alarms, 0u);
    EXPECT_GT(bursts.detection, Duration(0));
    EXPECT_LT(bursts.detection, 400ms);
    // What is longer than the limit is an alarm, and over with the next heartbeat.
    const Outcome longer = run({10ms, 10ms, 0, 12, 20ms, 0.0002, 40}, 1h);
    EXPECT_GT(longer.false_alarms, 10u);
    EXPECT_LT(longer.detection, 500ms);
}

TEST(FaultDetector, SlowHeartbeatsMayBeLostAsFastOnesMay) {
    const Outcome slow = run({10ms, 10ms, 0.01, 5, 1000ms}, 24h);
    EXPECT_EQ(slow.false_alarms, 0u);
    EXPECT_GT(slow.detection, 4s);
    EXPECT_LE(slow.detection, 11s);
    EXPECT_LE(run({10ms, 10ms, 0.5, 5, 1000ms}, 10min).detector.limit(), 10s);
    EXPECT_LE(run({10ms, 10ms, 0.5, 5, 100ms}, 10min).detector.limit(), 2s);
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
    EXPECT_EQ(detector.loss(), 0);
}

// The path is the same: what it has taught counts for the new process as well.
TEST(FaultDetector, ARestartedPeerThatDiesAtOnceIsMissedAsSoon) {
    FaultDetector detector({}, Instant{});
    Instant now{};
    for (uint64_t i = 1; i < 100; ++i, now += 25ms) detector.heartbeat(i, now);
    const Duration learned = detector.limit();
    EXPECT_LT(learned, 400ms);
    now += 3s;  // it is down, and comes back
    detector.peer_restarted(now);
    EXPECT_EQ(detector.limit(), learned);
    for (uint64_t i = 1; i < 4; ++i, now += 25ms) detector.heartbeat(i, now);
    EXPECT_NEAR(detector.mean_seconds(), 0.025, 0.001);
    EXPECT_EQ(detector.check(now), Suspicion::none);
    for (int i = 0; i < 8; ++i) detector.check(now += 50ms);
    EXPECT_EQ(detector.suspicion(), Suspicion::suspected);
}

}  // namespace
}  // namespace antipode::failover
