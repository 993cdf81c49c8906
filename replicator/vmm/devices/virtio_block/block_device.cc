#include "replicator/vmm/devices/virtio_block/block_device.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace antipode::vmm {
namespace {

constexpr uint32_t kDeviceId = 2;
constexpr uint64_t kFeatureSegMax = 1u << 2;
constexpr uint64_t kFeatureReadOnly = 1u << 5;
constexpr uint64_t kFeatureFlush = 1u << 9;
constexpr uint64_t kFeatureDiscard = 1u << 13;
constexpr uint64_t kFeatureWriteZeroes = 1u << 14;

constexpr uint32_t kTypeIn = 0;
constexpr uint32_t kTypeOut = 1;
constexpr uint32_t kTypeFlush = 4;
constexpr uint32_t kTypeGetId = 8;
constexpr uint32_t kTypeDiscard = 11;
constexpr uint32_t kTypeWriteZeroes = 13;

constexpr uint64_t kHeaderBytes = 16;
constexpr size_t kIdBytes = 20;
constexpr uint32_t kSegmentsMax = 126;
constexpr uint32_t kDiscardSectorsMax = 8192;  // 4 MiB a request: bounds the time of one
constexpr uint64_t kRangeBytes = 16;           // struct virtio_blk_discard_write_zeroes

uint64_t features_of(VirtioBlock::Access access) {
    const uint64_t common = kFeatureSegMax | kFeatureFlush;
    if (access == VirtioBlock::Access::read_only) return common | kFeatureReadOnly;
    return common | kFeatureDiscard | kFeatureWriteZeroes;
}

template <typename T>
void poke(std::vector<std::byte>& config, size_t offset, T value) {
    std::memcpy(config.data() + offset, &value, sizeof value);
}

bool writes(BlockOperation operation) {
    return operation == BlockOperation::write || operation == BlockOperation::discard ||
           operation == BlockOperation::write_zeroes;
}

}  // namespace

VirtioBlock::VirtioBlock(uint32_t device, std::string drive_id, uint64_t capacity_bytes,
                         Access access)
    : VirtioMmioDevice("drive " + drive_id, kDeviceId, features_of(access), 1),
      device_(device),
      capacity_bytes_(capacity_bytes),
      access_(access),
      serial_(std::move(drive_id)),
      config_(60) {
    poke<uint64_t>(config_, 0, capacity_bytes / kSectorBytes);
    poke<uint32_t>(config_, 12, kSegmentsMax);
    poke<uint32_t>(config_, 36, kDiscardSectorsMax);
    poke<uint32_t>(config_, 40, 1);  // ranges a discard
    poke<uint32_t>(config_, 44, 8);  // discard alignment, sectors
    poke<uint32_t>(config_, 48, kDiscardSectorsMax);
    poke<uint32_t>(config_, 52, 1);  // ranges a write-zeroes
}

uint64_t VirtioBlock::bytes_in_flight() const {
    uint64_t total = 0;
    for (const Pending& each : pending_) total += each.length_bytes;
    return total;
}

void VirtioBlock::notify(GuestMemory& memory, size_t) {
    while (pending_.empty() || bytes_in_flight() < kBytesInFlightMax) {
        auto chain = queue(0).pop(memory);
        if (!chain) break;
        accept(memory, std::move(*chain));
        if (needs_reset()) return;
    }
    issue_ready(memory);
}

// The chain is header (16 bytes), data, status (1 byte): each must be there, wherever the
// descriptors are cut.
void VirtioBlock::accept(GuestMemory& memory, VirtQueue::Chain chain) {
    if (chain.readable_bytes < kHeaderBytes || chain.writable_bytes < 1) {
        return fail_device("block request without header or status");
    }
    std::array<std::byte, kHeaderBytes> header{};
    gather(memory, chain.readable, 0, header);
    uint32_t type = 0;
    uint64_t sector = 0;
    std::memcpy(&type, header.data(), sizeof type);
    std::memcpy(&sector, header.data() + 8, sizeof sector);
    Pending request{0, BlockOperation::read, 0, 0, false, {}};
    bool valid = sector <= capacity_bytes_ / kSectorBytes;
    request.offset_bytes = valid ? sector * kSectorBytes : 0;
    switch (type) {
        case kTypeIn:
            request.length_bytes = chain.writable_bytes - 1;
            break;
        case kTypeOut:
            request.operation = BlockOperation::write;
            request.length_bytes = chain.readable_bytes - kHeaderBytes;
            break;
        case kTypeFlush:
            request.operation = BlockOperation::flush;
            request.offset_bytes = 0;
            valid = true;
            break;
        case kTypeDiscard:
        case kTypeWriteZeroes:
            request.operation =
                type == kTypeDiscard ? BlockOperation::discard : BlockOperation::write_zeroes;
            valid = parse_ranges(memory, chain, request);
            break;
        case kTypeGetId: {
            std::array<std::byte, kIdBytes> id{};
            std::memcpy(id.data(), serial_.data(), std::min(serial_.size(), kIdBytes));
            return answer(memory, chain, BlockStatus::ok, id);
        }
        default:
            return answer(memory, chain, BlockStatus::unsupported, {});
    }
    if (request.length_bytes % kSectorBytes != 0) valid = false;
    if (valid && request.length_bytes > capacity_bytes_ - request.offset_bytes) valid = false;
    if (writes(request.operation) && access_ == Access::read_only) valid = false;
    if (!valid) return answer(memory, chain, BlockStatus::io_error, {});
    request.number = next_number_++;
    request.chain = std::move(chain);
    pending_.push_back(std::move(request));
}

