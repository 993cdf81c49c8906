#include "replicator/stream/zap.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace antipode::stream {
namespace {

// version, request id, domain, address, routing id, mechanism, then the mechanism's credentials
constexpr size_t kVersion = 0;
constexpr size_t kRequestId = 1;
constexpr size_t kAddress = 3;
constexpr size_t kMechanism = 5;
constexpr size_t kKey = 6;
constexpr size_t kCurveFrames = 7;

std::string_view text(const std::vector<std::byte>& frame) {
    return {reinterpret_cast<const char*>(frame.data()), frame.size()};
}

}  // namespace

Result<ZapRequest> parse_zap_request(std::span<const std::vector<std::byte>> frames) {
    if (frames.size() != kCurveFrames) {
        return fail(Errc::protocol, "ZAP: {} frames, expected {}", frames.size(), kCurveFrames);
    }
    for (const auto& frame : frames) {
        if (frame.size() > kZapFrameBytesMax) {
            return fail(Errc::protocol, "ZAP: a frame of {} bytes, at most {}", frame.size(),
                        kZapFrameBytesMax);
        }
    }
    if (text(frames[kVersion]) != "1.0") return fail(Errc::version, "ZAP: version is not 1.0");
    if (text(frames[kMechanism]) != "CURVE") {
        return fail(Errc::denied, "ZAP: mechanism is not CURVE");
    }
    if (frames[kKey].size() != kCurveKeyBytes) {
        return fail(Errc::protocol, "ZAP: key has {} bytes, expected {}", frames[kKey].size(),
                    kCurveKeyBytes);
    }
    ZapRequest request;
    request.request_id = frames[kRequestId];
    for (const char c : text(frames[kAddress])) {
        request.address.push_back(c >= 32 && c < 127 ? c : '?');
    }
    std::copy(frames[kKey].begin(), frames[kKey].end(), request.key.begin());
    return request;
}

ZapVerdict judge(const ZapRequest& request, const CurveKeyBytes& pinned) {
    auto difference = std::byte{0};
    for (size_t i = 0; i < kCurveKeyBytes; ++i) difference |= request.key[i] ^ pinned[i];
    return difference == std::byte{0} ? ZapVerdict::allowed : ZapVerdict::denied;
}

std::vector<std::string> zap_answer(std::span<const std::byte> request_id, ZapVerdict verdict) {
    const std::string id(reinterpret_cast<const char*>(request_id.data()), request_id.size());
    if (verdict == ZapVerdict::allowed) return {"1.0", id, "200", "OK", "peer", ""};
    if (verdict == ZapVerdict::later) return {"1.0", id, "300", "turned to another site", "", ""};
    return {"1.0", id, "400", "this key is not the pinned one", "", ""};
}

}  // namespace antipode::stream
