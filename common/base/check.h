// FT_CHECK(condition, "format", args...): a programmer's error, always on, in release too.
//
// It logs where and what, flushes the log and aborts: a process in doubt stops its output and lets
// the peer take over. Split conditions (one property a check); pair them (before a write, after the
// read). Never for what a peer, a guest, a file or a user can cause: that is a Result.
#pragma once

#include <fmt/format.h>
#include <string>

namespace antipode {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& message);

}  // namespace antipode

#define FT_CHECK(condition, ...)                                                                \
    do {                                                                                        \
        if (!(condition)) [[unlikely]] {                                                        \
            ::antipode::check_failed(__FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__)); \
        }                                                                                       \
    } while (false)
