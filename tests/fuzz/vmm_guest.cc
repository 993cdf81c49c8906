#include "tests/fuzz/vmm_guest.h"

#include <array>
#include <cstring>

#include "replicator/vmm/layout.h"

namespace antipode::fuzz {
namespace {

namespace layout = vmm::layout;
using Kind = vmm::Exit::Kind;

// The guest's memory: a page for each ring, one of indirect tables, and buffers.
constexpr uint64_t kRings = 0x1000;
constexpr uint64_t kRingBytes = 0x2000;
constexpr uint64_t kAvailable = 0x1000;  // in a ring's area
constexpr uint64_t kUsed = 0x1400;
constexpr uint64_t kTables = 0x9000;
constexpr uint64_t kBuffers = 0xa000;
constexpr size_t kQueues = 4;  // one a disk, two of the network card

constexpr std::array<uint16_t, 24> kPorts{0x20,  0x21,  0xa0,  0xa1,  0x4d0, 0x4d1, 0x40,  0x41,
                                          0x42,  0x43,  0x61,  0x64,  0x70,  0x71,  0x3f8, 0x3f9,
                                          0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0x608, 0x80};
constexpr std::array<uint16_t, 20> kRegisters{0x00, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34,
                                              0x38, 0x44, 0x50, 0x60, 0x64, 0x70, 0x80,
                                              0x84, 0x90, 0x94, 0xa0, 0xa4, 0x100};

class Guest {
  public:
    Guest(ByteSource& input, Twin& twin) : input_(input), twin_(twin) {}
    void step();

  private:
    template <typename T>
    void store(uint64_t at, T value) {
        twin_.guest_write(at, std::as_bytes(std::span(&value, 1)));
    }
    static uint64_t device_at(size_t device) {
        return layout::kVirtioMmio + device * layout::kVirtioMmioBytes;
    }
    static size_t device_of(size_t queue) { return std::min<size_t>(queue, 2); }
    static uint64_t ring(size_t queue) { return kRings + queue * kRingBytes; }
    void set_register(size_t device, uint64_t offset, uint32_t value) {
        twin_.access(Kind::mmio_write, device_at(device) + offset,
                     std::as_bytes(std::span(&value, 1)), 4);
    }
    void port();
    void mmio();
    void start_device();
    void start_interrupts();
    void put_descriptor();
    void put_chain();
    void disk_request();
    void offer(size_t queue, uint16_t head);
    void event();
    void write_memory();

