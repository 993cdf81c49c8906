#include "replicator/control/seed_digests.h"

#include <cstring>
#include <xxhash.h>

namespace antipode::control {
namespace {

constexpr uint8_t kVersion = 1;

}  // namespace

ChunkDigest digest_of(std::span<const std::byte> chunk, uint64_t seed) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(chunk.data(), chunk.size(), seed));
    ChunkDigest digest;
    static_assert(sizeof(canonical.digest) == sizeof(digest.bytes));
    std::memcpy(digest.bytes.data(), canonical.digest, sizeof(canonical.digest));
    return digest;
}

ChunkDigest get_digest(vmm::StateReader& in) {
    ChunkDigest digest;
    for (uint8_t& each : digest.bytes) in.get(each);
    return digest;
}

std::vector<std::byte> encode(const SeedDigests& answer) {
    vmm::StateWriter out;
    out.put(kVersion);
    out.put(answer.attempt);
    out.put(answer.drive);
    out.put(answer.first_chunk);
    out.put(answer.seed);
    out.put(static_cast<uint32_t>(answer.digests.size()));
    for (const auto& digest : answer.digests) out.put_fixed(digest.bytes);
    return out.take();
}

Result<SeedDigests> decode_seed_digests(std::span<const std::byte> bytes) {
    vmm::StateReader in(bytes);
    if (const auto version = in.get<uint8_t>(); version != kVersion) {
        return fail(Errc::version, "seed digests: version is {}, expected {}", version, kVersion);
    }
    SeedDigests answer;
    in.get(answer.attempt);
    in.get(answer.drive);
    in.get(answer.first_chunk);
    in.get(answer.seed);
    const auto count = in.get<uint32_t>();
    if (count == 0 || count > SeedAsk::kChunksMax) in.reject("names no or too many digests");
    for (uint32_t i = 0; i < count && in.ok(); ++i) answer.digests.push_back(get_digest(in));
    if (!in.ok()) return fail(Errc::protocol, "seed digests: {}", in.problem());
    if (!in.at_end()) return fail(Errc::protocol, "seed digests: bytes behind their end");
    return answer;
}

}  // namespace antipode::control
