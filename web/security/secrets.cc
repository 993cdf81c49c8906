#include "web/security/secrets.h"

#include <array>
#include <charconv>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <vector>

#include "common/base/base64.h"
#include "common/base/check.h"

namespace antipode::web {
namespace {

constexpr size_t kHashBytes = 32;
constexpr size_t kPasswordBytesMax = 1024;
// What a stored hash may ask for: a damaged or planted one must not eat the machine.
constexpr uint64_t kMemoryMax = uint64_t{256} << 20;

std::string random_bytes(size_t count) {
    std::string bytes(count, '\0');
    const int done =
        RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count));
    FT_CHECK(done == 1, "OpenSSL has no random bytes");
    return bytes;
}

Result<std::string> derive(std::string_view password, std::string_view salt, ScryptCost cost) {
    std::string hash(kHashBytes, '\0');
    const int done = EVP_PBE_scrypt(password.data(), password.size(),
                                    reinterpret_cast<const unsigned char*>(salt.data()),
                                    salt.size(), cost.n, cost.r, cost.p, kMemoryMax,
                                    reinterpret_cast<unsigned char*>(hash.data()), hash.size());
    if (done != 1) {
        return fail(Errc::corrupt, "scrypt refuses n={} r={} p={}", cost.n, cost.r, cost.p);
    }
    return hash;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> out;
    for (;;) {
        const size_t at = text.find(separator);
        out.push_back(text.substr(0, at));
        if (at == std::string_view::npos) return out;
        text.remove_prefix(at + 1);
    }
}

template <typename T>
Result<T> number(std::string_view text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
        return fail(Errc::corrupt, "password hash: '{}' is no number", text.substr(0, 20));
    }
    return value;
}

}  // namespace

std::string password_weakness(std::string_view name, std::string_view password) {
    if (password.size() < 10) return "a password has at least 10 characters";
    if (password.size() > kPasswordBytesMax) {
        return fmt::format("a password has at most {} bytes", kPasswordBytesMax);
    }
    if (password.find(name) != std::string_view::npos && password.size() < name.size() + 8) {
        return "a password is not the name with a little around it";
    }
    if (password.find_first_not_of(password.front()) == std::string_view::npos) {
        return "a password is not one character over and over";
    }
    return {};
}

Result<std::string> hash_password(std::string_view password, ScryptCost cost) {
    const std::string salt = random_bytes(16);
    FT_TRY(const std::string hash, derive(password, salt, cost));
    return fmt::format("scrypt${}${}${}${}${}", cost.n, cost.r, cost.p, base64url(salt),
                       base64url(hash));
}

Result<Match> verify_password(std::string_view password, std::string_view stored) {
    const auto parts = split(stored, '$');
    if (parts.size() != 6 || parts[0] != "scrypt") {
        return fail(Errc::corrupt, "password hash: is not scrypt$N$r$p$salt$hash");
    }
    ScryptCost cost;
    FT_TRY(cost.n, number<uint64_t>(parts[1]));
    FT_TRY(cost.r, number<uint32_t>(parts[2]));
    FT_TRY(cost.p, number<uint32_t>(parts[3]));
    if (cost.p > 16) return fail(Errc::corrupt, "password hash: p={} is over 16", cost.p);
    FT_TRY(const std::string salt, from_base64url(parts[4]));
    FT_TRY(const std::string wanted, from_base64url(parts[5]));
    if (password.size() > kPasswordBytesMax) return Match::no;
    FT_TRY(const std::string hash, derive(password, salt, cost));
    return compare_secrets(hash, wanted);
}

std::string random_secret() {
    return base64url(random_bytes(32));
}

std::string digest_of(std::string_view secret) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    const int done =
        EVP_Digest(secret.data(), secret.size(), digest.data(), &size, EVP_sha256(), nullptr);
    FT_CHECK(done == 1 && size == 32, "OpenSSL has no SHA-256");
    std::string out;
    for (unsigned i = 0; i < size; ++i) out += fmt::format("{:02x}", digest[i]);
    return out;
}

Match compare_secrets(std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return Match::no;
    return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0 ? Match::yes : Match::no;
}

}  // namespace antipode::web
