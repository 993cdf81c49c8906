// DurableFile: a site's small durable state, so that it survives a crash at any instruction.
//
// Life of the file: two slots of 4 KiB. A write goes to the slot that does not hold the newest
// valid copy, with the next sequence number and a checksum, then fdatasync. If you see
//   no file                  the site has never run this pair
//   one valid slot           the first write, or a torn write of the other slot: it never was
//   confirmed two valid slots          the one with the higher sequence is the state a file, no
//   valid slot    corrupt: refused, because forgetting an epoch could make two VMs
// The directory is synced after the file was created.
//
// load() and store() block (fdatasync); the node calls store() on its disk thread. One user at a
// time.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/failover/input.h"

namespace antipode::control {

struct DurableRecord {
    failover::Durable state;
    std::string
        boot_id;  // of the host when it was written: tells whether unflushed writes survived
};

class DurableFile {
  public:
    // Creates the directory if it is missing; takes a lock, so that two processes cannot run one
    // pair.
    static Result<DurableFile> open(const std::string& directory);

    const std::optional<DurableRecord>& loaded() const { return loaded_; }
    Result<void> store(const DurableRecord& record);

  private:
    DurableFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
    Result<void> load();

    UniqueFd fd_;
    std::string path_;
    uint64_t sequence_ = 0;
    std::optional<DurableRecord> loaded_;
};

// The kernel's random id of this boot.
Result<std::string> read_boot_id();

}  // namespace antipode::control
