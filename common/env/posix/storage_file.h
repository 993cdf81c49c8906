// StorageFile: Storage in a file. See common/env/storage.h for the contract.
//
// Life of the file: made by create() and synced together with its directory, so that it exists once
// create() has returned; held with an open-file-description lock, so that one process uses it.
#pragma once

#include <memory>

#include "common/base/unique_fd.h"
#include "common/env/storage.h"

namespace antipode::env {

class StorageFile final : public Storage {
  public:
    enum class Access : uint8_t { read_write = 1, read_only = 2 };

    // Errc::not_found, Errc::busy (locked by another process; read_only takes no lock), Errc::io...
    static Result<std::unique_ptr<StorageFile>> open(const std::string& path,
                                                     Access access = Access::read_write);
    // Errc::already_exists. Readable by its owner and group only; see give_to_owner_of_directory().
    static Result<std::unique_ptr<StorageFile>> create(const std::string& path);

    Result<> read(uint64_t offset_bytes, std::span<std::byte> bytes) override;
    Result<> write(uint64_t offset_bytes, std::span<const std::byte> bytes) override;
    Result<> sync() override;
    Result<uint64_t> size_bytes() override;
    Result<> resize(uint64_t size_bytes) override;
    // A file system that copies on write, or that cannot take room in advance, may have none in
    // spite of it.
    Result<> reserve(uint64_t size_bytes) override;
    const std::string& name() const override { return path_; }

  private:
    StorageFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
    Result<> lock();

    UniqueFd fd_;
    std::string path_;
    bool sync_failed_ = false;
};

// Makes the entry of `path` in its directory durable.
Result<> sync_directory_of(const std::string& path);

// What root makes in a directory of another user becomes that user's, as if he had made it: an
// administrator's command must leave nothing behind that the service cannot open.
Result<> give_to_owner_of_directory(int fd, const std::string& path);

}  // namespace antipode::env
