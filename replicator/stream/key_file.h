// Small files with keys: read with clear errors, written once.
#pragma once

#include <string>

#include "common/base/result.h"

namespace antipode::stream {

enum class KeySecrecy { secret = 1, open };

// The whole file. Secret ones must not be accessible to others. `what` names it in errors.
Result<std::string> read_key_file(const std::string& path, const char* what, KeySecrecy secrecy);
// Durable before it returns; refuses to overwrite.
Result<> write_new_key_file(const std::string& path, const std::string& text, const char* what,
                            KeySecrecy secrecy);

}  // namespace antipode::stream
