// A guest made of bytes: each input is a list of things that a guest, the clock, the network and
// the disk do. Among them are whole steps of a driver (start a device, send a request), so that
// inputs get behind the first checks.
#pragma once

#include "tests/fuzz/byte_source.h"
#include "tests/fuzz/vmm_twin.h"

namespace antipode::fuzz {

// Plays the input to its end, at most `kStepsMax` steps of it.
inline constexpr int kStepsMax = 1000;
void play(ByteSource& input, Twin& twin);

}  // namespace antipode::fuzz
