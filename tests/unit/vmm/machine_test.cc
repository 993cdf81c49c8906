// The machine as a whole: which device answers where, what becomes an output, and that a machine is
// a function of what it was given.
#include "replicator/vmm/machine.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/guest_ring.h"
#include "tests/unit/vmm/machine_driver.h"
#include "tests/unit/vmm/saved_state.h"
#include "tests/unit/vmm/virtio_driver.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kRam = 4 << 20;
constexpr uint64_t kDisk = layout::kVirtioMmio;
constexpr uint64_t kNet = layout::kVirtioMmio + 2 * layout::kVirtioMmioBytes;

VmConfig two_drives_one_network() {
    VmConfig config;
    config.drives.push_back({"root", "", false, true});
    config.drives.push_back({"cd", "", true, false});
    config.networks.push_back({"eth0", "", {6, 0, 10, 0, 0, 1}});
    return config;
}

// A machine with its own memory, as one site has it.
struct Site {
    GuestMemory memory = test_memory(kRam);
    Machine machine{two_drives_one_network(), {1 << 20, 1 << 20}, memory};
    MachineDriver cpu{machine};

    void start_interrupts() {
        for (const uint16_t base : {uint16_t{0x20}, uint16_t{0xa0}}) {
            cpu.out8(base, 0x11);
            cpu.out8(static_cast<uint16_t>(base + 1), base == 0x20 ? 0x30 : 0x38);
            cpu.out8(static_cast<uint16_t>(base + 1), base == 0x20 ? 0x04 : 0x02);
            cpu.out8(static_cast<uint16_t>(base + 1), 0x01);
        }
    }
    void start_timer() {
        cpu.out8(0x43, 0x34);
        cpu.out8(0x40, 0x00);
        cpu.out8(0x40, 0x10);
    }
    void start_device(uint64_t device, std::initializer_list<const GuestRing*> rings) {
        cpu.mmio_write(device + kRegStatus, 0);
        cpu.mmio_write(device + kRegDriverFeaturesSelect, 1);
        cpu.mmio_write(device + kRegDriverFeatures, 1);  // VERSION_1
        cpu.mmio_write(device + kRegStatus, kFeaturesOk);
        uint32_t index = 0;
        for (const GuestRing* ring : rings) {
            cpu.mmio_write(device + kRegQueueSelect, index++);
            cpu.mmio_write(device + kRegQueueSize, ring->size());
            cpu.mmio_write(device + kRegQueueDescriptors,
                           static_cast<uint32_t>(ring->descriptors()));
            cpu.mmio_write(device + kRegQueueAvailable, static_cast<uint32_t>(ring->available()));
            cpu.mmio_write(device + kRegQueueUsed, static_cast<uint32_t>(ring->used()));
            cpu.mmio_write(device + kRegQueueReady, 1);
        }
        cpu.mmio_write(device + kRegStatus, kFeaturesOk | kDriverOk);
    }
    std::string console() {
        std::string text;
        for (const auto& output : machine.take_outputs()) {
            EXPECT_EQ(output.kind, Output::Kind::console);
            text += "[";
            for (const std::byte each : output.bytes) text.push_back(static_cast<char>(each));
            text += "]";
        }
        return text;
    }
    void print(std::string_view text) {
        for (const char each : text) cpu.out8(0x3f8, static_cast<uint8_t>(each));
    }
};

class MachineTest : public testing::Test {
  protected:
    Site site_;
    Machine& machine_ = site_.machine;
    MachineDriver& cpu_ = site_.cpu;
};

TEST_F(MachineTest, TheCommandLineNamesTheDevices) {
    EXPECT_EQ(machine_.command_line_suffix(),
              " virtio_mmio.device=512@0xd0000000:5 virtio_mmio.device=512@0xd0001000:10"
              " virtio_mmio.device=512@0xd0002000:11");
}

