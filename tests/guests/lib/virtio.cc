#include "tests/guests/lib/virtio.h"

#include "tests/guests/lib/kernel.h"

namespace antipode::guest {
namespace {

// What the device wrote is read once, and not before what was read earlier.
uint16_t read_once(const uint16_t& what) {
    const uint16_t value = *static_cast<const volatile uint16_t*>(&what);
    asm volatile("" : : : "memory");
    return value;
}

// x86 keeps stores in order; the compiler has to be told.
void write_once(uint16_t& what, uint16_t value) {
    asm volatile("" : : : "memory");
    *static_cast<volatile uint16_t*>(&what) = value;
    asm volatile("" : : : "memory");
}

// `512@0xd0000000:5`
bool parse_place(Text text, VirtioPlace& place) {
    uint64_t bytes = 0;
    uint64_t line = 0;
    if (!take_number(text, bytes) || !take_char(text, '@') || !take_number(text, place.base) ||
        !take_char(text, ':') || !take_number(text, line) || line > 15) {
        return false;
    }
    place.line = static_cast<uint8_t>(line);
    return true;
}

}  // namespace

uint64_t Registers::device_features() const {
    write(VirtioRegister::device_features_select, 1);
    const uint64_t high = read(VirtioRegister::device_features);
    write(VirtioRegister::device_features_select, 0);
    return high << 32 | read(VirtioRegister::device_features);
}

void Registers::write_driver_features(uint64_t features) const {
    write(VirtioRegister::driver_features_select, 1);
    write(VirtioRegister::driver_features, static_cast<uint32_t>(features >> 32));
    write(VirtioRegister::driver_features_select, 0);
    write(VirtioRegister::driver_features, static_cast<uint32_t>(features));
}

bool find_virtio(Text command_line, uint32_t device_id, size_t number, VirtioPlace& place) {
    constexpr const char* kOption = "virtio_mmio.device=";
    const size_t prefix = length_of(kOption);
    Words words(command_line);
    Text word;
    while (words.next(word)) {
        if (word.bytes <= prefix || memcmp(word.data, kOption, prefix) != 0 ||
            !parse_place({word.data + prefix, word.bytes - prefix}, place)) {
            continue;
        }
        const Registers registers(place.base);
        if (registers.read(VirtioRegister::magic) == kVirtioMagic &&
            registers.read(VirtioRegister::device_id) == device_id && number-- == 0) {
            return true;
        }
    }
    return false;
}

void VirtioQueue::set_up(const Registers& registers, uint16_t number, VirtioRings& rings) {
    registers_ = registers;
    rings_ = &rings;
    number_ = number;
    registers_.write(VirtioRegister::queue_select, number);
    const uint32_t size_max = registers_.read(VirtioRegister::queue_size_max);
    if (size_max == 0 || registers_.read(VirtioRegister::queue_ready) != 0) {
        fail("virtio: a queue is missing or already in use");
    }
    size_ = size_max < kVirtioQueueMax ? static_cast<uint16_t>(size_max) : kVirtioQueueMax;
    memset(&rings, 0, sizeof rings);
    for (uint16_t i = 0; i < size_; ++i) {
        rings.descriptors[i].next = static_cast<uint16_t>(i + 1);
    }
    free_head_ = 0;
    free_count_ = size_;
    used_index_ = 0;
    registers_.write(VirtioRegister::queue_size, size_);
    registers_.write_queue_address(VirtioRegister::queue_descriptors_low, rings.descriptors);
    registers_.write_queue_address(VirtioRegister::queue_driver_low, &rings.available);
    registers_.write_queue_address(VirtioRegister::queue_device_low, &rings.used);
    registers_.write(VirtioRegister::queue_ready, 1);
}

bool VirtioQueue::add(const Segment* segments, size_t count, uint16_t& head) {
    if (count == 0 || count > free_count_) {
        return false;
    }
    head = free_head_;
    uint16_t index = free_head_;
    for (size_t i = 0; i < count; ++i) {
        VirtioDescriptor& descriptor = rings_->descriptors[index];
        descriptor.address = reinterpret_cast<uint64_t>(segments[i].data);
        descriptor.bytes = segments[i].bytes;
        descriptor.flags =
            static_cast<uint16_t>((segments[i].device_writes ? kDescriptorWrite : 0) |
                                  (i + 1 < count ? kDescriptorNext : 0));
        index = descriptor.next;
    }
    free_head_ = index;
    free_count_ = static_cast<uint16_t>(free_count_ - count);
    VirtioAvailable& available = rings_->available;
    available.ring[available.index % size_] = head;
    write_once(available.index, static_cast<uint16_t>(available.index + 1));
    return true;
}

bool VirtioQueue::take(uint16_t& head, uint32_t& bytes) {
    if (read_once(rings_->used.index) == used_index_) {
        return false;
    }
    const VirtioUsedEntry entry = rings_->used.ring[used_index_ % size_];
    ++used_index_;
    if (entry.id >= size_) {
        fail("virtio: the device used a descriptor that does not exist");
    }
    head = static_cast<uint16_t>(entry.id);
    bytes = entry.bytes;
    uint16_t last = head;
    uint16_t count = 1;
    while ((rings_->descriptors[last].flags & kDescriptorNext) != 0) {
        last = rings_->descriptors[last].next;
        ++count;
    }
    rings_->descriptors[last].next = free_head_;
    free_head_ = head;
    free_count_ = static_cast<uint16_t>(free_count_ + count);
    return true;
}

void VirtioDevice::open(const VirtioPlace& place, uint64_t wanted) {
    registers_ = Registers(place.base);
    line_ = place.line;
    if (registers_.read(VirtioRegister::magic) != kVirtioMagic ||
        registers_.read(VirtioRegister::version) != 2) {
        fail("virtio: not a version 2 device");
    }
    registers_.write(VirtioRegister::status, 0);
    if (registers_.read(VirtioRegister::status) != 0) {
        fail("virtio: the device does not reset");
    }
    registers_.write(VirtioRegister::status, kStatusAcknowledge);
    registers_.write(VirtioRegister::status, kStatusAcknowledge | kStatusDriver);
    features_ = registers_.device_features() & (wanted | kFeatureVersion1);
    if (!has(kFeatureVersion1)) {
        fail("virtio: the device lacks VERSION_1");
    }
    registers_.write_driver_features(features_);
    constexpr uint32_t kAgreed = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
    registers_.write(VirtioRegister::status, kAgreed);
    if (registers_.read(VirtioRegister::status) != kAgreed) {
        fail("virtio: the device does not accept its own features");
    }
}

void VirtioDevice::start() {
    registers_.write(VirtioRegister::status,
                     kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk);
    unmask(line_);
}

uint64_t VirtioDevice::config64(uint32_t offset) const {
    const auto at = static_cast<uint32_t>(VirtioRegister::config) + offset;
    const uint64_t low = registers_.read32(at);
    return static_cast<uint64_t>(registers_.read32(at + 4)) << 32 | low;
}

void VirtioDevice::acknowledge_interrupt() const {
    const uint32_t reasons = registers_.read(VirtioRegister::interrupt_status);
    if (reasons != 0) {
        registers_.write(VirtioRegister::interrupt_ack, reasons);
    }
    if ((reasons & 2) != 0 && (registers_.read(VirtioRegister::status) & kStatusNeedsReset) != 0) {
        fail("virtio: the device asks for a reset");
    }
}

}  // namespace antipode::guest
