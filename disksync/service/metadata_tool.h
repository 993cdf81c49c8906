// Tools over the metadata of disks that nothing serves: they take the same locks, and refuse
// otherwise. One thread; they block.
#pragma once

#include <ostream>
#include <string>

#include "common/base/result.h"

namespace antipode::disksync {

// Reads without a lock: also while the disk is served, then as of some moment.
Result<> dump_metadata(const std::string& config_path, const std::string& disk, std::ostream& out);
// Says what is wrong, and with `repair` writes back what could be saved. Errc::corrupt if anything
// is.
Result<> check_metadata(const std::string& config_path, bool repair, std::ostream& out);
// A Failed disk whose store has been mended, or replaced at its place: it counts as new from here
// on, to be filled by the peer. The epoch stays: nothing of an older one may be written to it.
Result<> replace_disk(const std::string& config_path, const std::string& disk, std::ostream& out);
// What an undo file holds, a kept one or not, into a new file of the disk's size: each block at its
// place, holes elsewhere.
Result<> export_undo(const std::string& config_path, const std::string& disk,
                     const std::string& undo_path, const std::string& out_path, std::ostream& out);
// Back to the last consistent point, from the undo files: of all disks of the group, or of one. Can
// be repeated after a crash in the middle.
Result<> undo_resync(const std::string& config_path, const std::string& disk, std::ostream& out);

}  // namespace antipode::disksync
