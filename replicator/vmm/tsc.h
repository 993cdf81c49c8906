// The time-stamp counter of a VM whose policy is `live` (config.h): what a host can do about it,
// its value in a checkpoint, and how it goes on from there.
//
// All vCPUs of such a VM have one counter: the same offset to the host's. At a checkpoint each
// one's value is read while they stand. Who goes live sets all of them to the greatest of these
// plus what the guest's clock has advanced since.
//
// A host whose KVM shows its guests the host's own counter, whatever is set (TscSource::hosts), can
// keep this promise only to a site on the same machine: the greeting sees to that
// (control/tsc_greeting.h). What KVM does is found out by doing it, with a guest that reads the
// counter in ring 0 and in ring 3.
//
// capture_tsc() and continue_tsc() are called while no thread runs any of the vCPUs.
//
// INVARIANT: after continue_tsc() no vCPU reads less than any of the state's values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "replicator/vmm/kvm.h"
#include "replicator/vmm/state_io.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::vmm {

enum class TscSource : uint8_t {
    own,    // each VM has a counter of its own
    hosts,  // guests read the host's
};
// Whether a guest's counter can have another frequency than the host's.
enum class TscScaling : uint8_t { no, yes };

// What guests get on this host.
struct TscTerms {
    uint32_t khz = 0;
    TscSource source = TscSource::own;
    TscScaling scaling = TscScaling::no;
};

struct TscState {
    uint32_t khz = 0;
    std::vector<uint64_t> values;  // one a vCPU

    uint64_t highest() const;
    void save(StateWriter& out) const;
    static TscState load(StateReader& in, size_t vcpu_count);
};

// Frequencies that are one to KVM (its tsc_tolerance_ppm), and to a guest's own measurement.
bool same_frequency(uint32_t khz, uint32_t other_khz);
uint64_t tsc_ticks(uint32_t khz, Duration time);

// One counter for all vCPUs, at `value` now; whether KVM shows it to a guest is examine_tsc()'s
// question.
Result<void> set_tsc(std::span<Vcpu* const> vcpus, uint64_t value);

// Runs a tiny guest. An error: this host cannot give guests a counter that goes on.
Result<TscTerms> examine_tsc(const Kvm& kvm);

// Of a VM that has not run: all vCPUs alike.
Result<void> start_tsc(const TscTerms& terms, std::span<Vcpu* const> vcpus);
Result<TscState> capture_tsc(std::span<Vcpu* const> vcpus);
// Whether a VM that stood there can go on here; the error says why not.
Result<void> check_tsc(const TscTerms& terms, const TscState& state);
// `since`: what the guest's clock has advanced.
Result<void> continue_tsc(const TscTerms& terms, std::span<Vcpu* const> vcpus,
                          const TscState& state, Duration since);

}  // namespace antipode::vmm
