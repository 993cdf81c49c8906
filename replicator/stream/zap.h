// ZAP (ZeroMQ RFC 27): for each connection that has shown it holds a CURVE key, libzmq asks who may
// come in. The answer here is: the one pinned key, and nobody else.
//
// Pure; the sockets are in zmq_link.h. A request that is not one is refused like a wrong key.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace antipode::stream {

constexpr size_t kCurveKeyBytes = 32;
using CurveKeyBytes = std::array<std::byte, kCurveKeyBytes>;

struct ZapRequest {
    std::vector<std::byte> request_id;  // echoed in the answer
    std::string address;                // whence the connection comes
    CurveKeyBytes key{};
};

constexpr size_t kZapFramesMax = 16;
constexpr size_t kZapFrameBytesMax = 256;

// The frames of one multipart message.
Result<ZapRequest> parse_zap_request(std::span<const std::vector<std::byte>> frames);

// later: a site of ours to which this one is not turned now. libzmq gives up on who is denied; who
// is told to come later is cut off without a word, and tries again.
enum class ZapVerdict { allowed = 1, denied, later };
// Compared in constant time.
ZapVerdict judge(const ZapRequest& request, const CurveKeyBytes& pinned);
std::vector<std::string> zap_answer(std::span<const std::byte> request_id, ZapVerdict verdict);

}  // namespace antipode::stream
