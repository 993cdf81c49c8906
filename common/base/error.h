// What an expected failure is: a code that a caller can react to, and a sentence for the operator.
//
// A new code is added only if some caller reacts to it differently; everything else goes into the
// context. A context names the file, field, peer or block that is wrong, what was found and what
// was expected, in that order, without a final full stop.
//
// Thread safety: a value; none needed.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace antipode {

enum class Errc {
    // 0 is unused, so that a zeroed code is never mistaken for one.
    invalid_argument = 1,  // what the caller, a file or a request says makes no sense
    not_found = 2,
    already_exists = 3,  // also: address in use
    io = 4,              // the operating system or a device failed an operation
    no_space = 5,        // disk full, quota reached
    corrupt = 6,         // a checksum, magic or invariant of stored or received bytes does not hold
    protocol = 7,        // a peer broke the protocol
    version = 8,         // a peer or a file speaks a version we do not
    unreachable = 9,     // no connection, or no answer in time
    denied = 10,         // authentication or authorisation failed, or the tiebreaker said no
    stale_epoch = 11,    // the other side of this error has moved on; we are fenced
    limit = 12,          // a bound (size, count, time) was reached
    busy = 13,           // try again later
    closed = 14,         // shut down on purpose
    unsupported = 15,    // this host, kernel or build cannot do it
    diverged = 16,       // replay did not do what was recorded
};

std::string_view to_string(Errc code);

struct [[nodiscard]] Error {
    Errc code;
    std::string context;

    // "corrupt: disk a.img: header checksum is 1, expected 2"
    std::string to_string() const;
    // Puts "what: " before the context: call it where a layer adds what it was doing.
    Error within(std::string_view what) &&;
};

// The code that fits an errno value, with "what: strerror" as context.
Error errno_error(int error_number, std::string_view what);

}  // namespace antipode
