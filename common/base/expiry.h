// When certificates expire: what is said of it, and how long before. `antipode-ca renew` makes a
// new one with the same key.
//
// Threads: pure; time is an argument.
#pragma once

#include <chrono>
#include <fmt/format.h>
#include <string>

namespace antipode {

// From here on the tiebreaker says it every day, and an alert stands at the sites.
inline constexpr std::chrono::days kExpiryWarning(30);

inline bool expires_soon(std::chrono::sys_seconds not_after, std::chrono::sys_seconds now) {
    return not_after < now + kExpiryWarning;
}

inline std::string expiry_text(std::chrono::sys_seconds not_after, std::chrono::sys_seconds now) {
    if (not_after <= now) return "has expired";
    return fmt::format("expires in {} days",
                       std::chrono::floor<std::chrono::days>(not_after - now).count());
}

}  // namespace antipode
