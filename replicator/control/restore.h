// Running a VM from a snapshot file, by itself, without a pair.
//
// The VM's definition is vm.json of a directory and must have the snapshot's shape; its drives are
// filled from the snapshot first. Files that are missing are made; what exists is overwritten only
// where the caller says so, and never if it belongs to another pair. The guest's console is
// standard input and output. It is not protected: it gets neither a log nor a tiebreaker.
//
// One thread, the caller's, until the VM ends or a signal ends it.
#pragma once

#include <string>

#include "common/base/result.h"

namespace antipode::control {

struct RestoreOptions {
    enum class Existing : uint8_t { refuse, overwrite };
    enum class Until : uint8_t { the_vm_ends, the_drives_are_filled };
    enum class Network : uint8_t { none, taps_of_vm_json };

    std::string file;
    std::string directory;  // of vm.json
    Existing existing = Existing::refuse;
    Until until = Until::the_vm_ends;
    Network network = Network::none;
};

Result<void> restore_snapshot(const RestoreOptions& options);

// Asks the replicator of the pair in `directory` for a snapshot, and waits until it is there.
// The name of the file, at the replicator's site.
Result<std::string> request_snapshot(const std::string& directory, const std::string& name);

// What is in a snapshot file, as text on standard output. Reads and checks all of it.
enum class DumpDetail : uint8_t { summary, pieces };
Result<void> dump_snapshot(const std::string& path, DumpDetail detail);

}  // namespace antipode::control
