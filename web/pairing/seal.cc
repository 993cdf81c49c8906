#include "web/pairing/seal.h"

#include <array>
#include <boost/json/serialize.hpp>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "common/base/check.h"
#include "common/base/hex.h"
#include "replicator/control/control_api.h"
#include "web/security/secrets.h"

namespace antipode::web {

namespace json = boost::json;

namespace {

constexpr size_t kPayloadBytesMax = 128 * 1024;

std::string mac_of(std::string_view key, std::string_view use, std::string_view payload) {
    std::string text(use);
    text += '\n';
    text += payload;
    return to_hex(hmac_sha256(key, text));
}

}  // namespace

std::string hmac_sha256(std::string_view key, std::string_view text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
    unsigned size = 0;
    const auto* done =
        HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data(), &size);
    FT_CHECK(done != nullptr, "OpenSSL makes no HMAC of {} bytes", text.size());
    return {reinterpret_cast<const char*>(out.data()), size};
}

std::string to_hex(std::string_view bytes) {
    return antipode::to_hex(std::as_bytes(std::span(bytes)));
}

std::string from_hex(std::string_view text) {
    std::string out;
    int held = -1;
    for (const char c : text) {
        int digit = 0;
        if (c >= '0' && c <= '9') {
            digit = c - '0';
        } else if (c >= 'a' && c <= 'f') {
            digit = c - 'a' + 10;
        } else if (c >= 'A' && c <= 'F') {
            digit = c - 'A' + 10;
        } else if (c == ':' && held < 0) {
            continue;
        } else {
            return {};
        }
        if (held < 0) {
            held = digit;
        } else {
            out += static_cast<char>(held << 4 | digit);
            held = -1;
        }
    }
    return held < 0 ? out : std::string();
}

std::string random_bytes(size_t count) {
    std::string bytes(count, '\0');
    const int done =
        RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count));
    FT_CHECK(done == 1, "OpenSSL has no random bytes");
    return bytes;
}

PairingKeys PairingKeys::derive(std::string_view secret, std::string_view fingerprint) {
    const auto key = [&](std::string_view use) {
        std::string text = "antipode pairing 1 ";
        text += use;
        text += '\0';
        text += fingerprint;
        return hmac_sha256(secret, text);
    };
    return {to_hex(key("id").substr(0, 8)), key("messages"), key("lasting")};
}

std::string lasting_id(std::string_view lasting) {
    return to_hex(hmac_sha256(lasting, "id").substr(0, 8));
}

json::object seal(std::string_view id, std::string_view key, std::string_view use,
                  const json::object& payload) {
    const std::string text = json::serialize(payload);
    json::object out;
    out["id"] = id;
    out["payload"] = text;
    out["mac"] = mac_of(key, use, text);
    return out;
}

Result<Sealed> parse_sealed(const json::value& document) {
    const auto wrong = [] {
        return fail(Errc::protocol, "the other site's message is none of a pairing");
    };
    const json::object* object = document.if_object();
    if (object == nullptr) return wrong();
    Sealed out;
    const auto text = [&](std::string_view name, std::string& value) {
        const json::value* found = object->if_contains(name);
        const json::string* read = found == nullptr ? nullptr : found->if_string();
        if (read != nullptr) value = std::string(*read);
        return read != nullptr;
    };
    if (!text("id", out.id) || !text("payload", out.payload) || !text("mac", out.mac)) {
        return wrong();
    }
    if (out.id.size() != 16 || out.mac.size() != 64 || out.payload.size() > kPayloadBytesMax) {
        return wrong();
    }
    return out;
}

Result<json::object> open_sealed(const Sealed& sealed, std::string_view key, std::string_view use) {
    if (compare_secrets(sealed.mac, mac_of(key, use, sealed.payload)) == Match::no) {
        return fail(Errc::denied, "the other site's message is not from who knows the code");
    }
    FT_TRY(json::value parsed, control::parse_json(sealed.payload));
    if (!parsed.is_object()) return fail(Errc::protocol, "the other site's message is no object");
    return std::move(parsed.get_object());
}

}  // namespace antipode::web
