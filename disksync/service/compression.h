// Whether data is compressed on its way to the peer.
#pragma once

#include <cstdint>

namespace antipode::disksync {

enum class Compression : uint8_t {
    none = 1,
    always = 2,
    automatic = 3,  // while the line is slower than compressing
};

}  // namespace antipode::disksync
