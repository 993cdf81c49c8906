#include "tests/fuzz/vmm_twin.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"
#include "common/base/log.h"

namespace antipode::fuzz {
namespace {

using vmm::GuestPhys;

vmm::VmConfig config(Twin::Entropy entropy) {
    vmm::VmConfig made;
    made.drives.push_back({"root", "", false, true});
    made.drives.push_back({"cd", "", true, false});
    made.networks.push_back({"eth0", "", {6, 0, 10, 0, 0, 1}});
    made.has_entropy = entropy == Twin::Entropy::yes;
    return made;
}

std::unique_ptr<vmm::Machine> make_machine(vmm::GuestMemory& memory, Twin::Entropy entropy) {
    return std::make_unique<vmm::Machine>(
        config(entropy), std::vector<uint64_t>(Twin::kDrives, Twin::kDiskBytes), memory);
}

// Mapped once: an input is over in less time than a mapping takes.
vmm::GuestMemory& static_memory(int which) {
    static vmm::GuestMemory memories[] = {*vmm::GuestMemory::allocate(Twin::kRamBytes),
                                          *vmm::GuestMemory::allocate(Twin::kRamBytes)};
    std::memset(memories[which].host_base(), 0, Twin::kRamBytes);
    std::ranges::fill(memories[which].vmm_dirty(), 0);
    return memories[which];
}

std::vector<std::byte>& static_shadow() {
    static std::vector<std::byte> shadow(Twin::kRamBytes);
    std::memset(shadow.data(), 0, shadow.size());
    return shadow;
}

bool writes(const vmm::BlockRequest& request) {
    return request.operation != vmm::BlockOperation::read &&
           request.operation != vmm::BlockOperation::flush;
}

bool overlap(const vmm::BlockRequest& a, const vmm::BlockRequest& b) {
    return a.device == b.device && a.offset_bytes < b.offset_bytes + b.length_bytes &&
           b.offset_bytes < a.offset_bytes + a.length_bytes;
}

bool same(const vmm::BlockRequest& a, const vmm::BlockRequest& b) {
    return a.device == b.device && a.number == b.number && a.operation == b.operation &&
           a.offset_bytes == b.offset_bytes && a.length_bytes == b.length_bytes;
}

// Most of the time of a step would go into comparing states.
constexpr uint64_t kStateInterval = 8;

// What the disk of either site holds there.
std::vector<std::byte> disk_contents(const vmm::BlockRequest& request) {
    std::vector<std::byte> data(request.length_bytes);
    for (size_t i = 0; i < data.size(); ++i) {
        data[i] = static_cast<std::byte>((request.offset_bytes + i) * 31 >> 3);
    }
    return data;
}

}  // namespace

uint64_t Twin::Recording::read(vmm::InputKind kind) {
    clock = clock * 6364136223846793005u + 1442695040888963407u;
    log.push_back({kind, clock >> 16});
    return log.back().value;
}

uint64_t Twin::Replaying::read(vmm::InputKind kind) {
    FT_CHECK(!recording_.log.empty(), "the second machine reads a clock that the first did not");
    const auto entry = recording_.log.front();
    recording_.log.pop_front();
    FT_CHECK(entry.kind == kind, "the second machine reads another clock");
    return entry.value;
}

Twin::Twin(Entropy entropy)
    : entropy_(entropy),
      first_memory_(static_memory(0)),
      second_memory_(static_memory(1)),
      shadow_(static_shadow()),
      first_(make_machine(first_memory_, entropy)),
      second_(make_machine(second_memory_, entropy)) {
    logger("vmm").set_level(spdlog::level::off);  // a hostile guest would fill the terminal
}

bool Twin::load(std::span<const std::byte> state) {
    vmm::StateReader first_bytes(state);
    if (!first_->load(first_bytes)) return false;
    vmm::StateReader second_bytes(state);
    FT_CHECK(second_->load(second_bytes).has_value(), "one machine took a state, the other not");
    FT_CHECK(std::ranges::equal(vmm::saved(*first_), state), "a state was taken in part");
    for (auto& request : first_->reissue_block_requests()) {
        check_request(request);
        with_disk_.push_back(std::move(request));
    }
    check();
    return true;
}

void Twin::guest_write(uint64_t at, std::span<const std::byte> bytes) {
    if (at >= kRamBytes || bytes.empty()) return;
    const size_t count = std::min<size_t>(bytes.size(), kRamBytes - at);
    std::memcpy(first_memory_.host_base() + at, bytes.data(), count);
    std::memcpy(second_memory_.host_base() + at, bytes.data(), count);
    std::memcpy(shadow_.data() + at, bytes.data(), count);
}

uint64_t Twin::guest_read(uint64_t at, size_t bytes) const {
    uint64_t value = 0;
    const auto view = first_memory_.view(GuestPhys(at), bytes);
    if (view) std::memcpy(&value, view->data(), bytes);
    return value;
}

void Twin::emulate(vmm::Exit exit, std::span<const std::byte> data) {
    std::vector<std::byte> one(data.begin(), data.end());
    std::vector<std::byte> two = one;
    uint8_t refused_one = 0;
    uint8_t refused_two = 0;
    exit.data = one;
    exit.refused = &refused_one;
    first_->emulate(exit, recording_);
    exit.data = two;
    exit.refused = &refused_two;
    second_->emulate(exit, replaying_);
    FT_CHECK(recording_.log.empty(), "the first machine reads a clock that the second does not");
    FT_CHECK(one == two, "a read at {:#x} gave two values", exit.address);
    FT_CHECK(refused_one == refused_two, "MSR {:#x} was refused by one", exit.address);
    check();
}

void Twin::access(vmm::Exit::Kind kind, uint64_t address, std::span<const std::byte> data,
                  uint8_t size) {
    vmm::Exit exit;
    exit.kind = kind;
    exit.address = address;
    exit.size = size;
    exit.count = static_cast<uint32_t>(data.size() / size);
    emulate(exit, data.first(size_t{exit.count} * size));
}

void Twin::msr(vmm::Exit::Kind kind, uint64_t number) {
    vmm::Exit exit;
    exit.kind = kind;
    exit.address = number;
    exit.size = 8;
    exit.count = 1;
    const std::vector<std::byte> value(8, std::byte{0xff});
    emulate(exit, value);
}

void Twin::halt() {
    vmm::Exit exit;
    exit.kind = vmm::Exit::Kind::halt;
    emulate(exit, {});
}

void Twin::timer_tick() {
    both([](vmm::Machine& machine) { machine.timer_tick(); });
    check();
}

void Twin::frame(std::span<const std::byte> bytes) {
    if (!first_->can_receive_frame(0)) return;  // then it is not in the log
    both([&](vmm::Machine& machine) { machine.receive_frame(0, bytes); });
    check();
}

void Twin::console_input(std::span<const std::byte> bytes) {
    const size_t taken = first_->console_input(bytes);
    FT_CHECK(second_->console_input(bytes.first(taken)) == taken, "console input differs");
    check();
}

void Twin::complete(size_t index, vmm::BlockStatus status) {
    if (with_disk_.empty()) return;
    index %= with_disk_.size();
    const vmm::BlockRequest done = std::move(with_disk_[index]);
    with_disk_.erase(with_disk_.begin() + static_cast<ptrdiff_t>(index));
    std::vector<std::byte> data;
    if (done.operation == vmm::BlockOperation::read) data = disk_contents(done);
    both([&](vmm::Machine& machine) {
        machine.complete_block(done.device, done.number, status, data);
    });
    check();
}

void Twin::complete_unknown(uint32_t drive, uint64_t number) {
    if (known(drive, number)) return;
    const auto before = vmm::saved(*first_);
    both([&](vmm::Machine& machine) {
        machine.complete_block(drive, number, vmm::BlockStatus::ok, {});
    });
    FT_CHECK(vmm::saved(*first_) == before, "the end of no request did something");
    check();
}

void Twin::acknowledge_interrupt() {
    FT_CHECK(first_->acknowledge_interrupt() == second_->acknowledge_interrupt(), "vectors differ");
    check();
}

bool Twin::known(uint32_t device, uint64_t number) const {
    return std::ranges::any_of(with_disk_, [&](const auto& each) {
        return each.device == device && each.number == number;
    });
}

void Twin::check() {
    check_outputs();
    check_requests();
    FT_CHECK(first_->interrupt_pending() == second_->interrupt_pending(), "interrupts differ");
    if (++checks_ % kStateInterval == 0) check_states();
}

void Twin::check_states() {
    FT_CHECK(vmm::saved(*first_) == vmm::saved(*second_), "states differ");
}

void Twin::check_outputs() {
    const auto one = first_->take_outputs();
    const auto two = second_->take_outputs();
    FT_CHECK(one.size() == two.size(), "{} and {} outputs", one.size(), two.size());
    for (size_t i = 0; i < one.size(); ++i) {
        FT_CHECK(one[i].kind == two[i].kind && one[i].device == two[i].device, "outputs differ");
        FT_CHECK(one[i].bytes == two[i].bytes, "bytes of outputs differ");
        FT_CHECK(!one[i].bytes.empty(), "an output of nothing");
        if (one[i].kind != vmm::Output::Kind::frame) continue;
        FT_CHECK(one[i].bytes.size() >= vmm::VirtioNet::kFrameBytesMin, "a short frame");
        FT_CHECK(one[i].bytes.size() <= vmm::VirtioNet::kFrameBytesMax, "a long frame");
    }
}

void Twin::check_request(const vmm::BlockRequest& request) const {
    FT_CHECK(request.device < kDrives, "drive {}", request.device);
    FT_CHECK(request.device == 0 || !writes(request), "a write to the read-only disk");
    FT_CHECK(request.offset_bytes <= kDiskBytes, "offset {}", request.offset_bytes);
    FT_CHECK(request.length_bytes <= kDiskBytes - request.offset_bytes, "behind the disk");
    FT_CHECK(request.offset_bytes % 512 == 0 && request.length_bytes % 512 == 0, "half a sector");
    const bool flush = request.operation == vmm::BlockOperation::flush;
    FT_CHECK(flush == (request.length_bytes == 0), "a request for nothing");
    const bool has_data = request.operation == vmm::BlockOperation::read ||
                          request.operation == vmm::BlockOperation::write;
    FT_CHECK(request.data.size() == (has_data ? request.length_bytes : 0), "data of another size");
    for (const auto& other : with_disk_) {
        FT_CHECK(!overlap(request, other) || !(writes(request) || writes(other)),
                 "requests {} and {} overlap", other.number, request.number);
    }
    FT_CHECK(with_disk_.size() < kDrives * vmm::VirtioBlock::kRequestsInFlightMax, "too many");
}

void Twin::check_requests() {
    auto one = first_->take_block_requests();
    const auto two = second_->take_block_requests();
    FT_CHECK(one.size() == two.size(), "{} and {} disk requests", one.size(), two.size());
    for (size_t i = 0; i < one.size(); ++i) {
        FT_CHECK(same(one[i], two[i]), "disk requests differ");
        FT_CHECK(one[i].data == two[i].data, "data of disk requests differ");
        FT_CHECK(!known(one[i].device, one[i].number), "request {} twice", one[i].number);
        check_request(one[i]);
        with_disk_.push_back(std::move(one[i]));
    }
}

void Twin::migrate() {
    const auto state = vmm::saved(*first_);
    auto fresh = make_machine(second_memory_, entropy_);
    vmm::StateReader reader(state);
    const auto loaded = fresh->load(reader);
    FT_CHECK(loaded.has_value(), "own state was refused: {}", loaded.error().to_string());
    FT_CHECK(vmm::saved(*fresh) == state, "state changed on its way");
    auto again = fresh->reissue_block_requests();
    FT_CHECK(again.size() == with_disk_.size(), "{} of {} requests are issued again", again.size(),
             with_disk_.size());
    for (const auto& request : again) {
        const auto found =
            std::ranges::find_if(with_disk_, [&](const auto& each) { return same(each, request); });
        FT_CHECK(found != with_disk_.end(), "another request is issued again");
        FT_CHECK(found->data.size() == request.data.size(), "with other data");
    }
    check_states();
    second_ = std::move(fresh);
}

void Twin::finish() {
    check_states();
    FT_CHECK(std::memcmp(first_memory_.host_base(), second_memory_.host_base(), kRamBytes) == 0,
             "memories differ");
    const auto& dirty = first_memory_.vmm_dirty();
    for (uint64_t page = 0; page < first_memory_.page_count(); ++page) {
        const auto bytes = first_memory_.page(page);
        const auto shadow = shadow_.data() + page * vmm::layout::kPageBytes;
        if (std::memcmp(bytes.data(), shadow, bytes.size()) == 0) continue;
        FT_CHECK((dirty[page / 64] >> (page % 64) & 1) != 0, "page {} is not marked", page);
    }
}

}  // namespace antipode::fuzz