bool VirtioBlock::parse_ranges(const GuestMemory& memory, const VirtQueue::Chain& chain,
                               Pending& request) {
    if (chain.readable_bytes != kHeaderBytes + kRangeBytes) return false;
    std::array<std::byte, kRangeBytes> range{};
    gather(memory, chain.readable, kHeaderBytes, range);
    uint64_t sector = 0;
    uint32_t sectors = 0;
    std::memcpy(&sector, range.data(), sizeof sector);
    std::memcpy(&sectors, range.data() + 8, sizeof sectors);
    const uint64_t capacity_sectors = capacity_bytes_ / kSectorBytes;
    if (sectors > kDiscardSectorsMax || sector > capacity_sectors) return false;
    if (sectors > capacity_sectors - sector) return false;
    request.offset_bytes = sector * kSectorBytes;
    request.length_bytes = sectors * kSectorBytes;
    return true;
}

void VirtioBlock::answer(GuestMemory& memory, const VirtQueue::Chain& chain, BlockStatus status,
                         std::span<const std::byte> data) {
    const uint64_t room = chain.writable_bytes - 1;
    const auto taken = data.first(std::min<size_t>(data.size(), room));
    scatter(memory, chain.writable, taken);
    const auto code = static_cast<uint8_t>(status);
    // A status descriptor of zero bytes cannot be: writable_bytes >= 1, and trailing empty ones
    // fall back to the last byte that exists.
    for (auto segment = chain.writable.rbegin(); segment != chain.writable.rend(); ++segment) {
        if (segment->bytes == 0) continue;
        (void)memory.store(GuestPhys(segment->at.value() + segment->bytes - 1), code);
        break;
    }
    give_back(memory, 0, chain.head, static_cast<uint32_t>(taken.size() + 1));
}

bool VirtioBlock::conflicts(const Pending& request, size_t before) const {
    for (size_t i = 0; i < before; ++i) {
        const Pending& other = pending_[i];
        if (!writes(other.operation) && !writes(request.operation)) continue;
        if (other.offset_bytes < request.offset_bytes + request.length_bytes &&
            request.offset_bytes < other.offset_bytes + other.length_bytes) {
            return true;
        }
    }
    return false;
}

void VirtioBlock::issue_ready(const GuestMemory& memory) {
    for (size_t i = 0; i < pending_.size(); ++i) {
        if (pending_[i].with_disk || conflicts(pending_[i], i)) continue;
        pending_[i].with_disk = true;
        ready_.push_back(to_request(memory, pending_[i]));
    }
}

BlockRequest VirtioBlock::to_request(const GuestMemory& memory, const Pending& pending) const {
    BlockRequest request{
        device_, pending.number, pending.operation, pending.offset_bytes, pending.length_bytes, {}};
    if (pending.operation == BlockOperation::write) {
        request.data.resize(pending.length_bytes);
        gather(memory, pending.chain.readable, kHeaderBytes, request.data);
    } else if (pending.operation == BlockOperation::read) {
        request.data.resize(pending.length_bytes);
    }
    return request;
}

bool VirtioBlock::complete(GuestMemory& memory, uint64_t number, BlockStatus status,
                           std::span<const std::byte> data) {
    const auto found = std::find_if(pending_.begin(), pending_.end(),
                                    [&](const Pending& each) { return each.number == number; });
    if (found == pending_.end() || !found->with_disk) return false;
    const Pending done = std::move(*found);
    pending_.erase(found);
    if (needs_reset()) return true;
    const bool carries = done.operation == BlockOperation::read && status == BlockStatus::ok;
    answer(memory, done.chain, status, carries ? data : std::span<const std::byte>{});
    if (driver_ok()) notify(memory, 0);  // what waited for room or for this range
    check_queue(0);
    return true;
}

std::vector<BlockRequest> VirtioBlock::reissue(const GuestMemory& memory) const {
    std::vector<BlockRequest> requests;
    for (const Pending& each : pending_) {
        if (each.with_disk) requests.push_back(to_request(memory, each));
    }
    return requests;
}

// Requests that are with the disk finish there; their completions find no request and do nothing.
void VirtioBlock::on_reset() {
    pending_.clear();
    ready_.clear();
}

void VirtioBlock::save_device(StateWriter& out) const {
    out.put(next_number_);
    out.put<uint16_t>(static_cast<uint16_t>(pending_.size()));
    for (const Pending& each : pending_) {
        out.put(each.number);
        out.put(each.operation);
        out.put(each.offset_bytes);
        out.put(each.length_bytes);
        out.put<uint8_t>(each.with_disk ? 1 : 0);
        save_chain(out, each.chain);
    }
}

void VirtioBlock::load_device(StateReader& in, const GuestMemory& memory) {
    pending_.clear();
    ready_.clear();
    in.get(next_number_);
    const auto count = in.get<uint16_t>();
    for (uint16_t i = 0; i < count && in.ok(); ++i) {
        Pending each{};
        in.get(each.number);
        in.get(each.operation);
        in.get(each.offset_bytes);
        in.get(each.length_bytes);
        each.with_disk = in.get<uint8_t>() != 0;
        each.chain = load_chain(in, memory);
        if (each.length_bytes <= VirtQueue::kChainBytesMax) pending_.push_back(std::move(each));
    }
}

}  // namespace antipode::vmm
