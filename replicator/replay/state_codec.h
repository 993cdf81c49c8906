// How a VM's state, its outputs that have not been released and its pages are put into bytes: the
// one codec of seeds, heals and snapshot files (docs/PROTOCOL-snapshot.md).
//
//   state   version(1) exit(8) output(8) flags(1) guest_clock_ns(8) digest_number(8)
//           disk_hash(8) cpu(4+n) machine(4+n)
//   held    count(4), each: number(8) kind(1) device(4) bytes(4+n)
//   pages   count(4), each: number(8) bytes(4+n), n = 0 (all zero) or 4096
//
// Little endian, as StateWriter writes. A reader that meets what the writer would not have made
// turns bad (StateReader::reject). Canonical. Pure values; no thread.
#pragma once

#include <vector>

#include "replicator/replay/heal.h"
#include "replicator/replay/ports.h"
#include "replicator/vmm/state_io.h"

namespace antipode::replay {

constexpr uint8_t kVmStateVersion = 1;
constexpr size_t kMachineBytesMax = 4 << 20;
constexpr uint32_t kHeldOutputsMax = 1 << 16;
constexpr size_t kOutputBytesMax = 64 << 10;

void put_state(vmm::StateWriter& out, const VmState& state);
VmState get_state(vmm::StateReader& in);

void put_held(vmm::StateWriter& out, const std::vector<ReplayedOutput>& held);
std::vector<ReplayedOutput> get_held(vmm::StateReader& in);

void put_pages(vmm::StateWriter& out, const std::vector<DeltaPages::Page>& pages);
std::vector<DeltaPages::Page> get_pages(vmm::StateReader& in);

// A list: its length (4 bytes), then what `put` writes for each.
template <typename List, typename Put>
void put_list(vmm::StateWriter& out, const List& list, Put put) {
    out.put<uint32_t>(static_cast<uint32_t>(list.size()));
    for (const auto& each : list) put(each);
}
// Calls `get` for each item of a list; one that is too long turns the reader bad.
template <typename Get>
void get_list(vmm::StateReader& in, size_t count_max, Get get) {
    const auto count = in.get<uint32_t>();
    if (count > count_max) in.reject("has a list that is too long");
    for (uint32_t i = 0; i < count && in.ok(); ++i) get();
}

}  // namespace antipode::replay
