// A guest that means harm: everything a driver must not do, one thing after the other.
//
// For each mode it brings the device up properly, misbehaves, gives the device time, and says what
// the device made of it. Then it resets the device and uses it as it should be used; a device that
// does not work then, is EXIT-FAILURE. A VMM that dies says nothing, which is what the test outside
// looks for.
//
// antipode.device=block   block or net
// antipode.mode=all       one mode by name, or all of them in order
// antipode.ticks=3        how long a device gets after each misdeed, in 1/100 s
//
// Console: `hostile: mode=NAME device=D status=0xS needs_reset=0|1 used=N`, then
// `hostile: alive mode=NAME device=D`. `hostile: note: ...` where the device was more trusting than
// it should.
#include <initializer_list>

#include "tests/guests/lib/block.h"
#include "tests/guests/lib/kernel.h"
#include "tests/guests/lib/net.h"

namespace antipode::guest {
namespace {

constexpr uint16_t kSize = 16;
constexpr uint64_t kBeyondMemory = 0x7fff00000000;
constexpr uint32_t kRunning =
    kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk;

// A device set up just far enough to be abused.
struct Victim {
    Registers registers;
    VirtioRings* rings;
    uint16_t queue;
    bool block;

    VirtioDescriptor& descriptor(uint16_t index) const { return rings->descriptors[index]; }
    void put(uint16_t index, uint64_t address, uint32_t bytes, uint16_t flags,
             uint16_t next) const {
        rings->descriptors[index] = {address, bytes, flags, next};
    }
    void offer(uint16_t head) const {
        rings->available.ring[rings->available.index % kSize] = head;
        asm volatile("" : : : "memory");
        rings->available.index = static_cast<uint16_t>(rings->available.index + 1);
        asm volatile("" : : : "memory");
    }
    void kick() const { registers.write(VirtioRegister::queue_notify, queue); }
    void offer_and_kick(uint16_t head) const {
        offer(head);
        kick();
    }
};

struct BlockHeader {
    uint32_t verb;
    uint32_t reserved;
    uint64_t sector;
};

VirtioRings g_rings;
BlockHeader g_header;
alignas(4096) uint8_t g_data[16384];
alignas(4096) VirtioDescriptor g_table[256];
uint8_t g_status;
BlockDisk g_disk;
NetCard g_net;
Text g_command_line;
uint64_t g_patience_ticks;

template <typename T>
uint64_t at(const T& what) {
    return reinterpret_cast<uint64_t>(&what);
}

// Three descriptors from 0 that are a good block write of 512 bytes, or a good frame; modes spoil
// them.
void put_good_chain(const Victim& victim) {
    g_header = {1, 0, 0};
    g_status = 0xff;
    victim.put(0, at(g_header), sizeof g_header, kDescriptorNext, 1);
    if (victim.block) {
        victim.put(1, at(g_data), 512, kDescriptorNext, 2);
        victim.put(2, at(g_status), 1, kDescriptorWrite, 0);
    } else {
        victim.put(1, at(g_data), 60, 0, 0);
    }
}

void descriptor_loop(const Victim& v) {
    put_good_chain(v);
    v.put(1, at(g_data), 512, kDescriptorNext, 0);
    v.offer_and_kick(0);
}

void descriptor_self_loop(const Victim& v) {
    v.put(0, at(g_header), sizeof g_header, kDescriptorNext, 0);
    v.offer_and_kick(0);
}

void address_beyond_memory(const Victim& v) {
    put_good_chain(v);
    v.descriptor(1).address = kBeyondMemory;
    v.offer_and_kick(0);
}

void header_beyond_memory(const Victim& v) {
    put_good_chain(v);
    v.descriptor(0).address = kBeyondMemory;
    v.offer_and_kick(0);
}

void address_wraps(const Victim& v) {
    put_good_chain(v);
    v.put(1, ~uint64_t{0} - 8, 4096, kDescriptorNext, 2);
    v.offer_and_kick(0);
}

void address_in_device(const Victim& v) {
    put_good_chain(v);
    v.descriptor(1).address = v.registers.base();
    v.offer_and_kick(0);
}

void zero_lengths(const Victim& v) {
    put_good_chain(v);
    for (uint16_t i = 0; i < 3; ++i) {
        v.descriptor(i).bytes = 0;
    }
    v.offer_and_kick(0);
}

void huge_length(const Victim& v) {
    put_good_chain(v);
    v.descriptor(1).bytes = 0xffffffff;
    v.offer_and_kick(0);
}

// Each within memory and allowed alone; together more than any request may be.
void huge_sum(const Victim& v) {
    for (uint16_t i = 0; i < kSize; ++i) {
        v.put(i, 0x100000, 8 << 20, kDescriptorNext, static_cast<uint16_t>(i + 1));
    }
    v.put(kSize - 1, at(g_status), 1, kDescriptorWrite, 0);
    v.offer_and_kick(0);
}

void next_beyond_queue(const Victim& v) {
    put_good_chain(v);
    v.descriptor(0).next = 0xffff;
    v.offer_and_kick(0);
}

void head_beyond_queue(const Victim& v) {
    put_good_chain(v);
    v.offer_and_kick(0xfffe);
}

void available_jump(const Victim& v) {
    put_good_chain(v);
    v.rings->available.index = 0x8000;
    v.kick();
}

void available_backwards(const Victim& v) {
    put_good_chain(v);
    v.offer_and_kick(0);
    v.rings->available.index = 0;
    v.kick();
}

void same_head_many_times(const Victim& v) {
    put_good_chain(v);
    for (uint16_t i = 0; i < kSize; ++i) {
        v.offer(0);
    }
    v.kick();
}

void written_before_read(const Victim& v) {
    put_good_chain(v);
    v.put(0, at(g_status), 1, kDescriptorNext | kDescriptorWrite, 1);
    v.put(1, at(g_header), sizeof g_header, 0, 0);
    v.offer_and_kick(0);
}

void nothing_writable(const Victim& v) {
    put_good_chain(v);
    v.put(1, at(g_data), 512, 0, 0);
    v.offer_and_kick(0);
}

void everything_writable(const Victim& v) {
    put_good_chain(v);
    for (uint16_t i = 0; i < 3; ++i) {
        v.descriptor(i).flags = static_cast<uint16_t>(v.descriptor(i).flags | kDescriptorWrite);
    }
    v.offer_and_kick(0);
}

void short_header(const Victim& v) {
    put_good_chain(v);
    v.descriptor(0).bytes = 3;
    v.offer_and_kick(0);
}

void odd_data_length(const Victim& v) {
    put_good_chain(v);
    v.descriptor(1).bytes = 511;
    v.offer_and_kick(0);
}

void unknown_verb(const Victim& v) {
    put_good_chain(v);
    g_header.verb = 0xdead;
    v.offer_and_kick(0);
}

void sector_beyond_disk(const Victim& v) {
    put_good_chain(v);
    g_header.sector = uint64_t{1} << 60;
    v.offer_and_kick(0);
}

void sector_wraps(const Victim& v) {
    put_good_chain(v);
    g_header.sector = ~uint64_t{0} / 512;
    v.offer_and_kick(0);
}

// The device is told to write its answer over the rings that it is working with.
void answer_over_rings(const Victim& v) {
    put_good_chain(v);
    g_header.verb = 0;
    v.put(1, at(v.rings->available), 512, kDescriptorNext | kDescriptorWrite, 2);
    v.put(2, at(v.rings->used.index), 1, kDescriptorWrite, 0);
    v.offer_and_kick(0);
}

void put_indirect(const Victim& v, uint64_t table, uint32_t bytes, uint16_t more_flags) {
    v.put(0, table, bytes, static_cast<uint16_t>(kDescriptorIndirect | more_flags), 1);
    v.put(1, at(g_status), 1, kDescriptorWrite, 0);
    v.offer_and_kick(0);
}

void indirect_huge(const Victim& v) {
    for (VirtioDescriptor& each : g_table) {
        each = {at(g_data), 16, kDescriptorNext, 1};
    }
    put_indirect(v, at(g_table), 16 * 0x10000, 0);
}

void indirect_loop(const Victim& v) {
    g_table[0] = {at(g_header), sizeof g_header, kDescriptorNext, 1};
    g_table[1] = {at(g_data), 512, kDescriptorNext, 0};
    put_indirect(v, at(g_table), 32, 0);
}

void indirect_nested(const Victim& v) {
    g_table[0] = {at(g_table), 32, kDescriptorIndirect, 0};
    put_indirect(v, at(g_table), 32, 0);
}

void indirect_odd_length(const Victim& v) {
    put_indirect(v, at(g_table), 17, 0);
}

void indirect_empty(const Victim& v) {
    put_indirect(v, at(g_table), 0, 0);
}

void indirect_with_next(const Victim& v) {
    g_table[0] = {at(g_header), sizeof g_header, 0, 0};
    put_indirect(v, at(g_table), 16, kDescriptorNext);
}

void indirect_beyond_memory(const Victim& v) {
    put_indirect(v, kBeyondMemory, 160, 0);
}

void set_queue(const Victim& v, uint32_t size, uint64_t descriptors, uint64_t available,
               uint64_t used) {
    v.registers.write(VirtioRegister::queue_select, v.queue);
    v.registers.write(VirtioRegister::queue_ready, 0);
    v.registers.write(VirtioRegister::queue_size, size);
    v.registers.write_queue_address(VirtioRegister::queue_descriptors_low,
                                    reinterpret_cast<void*>(descriptors));
    v.registers.write_queue_address(VirtioRegister::queue_driver_low,
                                    reinterpret_cast<void*>(available));
    v.registers.write_queue_address(VirtioRegister::queue_device_low,
                                    reinterpret_cast<void*>(used));
    v.registers.write(VirtioRegister::queue_ready, 1);
    v.offer_and_kick(0);
}

void queue_sizes(const Victim& v) {
    const uint64_t descriptors = at(v.rings->descriptors);
    put_good_chain(v);
    for (const uint32_t size : {0u, 3u, 0x8000u, 0x10000u, 0xffffffffu}) {
        set_queue(v, size, descriptors, at(v.rings->available), at(v.rings->used));
    }
}

void queue_beyond_memory(const Victim& v) {
    set_queue(v, kSize, kBeyondMemory, at(v.rings->available), at(v.rings->used));
}

void queue_unaligned(const Victim& v) {
    set_queue(v, kSize, at(v.rings->descriptors) + 1, at(v.rings->available) + 1,
              at(v.rings->used) + 3);
}

void queue_wraps(const Victim& v) {
    set_queue(v, kSize, ~uint64_t{15}, ~uint64_t{1}, ~uint64_t{3});
}

// The rings in the last bytes that exist, and one ring on top of another.
void queue_overlaps(const Victim& v) {
    const uint64_t descriptors = at(v.rings->descriptors);
    set_queue(v, kSize, descriptors, descriptors, descriptors);
}

void queue_moved_while_ready(const Victim& v) {
    put_good_chain(v);
    v.registers.write_queue_address(VirtioRegister::queue_descriptors_low,
                                    reinterpret_cast<void*>(kBeyondMemory));
    v.registers.write(VirtioRegister::queue_size, 3);
    v.offer_and_kick(0);
}

void queue_stopped_while_busy(const Victim& v) {
    put_good_chain(v);
    v.offer_and_kick(0);
    v.registers.write(VirtioRegister::queue_ready, 0);
    v.offer_and_kick(0);
}

void reset_while_busy(const Victim& v) {
    put_good_chain(v);
    for (uint16_t i = 0; i < kSize; i = static_cast<uint16_t>(i + 3)) {
        v.offer(0);
    }
    v.kick();
    v.registers.write(VirtioRegister::status, 0);
    v.kick();
}

void wrong_features(const Victim& v) {
    v.registers.write(VirtioRegister::status, 0);
    v.registers.write(VirtioRegister::status, kStatusAcknowledge | kStatusDriver);
    v.registers.write_driver_features(~uint64_t{0});
    v.registers.write(VirtioRegister::status,
                      kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
    if ((v.registers.read(VirtioRegister::status) & kStatusFeaturesOk) != 0) {
        print("hostile: note: the device accepted features that it did not offer");
    }
    for (uint32_t select = 2; select < 40; select += 7) {
        v.registers.write(VirtioRegister::device_features_select, select);
        v.registers.write(VirtioRegister::driver_features_select, select);
        v.registers.write(VirtioRegister::driver_features,
                          v.registers.read(VirtioRegister::device_features) | 1);
    }
    v.offer_and_kick(0);
}

void no_handshake(const Victim& v) {
    v.registers.write(VirtioRegister::status, 0);
    v.registers.write(VirtioRegister::status, kStatusDriverOk);
    set_queue(v, kSize, at(v.rings->descriptors), at(v.rings->available), at(v.rings->used));
    v.registers.write(VirtioRegister::status, 0xffffffff);
    v.kick();
}

void features_after_start(const Victim& v) {
    v.registers.write_driver_features(0);
    put_good_chain(v);
    v.offer_and_kick(0);
}

void no_such_queue(const Victim& v) {
    for (const uint32_t queue : {2u, 7u, 0xffffu, 0xffffffffu}) {
        v.registers.write(VirtioRegister::queue_notify, queue);
        v.registers.write(VirtioRegister::queue_select, queue);
        if (v.registers.read(VirtioRegister::queue_size_max) != 0) {
            print("hostile: note: there is a queue that nobody needs");
        }
        v.registers.write(VirtioRegister::queue_size, kSize);
        v.registers.write(VirtioRegister::queue_ready, 1);
        v.registers.write(VirtioRegister::queue_notify, queue);
    }
}

// Every offset of the page, in every width; what is written is what breaks most when it is
// believed.
void odd_accesses(const Victim& v) {
    const uint64_t base = v.registers.base();
    for (uint32_t offset = 0; offset < 0x120; offset += 3) {
        uint64_t value = 0;
        asm volatile("movb (%1), %b0" : "=&r"(value) : "r"(base + offset) : "memory");
        asm volatile("movw (%1), %w0" : "=&r"(value) : "r"(base + offset) : "memory");
        asm volatile("movq (%1), %0" : "=&r"(value) : "r"(base + offset) : "memory");
    }
    for (uint32_t offset = 1; offset < 0x120; offset += 5) {
        const uint64_t value = 0xffffffffffffffff;
        asm volatile("movb %b0, (%1)" : : "r"(value), "r"(base + offset) : "memory");
        asm volatile("movw %w0, (%1)" : : "r"(value), "r"(base + offset) : "memory");
        asm volatile("movq %0, (%1)" : : "r"(value), "r"(base + offset) : "memory");
    }
    for (const uint32_t offset : {0x1ffu, 0x800u, 0xffcu}) {
        v.registers.write32(offset & ~3u, 0xffffffff);
        v.registers.read32(offset & ~3u);
    }
    if (v.registers.read(VirtioRegister::magic) != kVirtioMagic) {
        print("hostile: note: the magic value changed");
    }
}

void tiny_receive_buffers(const Victim& v) {
    for (uint16_t i = 0; i < kSize; ++i) {
        v.put(i, at(g_data), i, kDescriptorWrite, 0);
        v.offer(i);
    }
    v.kick();
}

void frame_too_long(const Victim& v) {
    put_good_chain(v);
    v.descriptor(1).bytes = 16000;
    v.offer_and_kick(0);
}

void frame_without_header(const Victim& v) {
    v.put(0, at(g_data), 5, 0, 0);
    v.offer_and_kick(0);
}

enum class For : uint8_t { both, block, net };

struct Mode {
    const char* name;
    For device;
    uint16_t net_queue;
    void (*run)(const Victim&);
};

constexpr Mode kModes[] = {
    {"descriptor_loop", For::both, 1, descriptor_loop},
    {"descriptor_self_loop", For::both, 1, descriptor_self_loop},
    {"address_beyond_memory", For::both, 1, address_beyond_memory},
    {"header_beyond_memory", For::both, 1, header_beyond_memory},
    {"address_wraps", For::both, 1, address_wraps},
    {"address_in_device", For::both, 1, address_in_device},
    {"zero_lengths", For::both, 1, zero_lengths},
    {"huge_length", For::both, 1, huge_length},
    {"huge_sum", For::both, 1, huge_sum},
    {"next_beyond_queue", For::both, 1, next_beyond_queue},
    {"head_beyond_queue", For::both, 1, head_beyond_queue},
    {"available_jump", For::both, 1, available_jump},
    {"available_backwards", For::both, 1, available_backwards},
    {"same_head_many_times", For::both, 1, same_head_many_times},
    {"written_before_read", For::both, 1, written_before_read},
    {"nothing_writable", For::both, 0, nothing_writable},
    {"everything_writable", For::both, 1, everything_writable},
    {"short_header", For::both, 1, short_header},
    {"odd_data_length", For::block, 0, odd_data_length},
    {"unknown_verb", For::block, 0, unknown_verb},
    {"sector_beyond_disk", For::block, 0, sector_beyond_disk},
    {"sector_wraps", For::block, 0, sector_wraps},
    {"answer_over_rings", For::block, 0, answer_over_rings},
    {"indirect_huge", For::both, 1, indirect_huge},
    {"indirect_loop", For::both, 1, indirect_loop},
    {"indirect_nested", For::both, 1, indirect_nested},
    {"indirect_odd_length", For::both, 1, indirect_odd_length},
    {"indirect_empty", For::both, 1, indirect_empty},
    {"indirect_with_next", For::both, 1, indirect_with_next},
    {"indirect_beyond_memory", For::both, 1, indirect_beyond_memory},
    {"queue_sizes", For::both, 1, queue_sizes},
    {"queue_beyond_memory", For::both, 1, queue_beyond_memory},
    {"queue_unaligned", For::both, 1, queue_unaligned},
    {"queue_wraps", For::both, 1, queue_wraps},
    {"queue_overlaps", For::both, 1, queue_overlaps},
    {"queue_moved_while_ready", For::both, 1, queue_moved_while_ready},
    {"queue_stopped_while_busy", For::both, 1, queue_stopped_while_busy},
    {"reset_while_busy", For::both, 1, reset_while_busy},
    {"wrong_features", For::both, 1, wrong_features},
    {"no_handshake", For::both, 1, no_handshake},
    {"features_after_start", For::both, 1, features_after_start},
    {"no_such_queue", For::both, 1, no_such_queue},
    {"odd_accesses", For::both, 1, odd_accesses},
    {"tiny_receive_buffers", For::net, 0, tiny_receive_buffers},
    {"frame_too_long", For::net, 1, frame_too_long},
    {"frame_without_header", For::net, 1, frame_without_header},
};

Victim set_up(const VirtioPlace& place, bool block, uint16_t queue) {
    const Victim victim{Registers(place.base), &g_rings, queue, block};
    const Registers& registers = victim.registers;
    memset(&g_rings, 0, sizeof g_rings);
    registers.write(VirtioRegister::status, 0);
    registers.write(VirtioRegister::status, kStatusAcknowledge | kStatusDriver);
    registers.write_driver_features(registers.device_features() &
                                    (kFeatureVersion1 | kFeatureIndirect));
    registers.write(VirtioRegister::status, kRunning & ~kStatusDriverOk);
    registers.write(VirtioRegister::queue_select, queue);
    registers.write(VirtioRegister::queue_size, kSize);
    registers.write_queue_address(VirtioRegister::queue_descriptors_low, g_rings.descriptors);
    registers.write_queue_address(VirtioRegister::queue_driver_low, &g_rings.available);
    registers.write_queue_address(VirtioRegister::queue_device_low, &g_rings.used);
    registers.write(VirtioRegister::queue_ready, 1);
    registers.write(VirtioRegister::status, kRunning);
    if (registers.read(VirtioRegister::status) != kRunning) {
        fail("hostile: the device does not start");
    }
    return victim;
}

void give_time() {
    const uint64_t until = ticks() + g_patience_ticks;
    while (ticks() < until) {
        wait();
    }
}

void prove_alive(bool block) {
    uint32_t lines = 0;
    if (block) {
        g_disk = BlockDisk{};
        g_disk.open(g_command_line);
        if (g_disk.run(BlockVerb::read, 0, g_data, 512, lines) != 0) {
            fail("hostile: the disk does not read any more");
        }
        return;
    }
    static uint8_t frame[60];
    g_net = NetCard{};
    g_net.open(g_command_line);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, g_net.mac(), 6);
    frame[12] = 0x88;  // an EtherType for experiments
    frame[13] = 0xb5;
    for (size_t i = 0; i < 2 * kNetBuffers; ++i) {
        g_net.send(frame, sizeof frame, lines);
    }
}

void run_mode(const Mode& mode, const VirtioPlace& place, bool block) {
    const char* device = block ? "block" : "net";
    const Victim victim = set_up(place, block, block ? uint16_t{0} : mode.net_queue);
    mode.run(victim);
    give_time();
    const uint32_t status = victim.registers.read(VirtioRegister::status);
    Line<160> line;
    line.text("hostile: mode=").text(mode.name).text(" device=").text(device);
    line.text(" status=").hex(status);
    line.text(" needs_reset=").number((status & kStatusNeedsReset) != 0 ? 1 : 0);
    line.text(" used=").number(g_rings.used.index);
    print(line);
    prove_alive(block);
    line.text("hostile: alive mode=").text(mode.name).text(" device=").text(device);
    print(line);
}

}  // namespace

[[noreturn]] void guest_main(Text command_line) {
    g_command_line = command_line;
    g_patience_ticks = option_number(command_line, "antipode.ticks", 3);
    Text device = text_of("block");
    Text wanted = text_of("all");
    option(command_line, "antipode.device", device);
    option(command_line, "antipode.mode", wanted);
    const bool block = device.is("block");
    VirtioPlace place{};
    if ((!block && !device.is("net")) ||
        !find_virtio(command_line, block ? kVirtioBlock : kVirtioNet, 0, place)) {
        fail("hostile: no such device");
    }
    start_timer(100);
    print("hostile: ready");
    bool any = false;
    for (const Mode& mode : kModes) {
        const bool fits = mode.device == For::both || (mode.device == For::block) == block;
        if (fits && (wanted.is("all") || wanted.is(mode.name))) {
            any = true;
            run_mode(mode, place, block);
        }
    }
    if (!any) {
        fail("hostile: no such mode for this device");
    }
    succeed();
}

}  // namespace antipode::guest