    ByteSource& input_;
    Twin& twin_;
    std::array<uint16_t, kQueues> next_{};
    std::array<uint16_t, kQueues> sizes_{8, 8, 8, 8};
};

void Guest::port() {
    const auto kind = input_.below(2) == 0 ? Kind::port_out : Kind::port_in;
    const size_t which = input_.below(kPorts.size() + 1);
    const uint16_t number = which < kPorts.size() ? kPorts[which] : input_.take<uint16_t>();
    constexpr std::array<uint8_t, 3> kSizes{1, 2, 4};
    const uint8_t size = kSizes[input_.below(4) % 3];
    const size_t count = 1 + input_.below(4) * input_.below(8);
    std::vector<std::byte> data(size * count);
    if (kind == Kind::port_out) {
        const auto bytes = input_.bytes(data.size());
        std::copy(bytes.begin(), bytes.end(), data.begin());
    }
    twin_.access(kind, number, data, size);
}

void Guest::mmio() {
    const auto kind = input_.below(2) == 0 ? Kind::mmio_write : Kind::mmio_read;
    const size_t device = input_.below(Twin::kDevices + 1);
    const size_t which = input_.below(kRegisters.size() + 1);
    const uint64_t offset = which < kRegisters.size() ? kRegisters[which] : input_.take<uint16_t>();
    constexpr std::array<uint8_t, 8> kSizes{4, 4, 4, 4, 4, 1, 2, 8};
    const uint8_t size = kSizes[input_.below(kSizes.size())];
    std::vector<std::byte> data(size);
    if (kind == Kind::mmio_write) {
        const auto bytes = input_.bytes(size);
        std::copy(bytes.begin(), bytes.end(), data.begin());
    }
    twin_.access(kind, device_at(device) + offset, data, size);
}

// What a good driver does; one byte says how it is not good.
void Guest::start_device() {
    const size_t device = input_.below(Twin::kDevices);
    const auto oddity = input_.take<uint8_t>();
    const auto size = static_cast<uint16_t>(1u << input_.below(9));
    set_register(device, 0x70, 0);
    set_register(device, 0x24, 0);
    set_register(device, 0x20, oddity & 1 ? 0xffffffff : 1u << 28);
    set_register(device, 0x24, 1);
    set_register(device, 0x20, oddity & 2 ? 0 : 1);
    set_register(device, 0x70, 8);
    const size_t first = device;
    const size_t last = device == 2 ? 3 : device;
    for (size_t queue = first; queue <= last; ++queue) {
        next_[queue] = 0;
        sizes_[queue] = size;
        store<uint16_t>(ring(queue) + kAvailable + 2, 0);
        set_register(device, 0x30, static_cast<uint32_t>(queue - first));
        set_register(device, 0x38, size);
        set_register(device, 0x80, static_cast<uint32_t>(ring(queue)));
        set_register(device, 0x90, static_cast<uint32_t>(ring(queue) + kAvailable));
        set_register(device, 0xa0, static_cast<uint32_t>(ring(queue) + kUsed));
        if (oddity & 4) set_register(device, 0xa0, input_.take<uint16_t>());
        set_register(device, 0x44, 1);
    }
    set_register(device, 0x70, oddity & 8 ? 4 : 12);
}

void Guest::start_interrupts() {
    for (const uint16_t base : {uint16_t{0x20}, uint16_t{0xa0}}) {
        for (const uint16_t word :
             std::initializer_list<uint16_t>{0x0011, 0x0130, 0x0104, 0x0101}) {
            const auto value = static_cast<uint8_t>(word);
            twin_.access(Kind::port_out, static_cast<uint16_t>(base + (word >> 8)),
                         std::as_bytes(std::span(&value, 1)), 1);
        }
    }
}

void Guest::put_descriptor() {
    const size_t queue = input_.below(kQueues + 1);
    const uint64_t table = queue < kQueues ? ring(queue) : kTables;
    const uint64_t at = table + 16 * input_.take<uint8_t>();
    const auto mode = input_.take<uint8_t>();
    uint64_t address = kBuffers + input_.take<uint16_t>();
    if ((mode & 0x30) == 0x10) address = kTables;
    if ((mode & 0x30) == 0x20)
        address = ring(input_.below(kQueues)) + input_.take<uint16_t>() % 8192;
    if ((mode & 0xc0) == 0xc0) address = input_.take<uint64_t>();
    store(at, address);
    store<uint32_t>(at + 8,
                    (mode & 8) != 0 ? input_.take<uint32_t>() : input_.take<uint8_t>() * 16);
    store<uint16_t>(at + 12, mode & 7);
    store<uint16_t>(at + 14, input_.take<uint8_t>());
}

// A chain of good descriptors, with lengths from the input; offered at once.
void Guest::put_chain() {
    const size_t queue = input_.below(kQueues);
    const auto head = static_cast<uint16_t>(input_.take<uint8_t>() % sizes_[queue]);
    const size_t count = 1 + input_.below(6);
    const size_t readable = input_.below(count + 1);
    for (size_t i = 0; i < count; ++i) {
        const auto index = static_cast<uint16_t>((head + i) % sizes_[queue]);
        const auto next = static_cast<uint16_t>((index + 1) % sizes_[queue]);
        const uint64_t at = ring(queue) + 16u * index;
        store<uint64_t>(at, kBuffers + input_.take<uint8_t>() * 64u);
        store<uint32_t>(at + 8, input_.take<uint16_t>() % 2048);
        const unsigned flags = (i + 1 < count ? 1 : 0) | (i >= readable ? 2 : 0);
        store(at + 12, static_cast<uint16_t>(flags));
        store(at + 14, next);
    }
    offer(queue, head);
}

void Guest::offer(size_t queue, uint16_t head) {
    store(ring(queue) + kAvailable + 4 + 2u * (next_[queue] % sizes_[queue]), head);
    store(ring(queue) + kAvailable + 2, ++next_[queue]);
}

// Header, data and status as Linux sends them, on disk 0 or 1.
void Guest::disk_request() {
    constexpr std::array<uint32_t, 8> kTypes{0, 1, 4, 8, 11, 13, 0, 1};
    const size_t queue = input_.below(Twin::kDrives);
    const auto slot = static_cast<uint16_t>(3u * input_.below(16));
    const uint32_t type = kTypes[input_.below(kTypes.size())];
    const uint64_t sector = input_.take<uint8_t>();
    const uint32_t sectors = 1 + static_cast<uint32_t>(input_.below(16));
    const bool is_range = type == 11 || type == 13;
    const uint64_t header = kBuffers + 0x100u * slot;
    const uint64_t data = header + 0x80;
    store(header, type);
    store(header + 8, sector);
    if (is_range) {
        store(data, sector);
        store(data + 8, sectors);
        store(data + 12, uint32_t{0});
    }
    const uint32_t bytes = is_range ? 16 : type == 4 ? 0 : type == 8 ? 20 : sectors * 512;
    const bool reads = type == 0 || type == 8;
    const uint64_t table = ring(queue) + 16u * slot;
    const std::array<uint64_t, 3> at{header, data, header + 0x40};
    const std::array<uint32_t, 3> length{16, bytes, 1};
    const std::array<uint16_t, 3> flags{1, static_cast<uint16_t>(reads ? 3 : 1), 2};
    for (uint16_t i = 0; i < 3; ++i) {
        store(table + 16u * i, at[i]);
        store(table + 16u * i + 8, length[i]);
        store(table + 16u * i + 12, flags[i]);
        store(table + 16u * i + 14, static_cast<uint16_t>(slot + i + 1));
    }
    offer(queue, slot);
}

void Guest::event() {
    switch (input_.below(8)) {
        case 0:
            return twin_.timer_tick();
        case 1: {
            const std::vector<std::byte> bytes(input_.take<uint16_t>() % 1600, std::byte{0x5a});
            return twin_.frame(bytes);
        }
        case 2:
            return twin_.console_input(input_.bytes(input_.below(32)));
        case 3:
            return twin_.complete_unknown(static_cast<uint32_t>(input_.below(Twin::kDrives)),
                                          input_.take<uint8_t>());
        case 4:
            return twin_.acknowledge_interrupt();
        default: {
            const size_t index = input_.take<uint8_t>();
            const size_t status = input_.below(8);
            return twin_.complete(index, status < 6 ? vmm::BlockStatus::ok
                                                    : static_cast<vmm::BlockStatus>(status - 5));
        }
    }
}

void Guest::write_memory() {
    const uint64_t at = input_.take<uint32_t>() % Twin::kRamBytes;
    twin_.guest_write(at, input_.bytes(input_.below(64)));
}

void Guest::step() {
    switch (input_.below(16)) {
        case 0:
        case 1:
            return port();
        case 2:
        case 3:
            return mmio();
        case 4:
            return start_device();
        case 5:
            return start_interrupts();
        case 6:
            return put_descriptor();
        case 7:
            return put_chain();
        case 8:
            return disk_request();
        case 9: {
            const size_t queue = input_.below(kQueues);
            return offer(queue, input_.take<uint8_t>());
        }
        case 10:
        case 11: {
            const size_t queue = input_.below(kQueues);
            return set_register(device_of(queue), 0x50, queue == 3 ? 1 : 0);
        }
        case 12:
            return event();
        case 13:
            return write_memory();
        case 14:
            return twin_.migrate();
        default:
            if (input_.below(2) == 0) return twin_.halt();
            return twin_.msr(input_.below(2) == 0 ? Kind::msr_read : Kind::msr_write,
                             input_.below(2) == 0 ? 0x10 : 0x4b564d00);
    }
}

}  // namespace

void play(ByteSource& input, Twin& twin) {
    Guest guest(input, twin);
    for (int i = 0; i < kStepsMax && !input.empty(); ++i) guest.step();
    twin.finish();
}

}  // namespace antipode::fuzz
