// Guests' bytes as text that JSON and terminals can take.
#include "replicator/control/control_api.h"

namespace antipode::control {
namespace {

// Length of the valid UTF-8 sequence at the start of `bytes`; 0 = none.
size_t utf8_length(std::string_view bytes) {
    const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
    const unsigned char lead = at(0);
    if (lead < 0x80) return 1;
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || bytes.size() < length) return 0;
    for (size_t i = 1; i < length; ++i) {
        if ((at(i) & 0xc0) != 0x80) return 0;
    }
    // Overlong forms, surrogates, and what lies beyond U+10FFFF.
    if ((lead == 0xe0 && at(1) < 0xa0) || (lead == 0xed && at(1) > 0x9f) ||
        (lead == 0xf0 && at(1) < 0x90) || (lead == 0xf4 && at(1) > 0x8f)) {
        return 0;
    }
    return length;
}

}  // namespace

std::string printable(std::string_view bytes, size_t bytes_max) {
    if (bytes.size() > bytes_max) {
        bytes.remove_prefix(bytes.size() - bytes_max);
        // Not from the middle of a character.
        while (!bytes.empty() && (static_cast<unsigned char>(bytes[0]) & 0xc0) == 0x80) {
            bytes.remove_prefix(1);
        }
    }
    std::string out;
    out.reserve(bytes.size());
    while (!bytes.empty()) {
        const size_t length = utf8_length(bytes);
        const auto first = static_cast<unsigned char>(bytes[0]);
        if (length == 0) {
            out += "\xef\xbf\xbd";
        } else if (length > 1 || (first >= 0x20 && first != 0x7f) || first == '\t' ||
                   first == '\n' || first == '\r') {
            out += bytes.substr(0, length);
        }
        bytes.remove_prefix(length == 0 ? 1 : length);
    }
    return out;
}

}  // namespace antipode::control
