// The system calls that a replicator may make from here on: a seccomp filter over this process, its
// threads and the drills that it forks. What it is not made for (running programs, tracing,
// mounting, keys, modules, namespaces...) answers EPERM, whoever has taken it over. The unit's
// filter, which must let the program start, is wider.
//
// Threads: once, before any other thread is started, so that all of them inherit it.
// INVARIANTS: it cannot be taken off; privileges cannot be gained (no_new_privs).
#pragma once

#include "common/base/result.h"

namespace antipode::control {

// Errc::unsupported where the kernel has no seccomp. Nothing under a sanitizer, which needs more.
Result<> confine_process();

}  // namespace antipode::control
