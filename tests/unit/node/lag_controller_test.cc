// Against a backup that executes at a part of the primary's speed, reported half a round trip late.
#include "replicator/control/lag_controller.h"

#include <deque>
#include <gtest/gtest.h>

#include "replicator/replay/interval_controller.h"

namespace antipode::control {
namespace {

struct Course {
    double lag_seconds_max = 0;
    double share_mean = 0;  // of the second half
    double share_min = 1;
};

// `speed`: guest seconds that the backup executes in a second.
Course run(double speed, size_t steps, size_t report_delay_steps) {
    LagController controller;
    Course course;
    const double step = std::chrono::duration<double>(LagController::kStep).count();
    std::deque<double> reports(report_delay_steps + 1, 0.0);
    std::deque<std::pair<double, double>> marks;  // guest time recorded, and when
    double recorded = 0;
    double applied = 0;
    for (size_t i = 0; i < steps; ++i) {
        const double now = static_cast<double>(i) * step;
        recorded += controller.share() * step;
        marks.emplace_back(recorded, now);
        applied = std::min(recorded, applied + speed * step);
        while (!marks.empty() && marks.front().first <= applied + 1e-9) marks.pop_front();
        const double lag = marks.empty() ? 0 : now - marks.front().second;
        reports.push_back(lag);
        reports.pop_front();
        controller.step(
            std::chrono::duration_cast<Duration>(std::chrono::duration<double>(reports.front())));
        course.lag_seconds_max = std::max(course.lag_seconds_max, lag);
        course.share_min = std::min(course.share_min, controller.share());
        if (i >= steps / 2) course.share_mean += controller.share() / double(steps - steps / 2);
    }
    return course;
}

TEST(LagController, ABackupThatKeepsUpCostsNothing) {
    const Course course = run(1.2, 1000, 2);
    EXPECT_EQ(course.share_min, 1);
    EXPECT_EQ(course.lag_seconds_max, 0);
}

TEST(LagController, ABackupAtAnySpeedStaysWithinASecond) {
    for (const double speed : {0.9, 0.75, 0.5, 0.35}) {
        for (const size_t delay : {0u, 1u, 3u}) {
            const Course course = run(speed, 4000, delay);
            EXPECT_LT(course.lag_seconds_max, 1.0) << speed << " " << delay;
            EXPECT_GT(course.share_mean, 0.7 * speed) << speed << " " << delay;
        }
    }
}

TEST(LagController, TheTimeIsGivenBack) {
    LagController controller;
    for (int i = 0; i < 100; ++i) controller.step(std::chrono::milliseconds(900));
    EXPECT_LT(controller.share(), 0.2);
    EXPECT_GE(controller.share(), LagController::kShareMin);
    for (int i = 0; i < 200; ++i) controller.step(Duration::zero());
    EXPECT_EQ(controller.share(), 1);
}

// Checkpoint mode: the guest writes `dirty` bytes a second of its time on `pages_bytes` of pages,
// the line takes `line`, and the lag is the age of the oldest checkpoint on its way.
struct Line {
    double dirty = 50e6;
    double pages_bytes = 1e12;
    double line = 125e6;
    double round_trip = 0.02;
};

Duration of_seconds(double seconds) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

Course run_checkpoints(const Line& on) {
    constexpr double kTick = 0.001;
    constexpr size_t kSteps = 2400;
    struct Checkpoint {
        double taken;
        double acknowledged;
    };
    const replay::IntervalController interval(replay::IntervalSettings{});
    const double longest =
        std::chrono::duration<double>(replay::IntervalSettings{}.longest).count();
    LagController controller(LagController::kShareMinCheckpoint);
    Course course;
    std::deque<Checkpoint> on_the_way;
    double ran = 0;
    double last_taken = 0;
    double line_free = 0;
    const auto step =
        static_cast<size_t>(std::chrono::duration<double>(LagController::kStep).count() / kTick);
    for (size_t i = 0; i < kSteps * step; ++i) {
        const double now = static_cast<double>(i) * kTick;
        ran += controller.share() * kTick;
        while (!on_the_way.empty() && on_the_way.front().acknowledged <= now) {
            on_the_way.pop_front();
        }
        const double age = on_the_way.empty() ? 0 : now - on_the_way.front().taken;
        const bool takes = on_the_way.empty() ||
                           interval.line_takes_more(of_seconds(age), of_seconds(on.round_trip));
        if (takes && now - last_taken >= longest) {
            const double bytes = std::min(on.pages_bytes, ran * on.dirty);
            line_free = std::max(now, line_free) + bytes / on.line;
            on_the_way.push_back({now, line_free + on.round_trip});
            ran = 0;
            last_taken = now;
        }
        if (i % step != 0) continue;
        const double lag = std::max(0.0, age - on.round_trip);
        controller.step(of_seconds(lag));
        course.share_min = std::min(course.share_min, controller.share());
        if (i < kSteps * step / 2) continue;
        course.lag_seconds_max = std::max(course.lag_seconds_max, lag);
        course.share_mean += controller.share() / double(kSteps - kSteps / 2);
    }
    return course;
}

TEST(LagController, CheckpointsThatFitTheLineCostNothing) {
    for (const double round_trip : {0.0, 0.02, 0.15}) {
        Line line;
        line.line = 60e6;
        line.round_trip = round_trip;
        EXPECT_EQ(run_checkpoints(line).share_min, 1) << round_trip;
    }
}

TEST(LagController, CheckpointsThatDoNotFitTheLineAreMadeToFit) {
    for (const double part : {0.9, 0.5, 0.2}) {
        for (const double round_trip : {0.0, 0.02, 0.15}) {
            Line line;
            line.line = line.dirty * part;
            line.round_trip = round_trip;
            const Course course = run_checkpoints(line);
            EXPECT_LT(course.lag_seconds_max, 0.6) << part << " " << round_trip;
            EXPECT_GT(course.share_mean, 0.5 * part) << part << " " << round_trip;
        }
    }
}

// To be slow is no help there, not to queue is: few are on the way at a time.
TEST(LagController, PagesThatAreWrittenAgainAndAgainDoNotQueue) {
    for (const double crossing : {0.1, 0.25, 1.0}) {
        for (const double round_trip : {0.0, 0.02, 0.15}) {
            Line line;
            line.dirty = 1e9;
            line.pages_bytes = 1e6;
            line.line = line.pages_bytes / crossing;
            line.round_trip = round_trip;
            const Course course = run_checkpoints(line);
            EXPECT_LT(course.lag_seconds_max, 3 * crossing + 0.1) << crossing << " " << round_trip;
            EXPECT_GE(course.share_min, LagController::kShareMinCheckpoint);
        }
    }
}

}  // namespace
}  // namespace antipode::control
