#include "common/base/result.h"

#include <cerrno>
#include <gtest/gtest.h>
#include <memory>

namespace antipode {
namespace {

Result<int> half(int value) {
    if (value % 2 != 0) return fail(Errc::invalid_argument, "value {} is odd", value);
    return value / 2;
}

Result<int> quarter(int value) {
    FT_TRY(const int once, half(value));
    FT_TRY(const int twice, half(once));
    return twice;
}

Result<void> check_quarter(int value) {
    FT_TRY_VOID(quarter(value));
    return {};
}

TEST(Result, PassesValuesAndErrorsOn) {
    EXPECT_EQ(quarter(12).value(), 3);
    const auto error = quarter(6);
    ASSERT_FALSE(error.has_value());
    EXPECT_EQ(error.error().code, Errc::invalid_argument);
    EXPECT_EQ(error.error().to_string(), "invalid argument: value 3 is odd");
    EXPECT_TRUE(check_quarter(4).has_value());
    EXPECT_FALSE(check_quarter(2).has_value());
}

TEST(Result, MovesOnlyMovableValues) {
    const auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(5); };
    const auto use = [&]() -> Result<int> {
        FT_TRY(auto pointer, make());
        return *pointer;
    };
    EXPECT_EQ(use().value(), 5);
}

TEST(Error, NamesErrno) {
    const Error error = errno_error(ENOSPC, "disk a.img");
    EXPECT_EQ(error.code, Errc::no_space);
    EXPECT_EQ(error.context, "disk a.img: No space left on device");
    EXPECT_EQ(errno_error(EADDRINUSE, "x").code, Errc::already_exists);
    EXPECT_EQ(Error(error).within("site-a").context, "site-a: disk a.img: No space left on device");
}

}  // namespace
}  // namespace antipode
