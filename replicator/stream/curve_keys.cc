#include "replicator/stream/curve_keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <zmq.h>

#include <array>
#include <cerrno>
#include <vector>

#include "common/base/unique_fd.h"

namespace antipode::stream {
namespace {

constexpr size_t kKeyFileBytesMax = 4096;
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
    if (zmq_z85_encode(again.data(), bytes.data(), bytes.size()) == nullptr || key != again.data()) {
        return fail(Errc::invalid_argument, "{}:{}: {} key is not Z85 text", origin, line.number,
                    what);
    }
    return key;
}

Result<std::string> read_file(const std::string& path, const char* what, mode_t forbidden_mode) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "{} {}", what, path);
    struct stat status {};
    if (fstat(fd.get(), &status) != 0) return fail_errno(errno, "{} {}", what, path);
    if ((status.st_mode & forbidden_mode) != 0) {
        return fail(Errc::denied, "{} {}: mode is {:04o}, others must not have access (chmod 600)",
                    what, path, status.st_mode & 07777);
    }
    std::string text(kKeyFileBytesMax + 1, '\0');
    const ssize_t got = ::read(fd.get(), text.data(), text.size());
    if (got < 0) return fail_errno(errno, "{} {}", what, path);
    if (static_cast<size_t>(got) > kKeyFileBytesMax) {
        return fail(Errc::limit, "{} {}: longer than {} bytes, not a key", what, path,
                    kKeyFileBytesMax);
    }
    text.resize(static_cast<size_t>(got));
    return text;
}

Result<> write_new_file(const std::string& path, const std::string& text, mode_t mode) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (!fd) return fail_errno(errno, "key file {}", path);
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::fsync(fd.get()) != 0) {
        const int error = errno;
        ::unlink(path.c_str());
        return fail_errno(error, "key file {}", path);
    }
    return {};
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
    FT_TRY(const std::string text, read_file(path, "channel key", S_IRWXO));
    return parse_curve_key_pair(text, path);
}

Result<CurvePublicKey> load_curve_public_key(const std::string& path) {
    FT_TRY(const std::string text, read_file(path, "peer's public key", 0));
    return parse_curve_public_key(text, path);
}

Result<CurveKeyPair> write_new_curve_keys(const std::string& key_path,
                                          const std::string& public_path) {
    FT_TRY(CurveKeyPair pair, generate_curve_keys());
    FT_TRY_VOID(write_new_file(key_path, pair.secret_z85 + "\n" + pair.public_key.z85 + "\n", 0600));
    if (auto written = write_new_file(public_path, pair.public_key.z85 + "\n", 0644); !written) {
        ::unlink(key_path.c_str());
        return fail(std::move(written).error());
    }
    return pair;
}

}  // namespace antipode::stream
