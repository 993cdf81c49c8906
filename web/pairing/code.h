// The one-time code by which a site is paired with another: where the offering site's page is, the
// fingerprint of its certificate, and a secret. 46 to 100 bytes, written as groups of Crockford's
// base 32, which has no letters that are mistaken for digits.
//
//     version 1 | host length 1 | host | port 2 | fingerprint 20 | secret 12 | checksum 4
//
// Host is 4 or 16 bytes of an address (length 4, 16) or the text of a name (length + 0x80). The
// checksum finds a mistyped code before anything is dialled; it protects nothing.
//
// Threads: pure functions.
// INVARIANTS: parse(text(code)) == code; case, spaces and dashes mean nothing; a code of another
// version is Errc::version, whatever follows.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace antipode::web {

struct PairingCode {
    static constexpr size_t kFingerprintBytes = 20;
    static constexpr size_t kSecretBytes = 12;
    static constexpr size_t kHostBytesMax = 63;

    std::string host;         // an address without brackets, or a name
    uint16_t port = 0;        // of the page
    std::string fingerprint;  // the first bytes of the certificate's SHA-256
    std::string secret;

    friend bool operator==(const PairingCode&, const PairingCode&) = default;
};

// Errc::invalid_argument when the host is too long to be in a code.
Result<std::string> to_text(const PairingCode& code);
Result<PairingCode> parse_pairing_code(std::string_view text);

}  // namespace antipode::web
