// A machine's state from another site, and a guest that goes on from there: refused, or taken whole
// and as harmless as any other.
//
// The input: two bytes of length, the state, then steps of the guest.
#include "tests/fuzz/vmm_guest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode::fuzz;
    ByteSource input(data, size);
    Twin twin;
    const auto state = input.bytes(input.take<uint16_t>());
    if (twin.load(state)) play(input, twin);
    return 0;
}