TEST_F(MachineTest, DevicesAnswerAtTheirAddresses) {
    EXPECT_EQ(cpu_.mmio_read(kDisk + kRegDeviceId), 2u);
    EXPECT_EQ(cpu_.mmio_read(kDisk + layout::kVirtioMmioBytes + kRegDeviceId), 2u);
    EXPECT_EQ(cpu_.mmio_read(kNet + kRegDeviceId), 1u);
    EXPECT_EQ(cpu_.mmio_read(kNet + layout::kVirtioMmioBytes + kRegMagic), 0u);
    EXPECT_EQ(cpu_.mmio_read(kDisk - 4), 0u);
    EXPECT_EQ(cpu_.mmio_read(UINT64_MAX & ~uint64_t{3}), 0u);
    EXPECT_EQ(cpu_.mmio_read(0xfee00030), 0xffffffffu);  // no local APIC
    const auto before = saved(machine_);
    for (const uint64_t address : {kDisk - 4, kNet + layout::kVirtioMmioBytes, uint64_t{0xfee000b0},
                                   uint64_t{kRam}, UINT64_MAX & ~uint64_t{3}}) {
        cpu_.mmio_write(address, 0xffffffff);
    }
    EXPECT_EQ(saved(machine_), before);
}

TEST_F(MachineTest, AccessesOfEverySizeEverywhere) {
    for (const uint8_t size : {uint8_t{1}, uint8_t{2}, uint8_t{4}, uint8_t{8}}) {
        for (uint64_t offset = 0; offset < layout::kVirtioMmioBytes; ++offset) {
            const auto data = cpu_.mmio_read_bytes(kDisk + offset, size);
            ASSERT_EQ(data.size(), size);
        }
    }
    for (uint32_t port = 0; port < 65536; ++port) {
        for (const uint8_t size : {uint8_t{1}, uint8_t{2}, uint8_t{4}}) {
            (void)cpu_.in_bytes(static_cast<uint16_t>(port), size);
        }
    }
}

TEST_F(MachineTest, PortsThatAreNotThereReadAsOnes) {
    for (const uint16_t port : {uint16_t{0x00}, uint16_t{0x60}, uint16_t{0x72}, uint16_t{0x80},
                                uint16_t{0x2f8}, uint16_t{0xcf8}, uint16_t{0xffff}}) {
        EXPECT_EQ(cpu_.in8(port), 0xff) << port;
    }
    EXPECT_EQ(cpu_.in8(0x64), 0);
}

TEST_F(MachineTest, AWideAccessIsItsBytes) {
    cpu_.out16(0x3f8 + 2, 0x03 << 8 | 0x01);  // FIFO control and line control
    EXPECT_EQ(cpu_.in8(0x3fb), 0x03);
    EXPECT_EQ(cpu_.in_bytes(0xffff, 2), std::vector<std::byte>(2, std::byte{0xff}));  // wraps
}

TEST_F(MachineTest, ARepeatedAccessIsItsItemsInOrder) {
    const std::string text = "hello\n";
    cpu_.out_bytes(0x3f8, std::as_bytes(std::span(text)), 1);
    EXPECT_EQ(site_.console(), "[hello\n]");
    (void)machine_.console_input(std::as_bytes(std::span("abc", 3)));
    const auto read = cpu_.in_bytes(0x3f8, 1, 4);
    EXPECT_EQ(read, (std::vector<std::byte>{std::byte{'a'}, std::byte{'b'}, std::byte{'c'},
                                            std::byte{0}}));
}

TEST_F(MachineTest, TheClockIsReadByFourBytesAndHas24Bits) {
    cpu_.inputs.values[InputKind::pm_timer] = 0x12345678;
    EXPECT_EQ(cpu_.in32(0x608), 0x345678u);
    EXPECT_EQ(cpu_.in_bytes(0x608, 4, 2).size(), 8u);
    EXPECT_EQ(cpu_.inputs.reads[InputKind::pm_timer], 3);
    EXPECT_EQ(cpu_.in8(0x608), 0xff);
    EXPECT_EQ(cpu_.inputs.reads[InputKind::pm_timer], 3);
}

TEST_F(MachineTest, ConsoleTextLeavesByTheLine) {
    site_.print("one\ntw");
    EXPECT_EQ(site_.console(), "[one\n]");
    EXPECT_FALSE(machine_.has_outputs());
    site_.print("o\n");
    EXPECT_EQ(site_.console(), "[two\n]");
}

TEST_F(MachineTest, ConsoleTextLeavesWhenTheGuestWaits) {
    site_.print("login: ");
    EXPECT_EQ(site_.console(), "");
    cpu_.halt();
    EXPECT_EQ(site_.console(), "[login: ]");
    cpu_.halt();
    EXPECT_EQ(site_.console(), "");
}

TEST_F(MachineTest, ConsoleTextLeavesWhenThereIsMuchOfIt) {
    site_.print(std::string(Machine::kConsoleBatchBytes - 1, 'x'));
    EXPECT_EQ(site_.console(), "");
    site_.print("y");
    EXPECT_EQ(site_.console().size(), Machine::kConsoleBatchBytes + 2);
}

