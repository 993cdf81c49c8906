#include "web/pairing/code.h"

#include <array>
#include <boost/asio/ip/address.hpp>
#include <xxhash.h>

#include "common/base/check.h"

namespace antipode::web {
namespace {

namespace ip = boost::asio::ip;

constexpr uint8_t kVersion = 1;
constexpr uint8_t kNameFlag = 0x80;
constexpr size_t kChecksumBytes = 4;
constexpr size_t kGroup = 5;
constexpr size_t kTextMax = 400;
constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

std::string host_bytes(const std::string& host) {
    boost::system::error_code error;
    const ip::address address = ip::make_address(host, error);
    if (error) return static_cast<char>(kNameFlag | host.size()) + host;
    std::string out;
    if (address.is_v4()) {
        const auto bytes = address.to_v4().to_bytes();
        out.assign(bytes.begin(), bytes.end());
    } else {
        const auto bytes = address.to_v6().to_bytes();
        out.assign(bytes.begin(), bytes.end());
    }
    return static_cast<char>(out.size()) + out;
}

std::string checksum(std::string_view bytes) {
    const uint32_t sum = XXH32(bytes.data(), bytes.size(), 0);
    std::string out;
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(sum >> shift);
    return out;
}

// 5 bits a character, the last one filled with zeros.
std::string to_base32(std::string_view bytes) {
    std::string out;
    unsigned held = 0;
    int bits = 0;
    const auto put = [&](unsigned value) {
        if (out.size() % (kGroup + 1) == kGroup) out += '-';
        out += kAlphabet[value & 31];
    };
    for (const char byte : bytes) {
        held = (held << 8 | static_cast<unsigned char>(byte)) & 0xffff;
        for (bits += 8; bits >= 5; bits -= 5) put(held >> (bits - 5));
    }
    if (bits > 0) put(held << (5 - bits));
    return out;
}

Result<std::string> from_base32(std::string_view text) {
    std::string out;
    unsigned held = 0;
    int bits = 0;
    for (char c : text) {
        if (c == '-' || c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
        if (c == 'O') c = '0';
        if (c == 'I' || c == 'L') c = '1';
        const size_t value = kAlphabet.find(c);
        if (value == std::string_view::npos) {
            return fail(Errc::invalid_argument, "code: has a character that no code has");
        }
        held = (held << 5 | static_cast<unsigned>(value)) & 0xffff;
        bits += 5;
        if (bits < 8) continue;
        bits -= 8;
        out += static_cast<char>(held >> bits);
    }
    // The last character's spare bits: one text per code.
    if ((held & ((1U << bits) - 1)) != 0) {
        return fail(Errc::invalid_argument,
                    "code: is not complete, or a character is wrong; compare it group by group");
    }
    return out;
}

// Takes bytes off the front; nullopt when there are too few.
std::optional<std::string> take(std::string_view& bytes, size_t count) {
    if (bytes.size() < count) return std::nullopt;
    std::string out(bytes.substr(0, count));
    bytes.remove_prefix(count);
    return out;
}

Result<std::string> host_of(uint8_t length, const std::string& bytes) {
    if ((length & kNameFlag) != 0) {
        for (const char c : bytes) {
            const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                              (c >= '0' && c <= '9') || c == '-' || c == '.';
            if (!fine) return fail(Errc::invalid_argument, "code: names a host that cannot be");
        }
        return bytes;
    }
    if (length == 4) {
        ip::address_v4::bytes_type raw;
        std::copy(bytes.begin(), bytes.end(), raw.begin());
        return ip::address_v4(raw).to_string();
    }
    if (length == 16) {
        ip::address_v6::bytes_type raw;
        std::copy(bytes.begin(), bytes.end(), raw.begin());
        return ip::address_v6(raw).to_string();
    }
    return fail(Errc::invalid_argument, "code: names a host that cannot be");
}

}  // namespace

Result<std::string> to_text(const PairingCode& code) {
    FT_CHECK(code.fingerprint.size() == PairingCode::kFingerprintBytes, "{} bytes",
             code.fingerprint.size());
    FT_CHECK(code.secret.size() == PairingCode::kSecretBytes, "{} bytes", code.secret.size());
    if (code.host.empty() || code.host.size() > PairingCode::kHostBytesMax) {
        return fail(Errc::invalid_argument,
                    "address: '{}' has {} characters, a code has room for {}",
                    code.host.substr(0, 80), code.host.size(), PairingCode::kHostBytesMax);
    }
    std::string bytes(1, static_cast<char>(kVersion));
    bytes += host_bytes(code.host);
    bytes += static_cast<char>(code.port >> 8);
    bytes += static_cast<char>(code.port & 0xff);
    bytes += code.fingerprint;
    bytes += code.secret;
    return to_base32(bytes + checksum(bytes));
}

Result<PairingCode> parse_pairing_code(std::string_view text) {
    const auto incomplete = [] {
        return fail(Errc::invalid_argument,
                    "code: is not complete, or a character is wrong; compare it group by group");
    };
    if (text.size() > kTextMax) return fail(Errc::invalid_argument, "code: is too long");
    FT_TRY(const std::string all, from_base32(text));
    if (all.size() < kChecksumBytes + 2) return incomplete();
    // What is left over of the last character is no byte; the checksum says where the end is.
    std::string_view body = std::string_view(all).substr(0, all.size() - kChecksumBytes);
    if (checksum(body) != all.substr(body.size())) return incomplete();
    if (static_cast<uint8_t>(body[0]) != kVersion) {
        return fail(Errc::version,
                    "code: is of version {}, this site knows version {}; install the same version "
                    "of Antipode at both sites",
                    static_cast<unsigned>(static_cast<uint8_t>(body[0])),
                    static_cast<unsigned>(kVersion));
    }
    const auto length = static_cast<uint8_t>(body[1]);
    body.remove_prefix(2);
    PairingCode code;
    const auto host = take(body, length & 0x7f);
    const auto port = take(body, 2);
    const auto fingerprint = take(body, PairingCode::kFingerprintBytes);
    const auto secret = take(body, PairingCode::kSecretBytes);
    if (!secret || !body.empty() || host->empty()) return incomplete();
    FT_TRY(code.host, host_of(length, *host));
    code.port = static_cast<uint16_t>(static_cast<uint8_t>((*port)[0]) << 8 |
                                      static_cast<uint8_t>((*port)[1]));
    code.fingerprint = *fingerprint;
    code.secret = *secret;
    if (code.port == 0) return incomplete();
    return code;
}

}  // namespace antipode::web
