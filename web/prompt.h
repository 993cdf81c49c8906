// What people type and nobody else may read: on a terminal without an echo, else a line of standard
// input.
//
// Threads: one; it waits.
#pragma once

#include <string>

#include "common/base/result.h"

namespace antipode::web {

// A new password for this user; on a terminal it is asked for twice. Weak ones are refused.
Result<std::string> ask_new_password(const std::string& name);

}  // namespace antipode::web
