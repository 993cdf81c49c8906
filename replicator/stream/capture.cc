#include "replicator/stream/capture.h"

#include <array>
#include <boost/endian/buffers.hpp>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/log.h"

namespace antipode::stream {
namespace {

using boost::endian::little_uint32_buf_t;
using boost::endian::little_uint64_buf_t;
using boost::endian::little_uint8_buf_t;

constexpr std::array<char, 8> kMagic{'A', 'P', 'c', 'a', 'p', 't', '1', '\0'};
constexpr size_t kBufferBytes = 256 << 10;

struct RecordLayout {
    little_uint64_buf_t time_ns;
    little_uint32_buf_t frame_bytes;
    little_uint8_buf_t direction;
    little_uint8_buf_t lane;
    std::array<uint8_t, 10> reserved;
};
static_assert(sizeof(RecordLayout) == kCaptureRecordBytes);
static_assert(alignof(RecordLayout) == 1);

}  // namespace

Result<std::unique_ptr<CaptureWriter>> CaptureWriter::create(const std::string& path,
                                                             uint64_t bytes_max) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(errno, "capture {}", path);
    auto writer = std::unique_ptr<CaptureWriter>(new CaptureWriter(std::move(fd), path, bytes_max));
    const auto magic = std::as_bytes(std::span(kMagic));
    writer->buffer_.assign(magic.begin(), magic.end());
    writer->buffer_.resize(kCaptureHeaderBytes);
    writer->flush();
    return writer;
}

CaptureWriter::~CaptureWriter() {
    flush();
}

void CaptureWriter::give_up(const std::string& reason) {
    logger("stream").warn("capture {} ends: {}", path_, reason);
    fd_.reset();
    buffer_.clear();
}

void CaptureWriter::flush() {
    std::span<const std::byte> rest(buffer_);
    while (fd_ && !rest.empty()) {
        const ssize_t written = ::write(fd_.get(), rest.data(), rest.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return give_up(errno_error(errno, "write").to_string());
        rest = rest.subspan(static_cast<size_t>(written));
    }
    buffer_.clear();
}

void CaptureWriter::write(Direction direction, uint8_t lane, std::span<const std::byte> frame,
                          Instant now) {
    if (!fd_) return;
    const size_t size = kCaptureRecordBytes + frame.size();
    if (size > bytes_left_) {
        flush();
        return give_up("its size limit is reached");
    }
    bytes_left_ -= size;
    RecordLayout record{};
    record.time_ns = static_cast<uint64_t>(now.time_since_epoch().count());
    record.frame_bytes = static_cast<uint32_t>(frame.size());
    record.direction = static_cast<uint8_t>(direction);
    record.lane = lane;
    const auto head = std::as_bytes(std::span(&record, 1));
    buffer_.insert(buffer_.end(), head.begin(), head.end());
    buffer_.insert(buffer_.end(), frame.begin(), frame.end());
    if (buffer_.size() >= kBufferBytes) flush();
}

Result<CaptureReader> CaptureReader::create(std::span<const std::byte> file) {
    if (file.size() < kCaptureHeaderBytes) return fail(Errc::corrupt, "not a capture: too short");
    if (std::memcmp(file.data(), kMagic.data(), kMagic.size()) != 0) {
        return fail(Errc::corrupt, "not a capture: its first bytes are others");
    }
    return CaptureReader(file);
}

Result<std::optional<CaptureRecord>> CaptureReader::next() {
    const auto rest = file_.subspan(offset_);
    if (rest.size() < kCaptureRecordBytes) {
        cut_off_ = !rest.empty();
        return std::nullopt;
    }
    RecordLayout in;
    std::memcpy(&in, rest.data(), sizeof in);
    const uint32_t size = in.frame_bytes.value();
    if (size > kCapturedFrameBytesMax) {
        return fail(Errc::corrupt, "offset {}: a frame of {} bytes, at most {}", offset_, size,
                    kCapturedFrameBytesMax);
    }
    const uint8_t direction = in.direction.value();
    if (direction != 1 && direction != 2) {
        return fail(Errc::corrupt, "offset {}: direction is {}", offset_, direction);
    }
    if (rest.size() - kCaptureRecordBytes < size) {
        cut_off_ = true;
        return std::nullopt;
    }
    CaptureRecord record;
    record.time_ns = in.time_ns.value();
    record.direction = static_cast<Direction>(direction);
    record.lane = in.lane.value();
    const auto frame = rest.subspan(kCaptureRecordBytes, size);
    record.frame.assign(frame.begin(), frame.end());
    offset_ += kCaptureRecordBytes + size;
    return record;
}

}  // namespace antipode::stream
