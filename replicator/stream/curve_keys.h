// CURVE keys of the logging channel and their files. Keys are Z85 text of 40 characters.
//
//   key file     two lines: the secret key, the public key; must not be readable by others
//   public file  one line: the public key; this is what the peer pins
//
// Empty lines and lines that begin with '#' are skipped. Errors name the file and the line; a key
// never stands in an error or a log line unless it is public.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace antipode::stream {

struct CurvePublicKey {
    std::string z85;
    friend bool operator==(const CurvePublicKey&, const CurvePublicKey&) = default;
};

struct CurveKeyPair {
    std::string secret_z85;
    CurvePublicKey public_key;
};

constexpr size_t kCurveKeyCharacters = 40;

Result<CurveKeyPair> generate_curve_keys();
Result<CurveKeyPair> load_curve_key_pair(const std::string& path);
Result<CurvePublicKey> load_curve_public_key(const std::string& path);
// For reading them out of memory; `origin` stands in errors in place of the path.
Result<CurveKeyPair> parse_curve_key_pair(std::string_view text, const std::string& origin);
Result<CurvePublicKey> parse_curve_public_key(std::string_view text, const std::string& origin);
// Makes both files, the secret one with mode 0600; refuses to overwrite either.
Result<CurveKeyPair> write_new_curve_keys(const std::string& key_path,
                                          const std::string& public_path);

}  // namespace antipode::stream
