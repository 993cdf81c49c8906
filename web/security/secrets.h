// Passwords and random secrets. Passwords are kept as scrypt hashes that carry their own
// parameters; tokens and session identifiers as SHA-256, which suffices for 256 random bits.
//
// Threads: pure functions; hash_password() and verify_password() take some 0.2 s and 64 MiB on
// purpose and belong on the worker thread (web/security/worker.h).
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace antipode::web {

// Why a password is not acceptable; empty = it is.
std::string password_weakness(std::string_view name, std::string_view password);

struct ScryptCost {
    uint64_t n = 1 << 16;
    uint32_t r = 8;
    uint32_t p = 1;
};
// "scrypt$65536$8$1$SALT$HASH", base64url without padding.
Result<std::string> hash_password(std::string_view password, ScryptCost cost = {});
enum class Match { no, yes };
// Errc::corrupt when `stored` is not a hash of ours, or asks for more than our costs allow.
Result<Match> verify_password(std::string_view password, std::string_view stored);

// 256 bits of OpenSSL's generator, base64url.
std::string random_secret();
// SHA-256, in hexadecimal.
std::string digest_of(std::string_view secret);
// Takes the same time wherever two texts of equal length differ.
Match compare_secrets(std::string_view a, std::string_view b);

}  // namespace antipode::web
