// The parts of a pairing under way, between the files of this folder; see pairing.h.
#pragma once

#include "web/pairing/pairing.h"

namespace antipode::web {

struct Pairings::Offer {
    std::string id;
    PairingKeys keys;
    PairPlan plan;
    std::string pair;
    std::string channel_pub;
    std::string fingerprint;  // our own page's, in hexadecimal
    int64_t expires_unix_ms = 0;
    int wrong_macs = 0;
    bool greeted = false;  // hello was accepted; what follows is of the peer
    bool finished = false;
    std::string peer_channel_pub;
    std::string peer_host;
    uint16_t peer_port = 0;
    std::string peer_fingerprint;
};

struct Pairings::Line {
    HttpsTarget target;
    std::string id;
    std::string key;
};

struct Pairings::Join {
    std::string pair;  // known after hello
    PairingAsked asked;
    PairPlan plan;
    Line line;
    PairingKeys keys;
    std::string code_host;
    std::string vm_json;
    std::string heartbeat_key;
    std::string peer_channel_pub;
    std::string peer_fingerprint;
    Pairing shown;
};

// Fields of the other site's message; an error names the field.
Result<std::string> text_of(const json::object& said, std::string_view name, size_t bytes_max);
Result<int64_t> number_of(const json::object& said, std::string_view name, int64_t least,
                          int64_t most);
// Text of a key file: one or two lines of what Z85 and hexadecimal have.
Result<> check_key_text(std::string_view name, std::string_view text);

}  // namespace antipode::web