TEST_F(MachineTest, OnlyTheResetCommandResets) {
    for (int value = 0; value < 256; ++value) {
        if (value != 0xfe) cpu_.out8(0x64, static_cast<uint8_t>(value));
    }
    EXPECT_EQ(machine_.condition(), Machine::Condition::running);
    cpu_.out8(0x64, 0xfe);
    EXPECT_EQ(machine_.condition(), Machine::Condition::reset_requested);
}

TEST_F(MachineTest, FilteredMsrsReadAsZeroAndKvmsDoNotExist) {
    uint64_t value = 0x1234;
    EXPECT_FALSE(cpu_.msr(Exit::Kind::msr_read, 0x10, value));
    EXPECT_EQ(value, 0u);
    value = 0x1234;
    EXPECT_FALSE(cpu_.msr(Exit::Kind::msr_write, 0x10, value));
    EXPECT_EQ(value, 0x1234u);
    for (const uint64_t number : {uint64_t{0x4b564d00}, uint64_t{0x4b564d07}}) {
        EXPECT_TRUE(cpu_.msr(Exit::Kind::msr_read, number, value));
        EXPECT_TRUE(cpu_.msr(Exit::Kind::msr_write, number, value));
    }
}

TEST_F(MachineTest, ATickComesAsAnInterrupt) {
    site_.start_interrupts();
    machine_.timer_tick();
    EXPECT_FALSE(machine_.interrupt_pending());  // the timer was not programmed
    site_.start_timer();
    machine_.timer_tick();
    EXPECT_TRUE(machine_.timer_pending());
    EXPECT_TRUE(machine_.interrupt_pending());
    EXPECT_EQ(machine_.acknowledge_interrupt(), 0x30);
    EXPECT_FALSE(machine_.timer_pending());
    machine_.timer_tick();
    EXPECT_FALSE(machine_.interrupt_pending());  // the last one is still in service
    cpu_.out8(0x20, 0x20);
    EXPECT_EQ(machine_.acknowledge_interrupt(), 0x30);
}

TEST_F(MachineTest, ConsoleInputInterrupts) {
    site_.start_interrupts();
    cpu_.out8(0x3fc, 0x08);
    cpu_.out8(0x3f9, 0x01);
    EXPECT_EQ(machine_.console_input(std::as_bytes(std::span("0123456789abcdefgh", 18))), 16u);
    EXPECT_TRUE(machine_.interrupt_pending());
    EXPECT_EQ(machine_.acknowledge_interrupt(), 0x34);
}

TEST_F(MachineTest, ADiskRequestGoesOutAndItsEndInterrupts) {
    site_.start_interrupts();
    GuestRing ring(site_.memory, 0x10000, 8);
    site_.start_device(kDisk, {&ring});
    site_.memory.store(GuestPhys(0x20000), uint32_t{0});
    ring.chain(0, {{0x20000, 16, 0, 0}, {0x30000, 512, kWrite, 0}, {0x20020, 1, kWrite, 0}});
    ring.offer(0);
    cpu_.mmio_write(kDisk + kRegQueueNotify, 0);
    EXPECT_TRUE(machine_.block_in_flight());
    const auto requests = machine_.take_block_requests();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].device, 0u);
    EXPECT_FALSE(machine_.interrupt_pending());
    machine_.complete_block(0, 1, BlockStatus::ok, std::vector<std::byte>(512, std::byte{7}));
    EXPECT_TRUE(machine_.interrupt_pending());
    EXPECT_EQ(machine_.acknowledge_interrupt(), 0x35);
    EXPECT_FALSE(machine_.block_in_flight());
    EXPECT_EQ(site_.memory.load<uint8_t>(GuestPhys(0x30000)), 7);
}

