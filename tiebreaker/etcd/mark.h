// Mark: how far this machine knows an etcd store's history, kept outside of etcd. A store that does
// not contain it has lost decisions that were given: it was restored from an old backup, or its
// disks went back.
//
// The file is two sectors of 512 bytes, little endian: magic "APEM", format (2 bytes), 2 zero
// bytes, counter (8), store identity (8), cluster (8), sequence (8), chain (32), XXH64 of all
// before it. A write goes to the sector that is not the newest and is flushed before it counts; a
// torn one leaves the other. The file is locked: two daemons cannot share it.
//
// Threads: one at a time. On failure the error names the file.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/env/storage.h"
#include "common/wire/arbiter_messages.h"

namespace antipode::tiebreaker::etcd {

struct Mark {
    wire::StoreIdentity store;
    uint64_t cluster_id = 0;
    uint64_t sequence = 0;  // of the last line of history that is covered; 0: none yet
    std::string chain = std::string(32, '\0');
    friend bool operator==(const Mark&, const Mark&) = default;
};

class MarkFile {
  public:
    // Made if it is absent.
    static Result<std::unique_ptr<MarkFile>> open(const std::string& path);
    static Result<std::unique_ptr<MarkFile>> open(std::unique_ptr<env::Storage> storage);

    // nullopt: none was ever written.
    const std::optional<Mark>& mark() const { return mark_; }
    // Durable when it returns. After an error only opening the file again tells which one stands.
    Result<> write(const Mark& mark);

  private:
    explicit MarkFile(std::unique_ptr<env::Storage> storage) : storage_(std::move(storage)) {}
    Result<> read();

    std::unique_ptr<env::Storage> storage_;
    std::optional<Mark> mark_;
    uint64_t counter_ = 0;
};

}  // namespace antipode::tiebreaker::etcd
