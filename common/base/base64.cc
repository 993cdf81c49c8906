#include "common/base/base64.h"

#include <cstdint>

namespace antipode {
namespace {

constexpr std::string_view kStandard =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrl =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string encode(std::string_view bytes, std::string_view alphabet) {
    std::string out;
    uint32_t bits = 0;
    int count = 0;
    for (const char c : bytes) {
        bits = (bits << 8) | static_cast<unsigned char>(c);
        count += 8;
        while (count >= 6) {
            count -= 6;
            out += alphabet[(bits >> count) & 63];
        }
    }
    if (count > 0) out += alphabet[(bits << (6 - count)) & 63];
    return out;
}

Result<std::string> decode(std::string_view text, std::string_view alphabet) {
    std::string out;
    uint32_t bits = 0;
    int count = 0;
    for (const char c : text) {
        const size_t value = alphabet.find(c);
        if (value == std::string_view::npos) return fail(Errc::corrupt, "is no base64");
        bits = (bits << 6) | static_cast<uint32_t>(value);
        count += 6;
        if (count >= 8) {
            count -= 8;
            out += static_cast<char>((bits >> count) & 255);
        }
    }
    if (text.size() % 4 == 1 || (bits & ((1u << count) - 1)) != 0) {
        return fail(Errc::corrupt, "is no base64");
    }
    return out;
}

}  // namespace

std::string base64(std::string_view bytes) {
    std::string out = encode(bytes, kStandard);
    out.resize((out.size() + 3) / 4 * 4, '=');
    return out;
}

Result<std::string> from_base64(std::string_view text) {
    if (text.size() % 4 != 0) return fail(Errc::corrupt, "base64 is cut short");
    const std::string_view padding = text.ends_with("==") ? "==" : text.ends_with('=') ? "=" : "";
    return decode(text.substr(0, text.size() - padding.size()), kStandard);
}

std::string base64url(std::string_view bytes) {
    return encode(bytes, kUrl);
}

Result<std::string> from_base64url(std::string_view text) {
    return decode(text, kUrl);
}

}  // namespace antipode
