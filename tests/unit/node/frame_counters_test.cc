// Counters that two processes share.
#include "replicator/control/frame_counters.h"

#include <csignal>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace antipode::control {
namespace {

TEST(FrameCounters, WhatAKilledChildHasCountedIsKnown) {
    const auto made = make_shared_frame_counters();
    ASSERT_TRUE(made) << made.error().to_string();
    FrameCounters& counters = **made;
    EXPECT_EQ(counters.sent, 0U);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        counters.sent += 2;
        ++counters.received;
        (void)raise(SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(counters.sent, 2U);
    EXPECT_EQ(counters.received, 1U);
}

}  // namespace
}  // namespace antipode::control
