// FileStore: a regular file or a block device as a LocalStore (see there for the contract).
//
// A small fixed pool of threads takes requests from one bounded queue and executes them with pread,
// pwrite, fdatasync and fallocate. The image is locked with an open-file-description lock over its
// whole length (the kind QEMU takes, so QEMU and we refuse each other), a block device with O_EXCL
// too.
//
// INVARIANTS
//   - queue_.size() + running_ <= requests_in_flight_max.
//   - flush_failed_ never goes back (see local_store.h).
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "common/base/unique_fd.h"
#include "disksync/local_store.h"

namespace antipode::disksync {

class FileStore final : public LocalStore {
  public:
    static Result<std::unique_ptr<FileStore>> open(const std::string& path,
                                                   const StoreOptions& options);
    ~FileStore() override;

    Result<> submit(StoreRequest&& request) override;
    bool runs_here() const override { return true; }
    Result<> run_here(const StoreRequest& request) override;
    Result<> close() override;
    uint64_t size_bytes() const override { return size_bytes_.load(std::memory_order_acquire); }
    uint32_t alignment_bytes() const override { return alignment_bytes_; }
    uint32_t requests_in_flight_max() const override { return options_.requests_in_flight_max; }
    const std::string& name() const override { return path_; }
    Result<std::vector<StoreExtent>> extents(uint64_t offset_bytes, uint64_t length_bytes) override;
    Result<uint64_t> refresh_size() override;
    StoreStatus status() const override;

  private:
    enum class Kind : uint8_t { regular_file, block_device };
    FileStore(UniqueFd fd, std::string path, const StoreOptions& options, Kind kind,
              uint64_t size_bytes, uint32_t alignment_bytes);
    static Result<> lock_image(int fd, const std::string& path, StoreAccess access);

    void worker();
    Result<> execute(const StoreRequest& request);
    Result<> read(const StoreRequest& request);
    Result<> write(const StoreRequest& request);
    Result<> write_bytes(std::span<const std::byte> bytes, uint64_t offset_bytes, Fua fua);
    Result<> write_zeroes(const StoreRequest& request);
    Result<> discard(const StoreRequest& request);
    Result<> flush();
    bool needs_bounce(const void* address) const;
    Failure error_at(int error_number, const StoreRequest& request) const;

    const UniqueFd fd_;
    const std::string path_;
    const StoreOptions options_;
    const Kind kind_;
    std::atomic<uint64_t> size_bytes_;
    const uint32_t alignment_bytes_;
    std::atomic<bool> flush_failed_{false};
    // The kernel lets one thread at a time write to a file's cache, and those that wait spin: that
    // costs more processor time than the writing.
    std::mutex cached_write_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<StoreRequest> queue_;
    uint32_t running_ = 0;
    bool closing_ = false;
    std::mutex close_mutex_;  // before mutex_; close() by two threads
    std::vector<std::thread> threads_;
};

}  // namespace antipode::disksync
