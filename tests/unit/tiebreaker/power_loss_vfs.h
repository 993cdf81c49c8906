// A SQLite VFS that remembers, for every file, what it held when it was last synced. survivors()
// writes that into a directory: what a disk would hold after the power failed right now, if it had
// written nothing that it was not told to.
#pragma once

#include <string>

namespace antipode::tiebreaker::testing {

// Becomes the default VFS from construction to destruction; one at a time.
class PowerLossVfs {
  public:
    PowerLossVfs();
    ~PowerLossVfs();
    PowerLossVfs(const PowerLossVfs&) = delete;
    PowerLossVfs& operator=(const PowerLossVfs&) = delete;

    // Of the files in `from`, in `to`.
    void survivors(const std::string& from, const std::string& to) const;
    size_t sync_count() const;
};

}  // namespace antipode::tiebreaker::testing
