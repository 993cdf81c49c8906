// What two web daemons say to each other during a pairing and after it: JSON in an envelope whose
// MAC proves that its author knows the secret of the code. TLS, pinned to the fingerprint in the
// code, keeps it from others' eyes and tells the asker whom it asks; the MAC tells the asked.
//
//     {"id":"16 hex","payload":"{...}","mac":"64 hex"}
//
// Threads: pure functions.
// INVARIANTS: a MAC covers the direction and the purpose, so that no message can be given back to
// its author or used for something else; keys for different uses are different.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace antipode::web {

// Keys that are derived from the code's secret and the certificate that it pins.
struct PairingKeys {
    std::string id;       // names the offer; tells nothing of the secret
    std::string mac_key;  // of the messages of the pairing itself
    std::string lasting;  // of later messages (unpairing, new keys)

    static PairingKeys derive(std::string_view secret, std::string_view fingerprint);
};

// The id under which a lasting key is known to both sites.
std::string lasting_id(std::string_view lasting);

// `use` is the route and the direction, such as "hello request".
boost::json::object seal(std::string_view id, std::string_view key, std::string_view use,
                         const boost::json::object& payload);
struct Sealed {
    std::string id;
    std::string payload;
    std::string mac;
};
Result<Sealed> parse_sealed(const boost::json::value& document);
// Errc::denied when the MAC is of another key, use or text.
Result<boost::json::object> open_sealed(const Sealed& sealed, std::string_view key,
                                        std::string_view use);

std::string hmac_sha256(std::string_view key, std::string_view text);
std::string to_hex(std::string_view bytes);
// "AB:CD:..." or "abcd..." as bytes; empty when it is neither.
std::string from_hex(std::string_view text);
std::string random_bytes(size_t count);

}  // namespace antipode::web