TEST_F(MachineTest, AFrameGoesOutAtItsExitAndOneComesIn) {
    site_.start_interrupts();
    GuestRing receive(site_.memory, 0x10000, 8);
    GuestRing transmit(site_.memory, 0x20000, 8);
    site_.start_device(kNet, {&receive, &transmit});
    transmit.chain(0, {{0x30000, 12 + 60, 0, 0}});
    transmit.offer(0);
    cpu_.mmio_write(kNet + kRegQueueNotify, 1);
    const auto outputs = machine_.take_outputs();
    ASSERT_EQ(outputs.size(), 1u);
    EXPECT_EQ(outputs[0].kind, Output::Kind::frame);
    EXPECT_EQ(outputs[0].bytes.size(), 60u);
    EXPECT_EQ(machine_.acknowledge_interrupt(), 0x3b);  // IRQ 11
    cpu_.out8(0xa0, 0x20);
    cpu_.out8(0x20, 0x20);
    cpu_.mmio_write(kNet + kRegInterruptAcknowledge, 1);
    EXPECT_FALSE(machine_.can_receive_frame(0));
    receive.chain(0, {{0x40000, 2000, kWrite, 0}});
    receive.offer(0);
    EXPECT_TRUE(machine_.can_receive_frame(0));
    EXPECT_FALSE(machine_.can_receive_frame(1));
    machine_.receive_frame(0, std::vector<std::byte>(60, std::byte{9}));
    EXPECT_EQ(machine_.acknowledge_interrupt(), 0x3b);
    EXPECT_EQ(site_.memory.load<uint8_t>(GuestPhys(0x40000 + 12)), 9);
}

TEST_F(MachineTest, RequestsOfAllDrivesAreIssuedAgain) {
    GuestRing ring(site_.memory, 0x10000, 8);
    GuestRing cd_ring(site_.memory, 0x20000, 8);
    site_.start_device(kDisk, {&ring});
    site_.start_device(kDisk + layout::kVirtioMmioBytes, {&cd_ring});
    for (auto* each : {&ring, &cd_ring}) {
        each->chain(0, {{0x30000, 16, 0, 0}, {0x40000, 513, kWrite, 0}});
        each->offer(0);
    }
    cpu_.mmio_write(kDisk + kRegQueueNotify, 0);
    cpu_.mmio_write(kDisk + layout::kVirtioMmioBytes + kRegQueueNotify, 0);
    EXPECT_EQ(machine_.take_block_requests().size(), 2u);
    EXPECT_TRUE(machine_.take_block_requests().empty());
    const auto again = machine_.reissue_block_requests();
    ASSERT_EQ(again.size(), 2u);
    EXPECT_EQ(again[0].device, 0u);
    EXPECT_EQ(again[1].device, 1u);
}

TEST_F(MachineTest, AFreshMachineAndItsCopyAreOne) {
    Site other;
    const auto state = saved(machine_);
    StateReader reader(state);
    ASSERT_TRUE(other.machine.load(reader));
    EXPECT_EQ(saved(other.machine), state);
}

TEST_F(MachineTest, AStateThatIsNotWholeIsRefusedWithItsReason) {
    site_.start_timer();
    site_.print("half a li");
    const auto state = saved(machine_);
    for (const size_t length : {size_t{0}, size_t{1}, state.size() / 2, state.size() - 1}) {
        Site other;
        const auto part = std::span<const std::byte>(state).first(length);
        StateReader reader(part);
        const auto loaded = other.machine.load(reader);
        ASSERT_FALSE(loaded) << length;
        EXPECT_EQ(loaded.error().code, Errc::corrupt);
        EXPECT_EQ(loaded.error().context, "machine state: is cut off");
    }
    auto longer = state;
    longer.push_back(std::byte{0});
    Site other;
    StateReader reader(longer);
    const auto loaded = other.machine.load(reader);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().context, "machine state has bytes behind its end");
    auto unknown = state;
    unknown.back() = std::byte{2};
    StateReader unknown_reader(unknown);
    const auto refused = other.machine.load(unknown_reader);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().context, "machine state: machine: condition is not known");
}

TEST_F(MachineTest, DamagedStatesAreRefusedOrTakenWhole) {
    GuestRing ring(site_.memory, 0x10000, 8);
    site_.start_interrupts();
    site_.start_timer();
    site_.start_device(kDisk, {&ring});
    ring.chain(0, {{0x20000, 16, 0, 0}, {0x30000, 513, kWrite, 0}});
    ring.offer(0);
    cpu_.mmio_write(kDisk + kRegQueueNotify, 0);
    (void)machine_.take_block_requests();
    const auto state = saved(machine_);
    Site other;
    for (size_t bit = 0; bit < state.size() * 8; ++bit) {
        auto changed = state;
        changed[bit / 8] ^= std::byte{1} << (bit % 8);
        StateReader reader(changed);
        if (other.machine.load(reader)) {
            ASSERT_EQ(saved(other.machine), changed) << bit;
        }
    }
}

}  // namespace
}  // namespace antipode::vmm
