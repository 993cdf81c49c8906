// Base64 (RFC 4648): the standard alphabet, padded, and the one for names and addresses, without
// padding. Canonical: only what the writer would have made is read. Errc::corrupt for all else.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace antipode {

std::string base64(std::string_view bytes);
Result<std::string> from_base64(std::string_view text);

std::string base64url(std::string_view bytes);
Result<std::string> from_base64url(std::string_view text);

}  // namespace antipode
