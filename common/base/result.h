// Result<T>: a value or an Error. tl::expected underneath, made [[nodiscard]] as a type.
//
//     Result<Disk> open(...);
//     FT_TRY(Disk disk, open(path));          // returns the error to the caller
//     FT_TRY_VOID(disk.flush());
//     return fail(Errc::corrupt, "disk {}: ...", path);
#pragma once

#include <fmt/format.h>
#include <tl/expected.hpp>
#include <utility>

#include "common/base/error.h"

namespace antipode {

template <typename T = void>
class [[nodiscard]] Result : public tl::expected<T, Error> {
  public:
    using tl::expected<T, Error>::expected;
    Result(tl::expected<T, Error>&& other) : tl::expected<T, Error>(std::move(other)) {}
};

using Failure = tl::unexpected<Error>;

[[nodiscard]] inline Failure fail(Error error) {
    return Failure(std::move(error));
}

template <typename... Args>
[[nodiscard]] Failure fail(Errc code, fmt::format_string<Args...> format, Args&&... args) {
    return Failure(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// From errno: call it before anything else can change errno.
template <typename... Args>
[[nodiscard]] Failure fail_errno(int error_number, fmt::format_string<Args...> format,
                                 Args&&... args) {
    return Failure(errno_error(error_number, fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace antipode

#define FT_CONCAT_INNER(a, b) a##b
#define FT_CONCAT(a, b) FT_CONCAT_INNER(a, b)
#define FT_TRY(declaration, expression) \
    FT_TRY_INNER(FT_CONCAT(ft_result_, __LINE__), declaration, expression)
#define FT_TRY_INNER(name, declaration, expression)              \
    auto name = (expression);                                    \
    if (!name) return ::antipode::fail(std::move(name).error()); \
    declaration = std::move(*name)
#define FT_TRY_VOID(expression)                                    \
    do {                                                           \
        if (auto ft_result = (expression); !ft_result) {           \
            return ::antipode::fail(std::move(ft_result).error()); \
        }                                                          \
    } while (false)
