// FencedStore: a LocalStore that knows which epoch it is in. A write of an older epoch than the
// highest one ever seen is refused with Errc::stale_epoch, durably: also after a crash and a
// restart.
//
// fence(e) is called by the core loop when it learns of epoch e, before it acts on it: when this
// site has been granted e (then the VM writes with e), and when the other site has been (then
// nothing here writes any more). It blocks: it first refuses in memory, then records e durably,
// then waits until no write of an older epoch is in flight. When it has returned success, no such
// write reaches the disk.
//
// INVARIANTS
//   - A write that reaches the store below carries exactly the highest epoch recorded in the
//   metadata;
//     a write of an epoch that has not been recorded is refused (Errc::invalid_argument): record
//     first.
//   - The epoch in the metadata never goes back.
//   - The metadata's lock is held as long as the store is open, also where the store below is an
//   NBD
//     server and has no lock of its own.
//
// submit(): as LocalStore, one thread at a time. fence(), superblock(), update(): one thread at a
// time, which may be another one. On failure of fence() the store refuses every further write.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "disksync/disk_metadata.h"
#include "disksync/local_store.h"

namespace antipode::disksync {

class FencedStore final : public LocalStore {
  public:
    struct Options {
        StoreOptions store;
        Name pair;
        Name disk;
        // Empty: `<image>.antipode`; an NBD server's must be given.
        std::string metadata_path;
        enum class Missing : uint8_t { create = 1, refuse = 2 };
        Missing metadata_missing = Missing::refuse;
        // How long fence() waits for writes in flight.
        Duration drain_timeout = std::chrono::seconds(30);
    };
    // A disk that has grown since is taken as it is, and its metadata grow.
    // Errc::invalid_argument if the metadata is another pair's or disk's, or of a larger one;
    // Errc::not_found, Errc::busy, Errc::corrupt, Errc::version as the parts say.
    static Result<std::unique_ptr<FencedStore>> open(const std::string& path_or_uri,
                                                     const Options& options);
    FencedStore(std::unique_ptr<LocalStore> store, std::unique_ptr<DiskMetadata> metadata,
                Duration drain_timeout);
    ~FencedStore() override;

    Result<> submit(StoreRequest&& request) override;
    Result<> close() override { return store_->close(); }
    uint64_t size_bytes() const override { return store_->size_bytes(); }
    uint32_t alignment_bytes() const override { return store_->alignment_bytes(); }
    uint32_t requests_in_flight_max() const override { return store_->requests_in_flight_max(); }
    const std::string& name() const override { return store_->name(); }
    const std::string& metadata_path() const { return metadata_->name(); }
    Result<std::vector<StoreExtent>> extents(uint64_t offset_bytes,
                                             uint64_t length_bytes) override {
        return store_->extents(offset_bytes, length_bytes);
    }
    Result<uint64_t> refresh_size() override { return store_->refresh_size(); }
    StoreStatus status() const override { return store_->status(); }

    // Errc::stale_epoch if a higher one has been seen; the same one again is fine. Errc::busy if
    // writes of an older epoch were still in flight at the end of drain_timeout: they are fenced
    // for the future, and the call may be repeated.
    Result<> fence(Epoch epoch);
    Epoch highest_epoch() const;
    // The one that may write. Below highest_epoch() while a fence is on its way.
    Epoch recorded_epoch() const;

    // The rest of the record: role, state, generations. Durable when it returns; keeps the epoch.
    Superblock superblock() const;
    Result<> update(Superblock next);

  private:
    Result<> drain(std::unique_lock<std::mutex>& lock);

    const std::unique_ptr<LocalStore> store_;
    const std::unique_ptr<DiskMetadata> metadata_;  // under fence_mutex_
    const Duration drain_timeout_;

    mutable std::mutex fence_mutex_;  // before mutex_
    mutable std::mutex mutex_;
    std::condition_variable drained_;
    Epoch refused_below_;  // rises before the metadata does
    Epoch recorded_;       // as in the metadata
    uint64_t changes_in_flight_ = 0;
    bool broken_ = false;
};

}  // namespace antipode::disksync
