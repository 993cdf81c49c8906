// A SQLite VFS that remembers, for every file, what it held when it was last synced, and fails when
// it is told to. survivors()
// writes that into a directory: what a disk would hold after the power failed right now, if it had
// written nothing that it was not told to.
#pragma once

#include <cstdint>
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

    // The `number`th write, truncation or sync from now on fails with this SQLite code, and the
    // ones after it as well if `lasting`. 0 ends it.
    enum class Failure : uint8_t { once = 1, lasting };
    void fail_at(size_t number, int code, Failure failure);
    bool has_failed() const;
};

}  // namespace antipode::tiebreaker::testing
