#include "replicator/control/threshold.h"

#include <gtest/gtest.h>

namespace antipode::control {
namespace {

using Change = Threshold::Change;

Change last_of(Threshold& threshold, std::initializer_list<double> figures) {
    Change last = Change::none;
    for (const double figure : figures) last = threshold.sample(figure);
    return last;
}

TEST(Threshold, BeginsAndEndsOnce) {
    Threshold lag(1.0, 0.5);
    EXPECT_EQ(last_of(lag, {2, 2}), Change::none);
    EXPECT_EQ(lag.sample(2), Change::began);
    EXPECT_TRUE(lag.exceeded());
    EXPECT_EQ(last_of(lag, {2, 2, 2, 2}), Change::none);
    EXPECT_EQ(last_of(lag, {0.1, 0.1}), Change::none);
    EXPECT_EQ(lag.sample(0.1), Change::ended);
    EXPECT_FALSE(lag.exceeded());
    EXPECT_EQ(last_of(lag, {0.1, 0.1, 0.1}), Change::none);
}

TEST(Threshold, AMomentSaysNothing) {
    Threshold lag(1.0, 0.5);
    EXPECT_EQ(last_of(lag, {2, 2, 0.9, 2, 2, 1.0, 2, 2}), Change::none);
    EXPECT_FALSE(lag.exceeded());
}

TEST(Threshold, WhatSwaysBetweenTheTwoSaysNothing) {
    Threshold lag(1.0, 0.5);
    EXPECT_EQ(last_of(lag, {2, 2, 2}), Change::began);
    EXPECT_EQ(last_of(lag, {0.9, 0.6, 1.1, 0.7, 0.5, 0.8}), Change::none);
    EXPECT_TRUE(lag.exceeded());
    EXPECT_EQ(last_of(lag, {0.4, 0.4, 0.7, 0.4, 0.4}), Change::none);
    EXPECT_EQ(lag.sample(0.4), Change::ended);
}

}  // namespace
}  // namespace antipode::control
