#include "replicator/control/watchdog.h"

#include <cstdlib>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using namespace std::chrono_literals;

class WatchdogTest : public testing::Test {
  protected:
    WatchdogTest()
        : watchdog_(context_, 10s,
                    {{"the loop", [this] { return loop_turns_; }, {}},
                     {"the thread", [this] { return thread_turns_; }, [this] { ++prods_; }}},
                    [this] { ++notified_; }) {}

    std::vector<std::string> look() {
        ++*loop_turns_;
        return watchdog_.look();
    }

    boost::asio::io_context context_{1};
    std::optional<uint64_t> loop_turns_{0};
    std::optional<uint64_t> thread_turns_{0};
    int prods_ = 0;
    int notified_ = 0;
    Watchdog watchdog_;
};

TEST_F(WatchdogTest, TellsAtOnceAndWhileEverythingTurns) {
    EXPECT_EQ(notified_, 1);
    for (int i = 0; i < 5; ++i) {
        ++*thread_turns_;
        EXPECT_THAT(look(), IsEmpty());
    }
    EXPECT_EQ(notified_, 6);
    EXPECT_EQ(prods_, 0) << "nobody disturbs a thread that comes by";
}

TEST_F(WatchdogTest, AThreadThatOnlyWaitedComesByWhenItIsProdded) {
    for (int i = 0; i < 6; ++i) {
        EXPECT_THAT(look(), IsEmpty());
        *thread_turns_ += static_cast<uint64_t>(prods_);
    }
    EXPECT_EQ(notified_, 7);
    EXPECT_GT(prods_, 0);
}

TEST_F(WatchdogTest, ThreeLooksWithoutATurnAreTooMany) {
    EXPECT_THAT(look(), IsEmpty());
    EXPECT_THAT(look(), IsEmpty());
    EXPECT_EQ(notified_, 3);
    for (int i = 0; i < 3; ++i) EXPECT_THAT(look(), ElementsAre("the thread"));
    EXPECT_EQ(notified_, 3);
    EXPECT_EQ(prods_, 5);
    ++*thread_turns_;  // it has hung, and has come out of it
    EXPECT_THAT(look(), IsEmpty());
    EXPECT_EQ(notified_, 4);
}

TEST_F(WatchdogTest, WhatIsNotThereDoesNotHang) {
    thread_turns_.reset();
    for (int i = 0; i < 5; ++i) EXPECT_THAT(look(), IsEmpty());
    // Another thread in its place begins at the number where the last one stood.
    thread_turns_ = 0;
    EXPECT_THAT(look(), IsEmpty());
    EXPECT_EQ(notified_, 7);
}

TEST_F(WatchdogTest, EachPartCountsForItself) {
    for (int i = 0; i < 3; ++i) {
        ++*thread_turns_;
        (void)watchdog_.look();
    }
    EXPECT_THAT(watchdog_.look(), ElementsAre("the loop"));
    EXPECT_EQ(notified_, 3);
}

TEST(WatchdogTimer, LooksFourTimesInTheLimit) {
    boost::asio::io_context context(1);
    int looked = 0;
    std::optional<uint64_t> turns{0};
    Watchdog watchdog(context, 4ms, {{"x", [&] { return ++looked, ++*turns, turns; }, {}}}, [] {});
    EXPECT_EQ(looked, 1);
    while (looked < 5) context.run_one();  // its timer alone keeps the loop in work
    EXPECT_EQ(looked, 5);
}

TEST(WatchdogForSystemd, IsThereIfTheEnvironmentAsks) {
    boost::asio::io_context context(1);
    ::unsetenv("WATCHDOG_USEC");
    ::unsetenv("WATCHDOG_PID");
    EXPECT_EQ(Watchdog::for_systemd(context, {}), nullptr);
    ::setenv("WATCHDOG_USEC", "20000000", 1);
    EXPECT_NE(Watchdog::for_systemd(context, {}), nullptr);
    ::setenv("WATCHDOG_PID", "1", 1);  // of another process
    EXPECT_EQ(Watchdog::for_systemd(context, {}), nullptr);
    ::unsetenv("WATCHDOG_USEC");
    ::unsetenv("WATCHDOG_PID");
}

}  // namespace
}  // namespace antipode::control
