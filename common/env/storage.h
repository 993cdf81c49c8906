// Storage: a small file that holds durable state, as an interface, so that the code which decides
// what to write when can be run over a simulated disk that crashes at every write and tears it.
//
// Calls block. One user at a time.
//
// INVARIANTS
//   - What sync() returned success for survives a crash. Writes since then survive in any part and
//   in
//     any order, in units of 512 bytes.
//   - A read returns the newest write, whether it was synced or not.
//   - After a failed sync() nothing is known about the writes since the last good one; every later
//     sync() fails too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/base/result.h"

namespace antipode::env {

class Storage {
  public:
    static constexpr uint64_t kSectorBytes = 512;

    virtual ~Storage() = default;
    // Errc::corrupt if the file ends before `bytes` does.
    virtual Result<> read(uint64_t offset_bytes, std::span<std::byte> bytes) = 0;
    virtual Result<> write(uint64_t offset_bytes, std::span<const std::byte> bytes) = 0;
    virtual Result<> sync() = 0;
    virtual Result<uint64_t> size_bytes() = 0;
    // Grows with zeroes, or cuts off.
    virtual Result<> resize(uint64_t size_bytes) = 0;
    // Grows to at least this, with zeroes, and takes the room for all of it now: no write within
    // fails for want of room later. Errc::no_space. Changes no byte that is there, so it may be
    // called while another user writes.
    virtual Result<> reserve(uint64_t size_bytes) = 0;
    // For messages.
    virtual const std::string& name() const = 0;
};

}  // namespace antipode::env
