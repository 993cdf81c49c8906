// A hostile guest against the whole machine: nothing it does may crash, reach outside of its
// memory, or make the two sites differ.
#include "tests/fuzz/vmm_guest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode::fuzz;
    ByteSource input(data, size);
    Twin twin;
    play(input, twin);
    return 0;
}
