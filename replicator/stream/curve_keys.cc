#include "replicator/stream/curve_keys.h"

#include <array>
#include <unistd.h>
#include <vector>
#include <zmq.h>

#include "replicator/stream/key_file.h"

namespace antipode::stream {
namespace {

constexpr size_t kCurveKeyBytes = 32;

struct Line {
    size_t number;
    std::string_view text;
};

std::vector<Line> lines_of(std::string_view text) {
    std::vector<Line> lines;
    for (size_t number = 1; !text.empty(); ++number) {
        const size_t end = text.find('\n');
        std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
        if (!line.empty() && line.front() != '#') lines.push_back({number, line});
    }
    return lines;
}

Result<std::string> parse_key(const Line& line, const std::string& origin, const char* what) {
    if (line.text.size() != kCurveKeyCharacters) {
        return fail(Errc::invalid_argument, "{}:{}: {} key has {} characters, expected {} (Z85)",
                    origin, line.number, what, line.text.size(), kCurveKeyCharacters);
    }
    std::string key(line.text);
    std::array<uint8_t, kCurveKeyBytes> bytes;
    if (zmq_z85_decode(bytes.data(), key.c_str()) == nullptr) {
        return fail(Errc::invalid_argument, "{}:{}: {} key is not Z85 text", origin, line.number,
                    what);
    }
    // zmq_z85_decode() lets some characters pass that Z85 does not have.
    std::array<char, kCurveKeyCharacters + 1> again;
    if (zmq_z85_encode(again.data(), bytes.data(), bytes.size()) == nullptr ||
        key != again.data()) {
        return fail(Errc::invalid_argument, "{}:{}: {} key is not Z85 text", origin, line.number,
                    what);
    }
    return key;
}

}  // namespace

Result<CurveKeyPair> generate_curve_keys() {
    std::array<char, kCurveKeyCharacters + 1> public_key;
    std::array<char, kCurveKeyCharacters + 1> secret_key;
    if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0) {
        return fail(Errc::unsupported, "this libzmq makes no CURVE keys: {}",
                    zmq_strerror(zmq_errno()));
    }
    CurveKeyPair pair;
    pair.secret_z85 = secret_key.data();
    pair.public_key.z85 = public_key.data();
    return pair;
}

Result<CurveKeyPair> parse_curve_key_pair(std::string_view text, const std::string& origin) {
    const auto lines = lines_of(text);
    if (lines.size() != 2) {
        return fail(Errc::invalid_argument,
                    "{}: holds {} keys, expected 2: the secret key, then the public key", origin,
                    lines.size());
    }
    CurveKeyPair pair;
    FT_TRY(pair.secret_z85, parse_key(lines[0], origin, "secret"));
    FT_TRY(pair.public_key.z85, parse_key(lines[1], origin, "public"));
    std::array<char, kCurveKeyCharacters + 1> derived;
    if (zmq_curve_public(derived.data(), pair.secret_z85.c_str()) != 0 ||
        pair.public_key.z85 != derived.data()) {
        return fail(Errc::invalid_argument, "{}: the public key does not belong to the secret key",
                    origin);
    }
    return pair;
}

Result<CurvePublicKey> parse_curve_public_key(std::string_view text, const std::string& origin) {
    const auto lines = lines_of(text);
    if (lines.size() != 1) {
        return fail(Errc::invalid_argument, "{}: holds {} keys, expected 1: the peer's public key",
                    origin, lines.size());
    }
    CurvePublicKey key;
    FT_TRY(key.z85, parse_key(lines[0], origin, "public"));
    return key;
}

Result<CurveKeyPair> load_curve_key_pair(const std::string& path) {
    FT_TRY(const std::string text, read_key_file(path, "channel key", KeySecrecy::secret));
    return parse_curve_key_pair(text, path);
}

Result<CurvePublicKey> load_curve_public_key(const std::string& path) {
    FT_TRY(const std::string text, read_key_file(path, "peer's public key", KeySecrecy::open));
    return parse_curve_public_key(text, path);
}

Result<CurveKeyPair> write_new_curve_keys(const std::string& key_path,
                                          const std::string& public_path) {
    FT_TRY(CurveKeyPair pair, generate_curve_keys());
    FT_TRY_VOID(write_new_key_file(key_path, pair.secret_z85 + "\n" + pair.public_key.z85 + "\n",
                                   "channel key", KeySecrecy::secret));
    if (auto written = write_new_key_file(public_path, pair.public_key.z85 + "\n", "public key",
                                          KeySecrecy::open);
        !written) {
        ::unlink(key_path.c_str());
        return fail(std::move(written).error());
    }
    return pair;
}

}  // namespace antipode::stream
