// Captures: a file with every frame that a channel sent and received, for looking at afterwards
// (antipode-dump). Writer and reader are together so that they change together.
//
//   header  16 bytes: magic "APcapt1\0", 8 bytes reserved
//   record  24 bytes: time (ns, the process's monotonic clock), frame bytes, direction, lane, 10
//           reserved; then the frame as it was on the wire, before CURVE
//
// One owner. A capture ends at the first record that is cut off: the process may have died in it.
// The file is created with mode 0600: it holds what CURVE hides on the wire.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/wire/frame.h"

namespace antipode::stream {

enum class Direction : uint8_t { sent = 1, received = 2 };

struct CaptureRecord {
    uint64_t time_ns = 0;
    Direction direction = Direction::sent;
    uint8_t lane = 0;  // of what was sent
    std::vector<std::byte> frame;
    friend bool operator==(const CaptureRecord&, const CaptureRecord&) = default;
};

constexpr size_t kCaptureHeaderBytes = 16;
constexpr size_t kCaptureRecordBytes = 24;
constexpr size_t kCapturedFrameBytesMax = 4 * wire::kFrameBytesMax;

class CaptureWriter {
  public:
    // Replaces a file of that name. Stops, once, with a warning, at bytes_max or on an error.
    static Result<std::unique_ptr<CaptureWriter>> create(const std::string& path,
                                                         uint64_t bytes_max);
    ~CaptureWriter();
    void write(Direction direction, uint8_t lane, std::span<const std::byte> frame, Instant now);

  private:
    CaptureWriter(UniqueFd fd, std::string path, uint64_t bytes_max)
        : fd_(std::move(fd)), path_(std::move(path)), bytes_left_(bytes_max) {}
    void flush();
    void give_up(const std::string& reason);

    UniqueFd fd_;
    std::string path_;
    uint64_t bytes_left_;
    std::vector<std::byte> buffer_;
};

// Over the bytes of a capture; pure.
class CaptureReader {
  public:
    static Result<CaptureReader> create(std::span<const std::byte> file);
    // nullopt at the end; an error names the offset. Stops at a record that is cut off.
    Result<std::optional<CaptureRecord>> next();
    size_t offset() const { return offset_; }
    bool cut_off() const { return cut_off_; }

  private:
    explicit CaptureReader(std::span<const std::byte> file) : file_(file) {}
    std::span<const std::byte> file_;
    size_t offset_ = kCaptureHeaderBytes;
    bool cut_off_ = false;
};

}  // namespace antipode::stream
