#include "replicator/vmm/devices/virtio_block/block_device.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/base/check.h"

namespace antipode::vmm {
namespace {

constexpr uint32_t kDeviceId = 2;
constexpr uint64_t kFeatureSizeMax = 1u << 1;
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
// Together they keep a request below VirtQueue::kChainBytesMax, which is a rule that a driver could
// not know.
constexpr uint32_t kSegmentBytesMax = 64 * 1024;
constexpr uint32_t kSegmentsMax = 126;
static_assert(kSegmentsMax * kSegmentBytesMax + kHeaderBytes + 1 <= VirtQueue::kChainBytesMax);
constexpr uint32_t kDiscardSectorsMax = 8192;  // 4 MiB a request: bounds the time of one
constexpr uint64_t kRangeBytes = 16;
constexpr uint32_t kFlagUnmap = 1;
constexpr uint64_t kNumberMax = uint64_t{1} << 62;  // no guest gets there

uint64_t features_of(VirtioBlock::Access access) {
    const uint64_t common = kFeatureSizeMax | kFeatureSegMax | kFeatureFlush;
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
    poke<uint32_t>(config_, 8, kSegmentBytesMax);
    poke<uint32_t>(config_, 12, kSegmentsMax);
    poke<uint32_t>(config_, 36, kDiscardSectorsMax);
    poke<uint32_t>(config_, 40, 1);  // ranges a discard
    poke<uint32_t>(config_, 44, 8);  // discard alignment, sectors
    poke<uint32_t>(config_, 48, kDiscardSectorsMax);
    poke<uint32_t>(config_, 52, 1);  // ranges a write-zeroes
}

bool VirtioBlock::has_room() const {
    if (pending_.empty()) return true;
    uint64_t bytes = 0;
    for (const Pending& each : pending_) bytes += each.length_bytes;
    return bytes < kBytesInFlightMax && pending_.size() < kRequestsInFlightMax;
}

void VirtioBlock::notify(GuestMemory& memory, size_t) {
    // No more than a ring at a time, even if the guest lets its used ring write its available ring.
    for (size_t count = 0; count < VirtQueue::kSizeMax && has_room(); ++count) {
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
    std::memcpy(&type, header.data(), sizeof type);
    if (type == kTypeGetId) {
        std::array<std::byte, kIdBytes> id{};
        std::memcpy(id.data(), serial_.data(), std::min(serial_.size(), kIdBytes));
        return answer(memory, chain, BlockStatus::ok, id);
    }
    Pending request{};
    BlockStatus status = BlockStatus::io_error;
    if (!parse_header(memory, chain, request, status)) return answer(memory, chain, status, {});
    request.number = next_number_++;
    request.chain = std::move(chain);
    pending_.push_back(std::move(request));
}

bool VirtioBlock::parse_header(const GuestMemory& memory, const VirtQueue::Chain& chain,
                               Pending& request, BlockStatus& status) const {
    std::array<std::byte, kHeaderBytes> header{};
    gather(memory, chain.readable, 0, header);
    uint32_t type = 0;
    uint64_t sector = 0;
    std::memcpy(&type, header.data(), sizeof type);
    std::memcpy(&sector, header.data() + 8, sizeof sector);
    switch (type) {
        case kTypeFlush:
            request.operation = BlockOperation::flush;
            return true;
        case kTypeDiscard:
        case kTypeWriteZeroes:
            request.operation =
                type == kTypeDiscard ? BlockOperation::discard : BlockOperation::write_zeroes;
            return parse_range(memory, chain, request, status);
        case kTypeIn:
            request.operation = BlockOperation::read;
            request.length_bytes = chain.writable_bytes - 1;
            break;
        case kTypeOut:
            request.operation = BlockOperation::write;
            request.length_bytes = chain.readable_bytes - kHeaderBytes;
            break;
        default:
            status = BlockStatus::unsupported;
            return false;
    }
    status = BlockStatus::io_error;
    if (sector > capacity_bytes_ / kSectorBytes) return false;
    request.offset_bytes = sector * kSectorBytes;
    return fits(request);
}

// struct virtio_blk_discard_write_zeroes: sector (8 bytes), count (4), flags (4).
bool VirtioBlock::parse_range(const GuestMemory& memory, const VirtQueue::Chain& chain,
                              Pending& request, BlockStatus& status) const {
    status = BlockStatus::io_error;
    if (chain.readable_bytes != kHeaderBytes + kRangeBytes) return false;
    std::array<std::byte, kRangeBytes> range{};
    gather(memory, chain.readable, kHeaderBytes, range);
    uint64_t sector = 0;
    uint32_t sectors = 0;
    uint32_t flags = 0;
    std::memcpy(&sector, range.data(), sizeof sector);
    std::memcpy(&sectors, range.data() + 8, sizeof sectors);
    std::memcpy(&flags, range.data() + 12, sizeof flags);
    const uint32_t known = request.operation == BlockOperation::write_zeroes ? kFlagUnmap : 0;
    if ((flags & ~known) != 0) {
        status = BlockStatus::unsupported;
        return false;
    }
    if (sectors > kDiscardSectorsMax || sector > capacity_bytes_ / kSectorBytes) return false;
    request.offset_bytes = sector * kSectorBytes;
    request.length_bytes = sectors * kSectorBytes;
    return fits(request);
}

// What is left to check once offset and length are known: whole sectors, at least one, on the disk.
bool VirtioBlock::fits(const Pending& request) const {
    if (request.operation == BlockOperation::flush) {
        return request.offset_bytes == 0 && request.length_bytes == 0;
    }
    if (writes(request.operation) && access_ == Access::read_only) return false;
    if (request.length_bytes == 0 || request.length_bytes % kSectorBytes != 0) return false;
    return request.offset_bytes <= capacity_bytes_ &&
           request.length_bytes <= capacity_bytes_ - request.offset_bytes;
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
        request.data = pending.data;  // empty but for what is abandoned
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
    const bool carries = done.operation == BlockOperation::read && status == BlockStatus::ok;
    FT_CHECK(!carries || data.size() == done.length_bytes, "read {} of {} bytes", data.size(),
             done.length_bytes);
    if (needs_reset()) return true;
    if (!done.abandoned) {
        answer(memory, done.chain, status, carries ? data : std::span<const std::byte>{});
    }
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

// What is with the disk goes on there, and nothing that overlaps with it may start before it has
// ended.
void VirtioBlock::on_reset(const GuestMemory& memory) {
    std::erase_if(pending_, [](const Pending& each) { return !each.with_disk; });
    for (Pending& each : pending_) {
        if (each.abandoned) continue;
        if (each.operation == BlockOperation::write) each.data = to_request(memory, each).data;
        each.chain = {};
        each.abandoned = true;
    }
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
        out.put<uint8_t>(each.abandoned ? 1 : 0);
        save_chain(out, each.chain);
        out.put_bytes(each.data);
    }
}

// What accept() and on_reset() make, and nothing else: a state that came over the network must not
// be able to do more than a guest.
bool VirtioBlock::consistent(const Pending& request) const {
    if (request.operation < BlockOperation::read || !fits(request)) return false;
    const uint64_t length = request.length_bytes;
    if (length > VirtQueue::kChainBytesMax) return false;
    const bool is_write = request.operation == BlockOperation::write;
    if (request.abandoned) {
        return request.with_disk && request.chain.readable.empty() &&
               request.chain.writable.empty() && request.data.size() == (is_write ? length : 0);
    }
    if (!request.data.empty()) return false;
    const uint64_t readable = kHeaderBytes + (is_write ? length : 0);
    const uint64_t writable = 1 + (request.operation == BlockOperation::read ? length : 0);
    return request.chain.readable_bytes >= readable && request.chain.writable_bytes >= writable;
}

void VirtioBlock::load_device(StateReader& in, const GuestMemory& memory) {
    pending_.clear();
    ready_.clear();
    next_number_ = in.get_at_most(kNumberMax, "disk: request numbers run out");
    if (next_number_ == 0) in.reject("disk: request number is out of order");
    const auto count = in.get<uint16_t>();
    if (count > kRequestsInFlightMax) in.reject("disk: too many requests in flight");
    size_t with_guest = 0;
    uint64_t previous = 0;
    for (uint16_t i = 0; i < count && in.ok(); ++i) {
        Pending each{};
        in.get(each.number);
        each.operation = in.get_at_most(BlockOperation::write_zeroes, "disk: unknown operation");
        in.get(each.offset_bytes);
        in.get(each.length_bytes);
        each.with_disk = in.get_flag();
        each.abandoned = in.get_flag();
        each.chain = load_chain(in, memory);
        each.data = in.get_bytes(VirtQueue::kChainBytesMax);
        if (!consistent(each)) in.reject("disk: a request that no guest can have made");
        if (each.number <= previous || each.number >= next_number_) {
            in.reject("disk: request number is out of order");
        }
        previous = each.number;
        if (!each.abandoned) ++with_guest;
        pending_.push_back(std::move(each));
    }
    if (with_guest > queue(0).outstanding()) in.reject("disk: more requests than the guest made");
}

}  // namespace antipode::vmm
