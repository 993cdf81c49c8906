#include "common/base/log.h"

#include <gtest/gtest.h>

namespace antipode {
namespace {

TEST(Log, LevelsAreSetByModule) {
    spdlog::logger& stream = logger("log_test_stream");
    spdlog::logger& other = logger("log_test_other");
    EXPECT_EQ(set_log_levels("warn,log_test_stream=trace"), "");
    EXPECT_EQ(stream.level(), spdlog::level::trace);
    EXPECT_EQ(other.level(), spdlog::level::warn);
    EXPECT_EQ(&logger("log_test_stream"), &stream);
    EXPECT_EQ(set_log_levels("info,loud=very"), "loud=very");
    EXPECT_EQ(other.level(), spdlog::level::info);
}

}  // namespace
}  // namespace antipode
