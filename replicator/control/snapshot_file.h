// A snapshot file: a VM as it was at one moment, memory and disks included, from which it can be
// run again (docs/PROTOCOL-snapshot.md).
//
//     header  record(shape)  record(piece)*  record(end)
//
// The pieces are those of a seed (seed_frames.h), in the order in which they are to be applied: a
// page or chunk that comes twice counts as it comes last. The last piece is the SeedEnd. Each
// record is checksummed, compressed where that makes it smaller, and numbered. A file that does not
// end with the end record was not finished and is refused.
//
// SnapshotWriter writes beside the name (`.partial`), and gives the file its name when it is
// complete and durable. A file is written by one thread; it may be read by any number.
//
// Errors name the file and the offset in it. Nothing of a broken record is ever given out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "replicator/vmm/config.h"

namespace antipode::control {

// What a VM must look like to take the snapshot in, and where it comes from.
struct SnapshotShape {
    struct Drive {
        std::string id;
        uint64_t size_bytes = 0;
        bool is_read_only = false;
        bool operator==(const Drive&) const = default;
    };
    struct Network {
        std::string id;
        vmm::MacAddress mac{};
        bool operator==(const Network&) const = default;
    };
    uint64_t memory_bytes = 0;
    bool has_entropy = false;
    std::vector<Drive> drives;
    std::vector<Network> networks;
    uint32_t checkpoint_vcpus = 0;  // in checkpoint mode, how many; 0: lockstep
    // For people.
    std::string pair;
    std::string site;
    uint64_t epoch = 0;
    int64_t created_unix_ms = 0;
    std::string software;
    bool operator==(const SnapshotShape&) const = default;
};

SnapshotShape shape_of(const vmm::VmConfig& config, const std::vector<uint64_t>& drive_bytes);
// What of `config` is not as the snapshot needs it; drives are compared without their sizes, which
// the caller sees when it opens them.
Result<void> check_shape(const SnapshotShape& shape, const vmm::VmConfig& config);

// Version 2 is that of VMs in checkpoint mode: its shape says how many vCPUs they have.
constexpr uint32_t kSnapshotVersion = 1;
constexpr uint32_t kSnapshotVersionCheckpoint = 2;
uint32_t snapshot_version(const SnapshotShape& shape);
constexpr size_t kSnapshotHeaderBytes = 64;
constexpr size_t kSnapshotRecordHeaderBytes = 32;
constexpr size_t kSnapshotRecordBytesMax = 64 << 20;

class SnapshotWriter {
  public:
    static Result<SnapshotWriter> create(std::string path, const SnapshotShape& shape);
    SnapshotWriter(SnapshotWriter&& other) noexcept;
    SnapshotWriter& operator=(SnapshotWriter&&) = delete;
    ~SnapshotWriter();  // removes a file that is not finished

    Result<void> add(std::span<const std::byte> piece);
    // Makes the file durable and gives it its name.
    Result<void> finish();
    uint64_t bytes() const { return offset_; }

  private:
    SnapshotWriter(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
    Result<void> put(uint32_t kind, std::span<const std::byte> body);
    Result<void> write(std::span<const std::byte> bytes);
    std::string partial() const { return path_ + ".partial"; }

    std::string path_;
    UniqueFd fd_;
    uint64_t offset_ = 0;
    uint64_t record_count_ = 0;
    uint64_t plain_bytes_ = 0;
    std::vector<std::byte> compressed_;
};

class SnapshotReader {
  public:
    // Fills `into` from `offset`; fewer bytes only at the end of the file.
    using Source = std::function<Result<size_t>(uint64_t offset, std::span<std::byte> into)>;

    static Result<SnapshotReader> open(const std::string& path);
    static Result<SnapshotReader> create(std::string name, Source source);

    const SnapshotShape& shape() const { return shape_; }
    // The next piece, or nothing behind the last. An error stays.
    Result<std::optional<std::vector<std::byte>>> next();
    uint64_t offset() const { return offset_; }
    // Of the piece that next() gave last, in the file.
    uint32_t stored_bytes() const { return stored_bytes_; }

  private:
    struct Record {
        uint32_t kind = 0;
        std::vector<std::byte> body;
    };
    SnapshotReader(std::string name, Source source)
        : name_(std::move(name)), source_(std::move(source)) {}
    Result<uint32_t> read_header();  // the file's version
    Result<Record> read_record();
    Result<void> read_end(const Record& record);
    Failure broken(const std::string& rule) const;
    Result<void> fill(uint64_t offset, std::span<std::byte> into, const char* what) const;

    std::string name_;
    Source source_;
    SnapshotShape shape_;
    uint64_t offset_ = 0;
    uint64_t record_count_ = 0;
    uint64_t plain_bytes_ = 0;
    uint32_t stored_bytes_ = 0;
    bool ended_ = false;
};

}  // namespace antipode::control
