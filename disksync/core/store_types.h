// The operations on a disk, as words that the pure code and the stores share. Values; no I/O.
#pragma once

#include <cstdint>

namespace antipode::disksync {

enum class StoreOperation : uint8_t {
    read = 1,
    write = 2,
    flush = 3,
    discard = 4,       // the bytes may read as anything afterwards; advisory, so never unsupported
    write_zeroes = 5,  // the bytes read as zero afterwards
};
const char* to_string(StoreOperation operation);

// Whether a request changes what later reads see. A flush does not.
constexpr bool changes_data(StoreOperation operation) {
    return operation != StoreOperation::read && operation != StoreOperation::flush;
}

enum class Fua : uint8_t { no = 0, yes = 1 };

// For write_zeroes: whether the space may be given back.
enum class KeepAllocated : uint8_t { no = 0, yes = 1 };

enum class ExtentKind : uint8_t {
    data = 1,
    zero = 2,  // reads as zero: a hole, or known to be so
};

struct StoreExtent {
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    ExtentKind kind = ExtentKind::data;
    friend bool operator==(const StoreExtent&, const StoreExtent&) = default;
};

}  // namespace antipode::disksync
