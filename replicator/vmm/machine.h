// Machine: all devices of a VM as one deterministic state machine.
//
// Values in: the guest's accesses (emulate), logged events (the other verbs). Values out: outputs
// and disk requests, collected until taken; the interrupt request to the CPU. It does no I/O, has
// no thread and reads no clock but through InputSource, so that the same inputs give the same
// machine at both sites.
//
// With interrupt controllers in the kernel (checkpoint mode) its own have no part: changes of lines
// go to route_lines().
//
// vCPU thread only, or under a lock where there are several.
//
// INVARIANTS
//   - Interrupt lines are updated before each verb returns; interrupt_pending() is current.
//   - Outputs are in the order the guest made them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "replicator/vmm/config.h"
#include "replicator/vmm/devices/pic/i8259.h"
#include "replicator/vmm/devices/pit/i8254.h"
#include "replicator/vmm/devices/rtc/cmos.h"
#include "replicator/vmm/devices/uart/uart16550.h"
#include "replicator/vmm/devices/virtio_block/block_device.h"
#include "replicator/vmm/devices/virtio_net/net_device.h"
#include "replicator/vmm/devices/virtio_rng/rng_device.h"
#include "replicator/vmm/guest_memory.h"
#include "replicator/vmm/inputs.h"
#include "replicator/vmm/layout.h"
#include "replicator/vmm/vcpu.h"

namespace antipode::vmm {

// What the outside world can see.
struct Output {
    enum class Kind : uint8_t { console = 1, frame = 2 };
    Kind kind = Kind::console;
    uint32_t device = 0;  // network interface, from 0
    std::vector<std::byte> bytes;
};

class Machine {
  public:
    enum class Condition : uint8_t { running, reset_requested };
    // Console bytes are collected into one output until a line ends or this many are there.
    static constexpr size_t kConsoleBatchBytes = 256;

    // `drive_bytes`: capacity of each drive of the configuration, in order.
    Machine(const VmConfig& config, const std::vector<uint64_t>& drive_bytes, GuestMemory& memory);

    // `level` of line `number` of the i8259 pair has changed.
    using LineSink = std::function<void(uint8_t number, bool level)>;
    void route_lines(LineSink sink) { line_sink_ = std::move(sink); }
    // After load(): says the level of every line that is high.
    void repeat_lines();

    // Carries out the access that stopped the vCPU and fills in what a read returns.
    void emulate(const Exit& exit, InputSource& inputs);
    void emulate(const Exit& exit, InputSource& inputs, Vcpu&) { emulate(exit, inputs); }

    // Events.
    void timer_tick();
    void complete_block(uint32_t drive, uint64_t number, BlockStatus status,
                        std::span<const std::byte> data);
    void receive_frame(uint32_t interface, std::span<const std::byte> frame);
    size_t console_input(std::span<const std::byte> data);
    // False: the guest has not read its input yet, try again later.
    bool console_break();

    // The guest waits (HLT) or is about to: whatever console text is there becomes an output.
    void flush_console();

    bool interrupt_pending() const { return pic_.interrupt_pending(); }
    uint8_t acknowledge_interrupt() { return pic_.acknowledge(); }
    Condition condition() const { return condition_; }

    bool has_outputs() const { return !outputs_.empty(); }
    std::vector<Output> take_outputs() { return std::exchange(outputs_, {}); }
    std::vector<BlockRequest> take_block_requests();
    std::vector<BlockRequest> reissue_block_requests() const;

    I8254::Schedule timer_schedule() const { return pit_.schedule(); }
    // The last tick has not been acknowledged yet: another one now would merge with it.
    bool timer_pending() const { return pic_.line_requested(layout::kIrqPit); }
    bool can_receive_frame(uint32_t interface);
    size_t drive_count() const { return drives_.size(); }
    uint64_t drive_bytes(size_t index) const { return drives_[index]->capacity_bytes(); }
    size_t interface_count() const { return interfaces_.size(); }
    const VirtioNet& interface(size_t index) const { return *interfaces_[index]; }
    bool block_in_flight() const;

    // " virtio_mmio.device=512@0xd0000000:5 ..." for the kernel command line.
    std::string command_line_suffix() const;

    void save(StateWriter& out) const;
    Result<void> load(StateReader& in);

  private:
    void emulate_port(const Exit& exit, InputSource& inputs);
    void emulate_mmio(const Exit& exit, InputSource& inputs);
    void port_write(uint16_t port, uint8_t value);
    uint8_t port_read(uint16_t port, InputSource& inputs);
    static void emulate_msr(const Exit& exit);
    void collect_outputs();
    void update_lines();
    void set_line(uint8_t number, bool level);
    VirtioMmioDevice* device_at(uint64_t address);

    GuestMemory& memory_;
    I8259Pair pic_;
    I8254 pit_;
    Uart16550 uart_;
    CmosRtc rtc_;
    std::vector<std::unique_ptr<VirtioBlock>> drives_;
    std::vector<std::unique_ptr<VirtioNet>> interfaces_;
    std::unique_ptr<VirtioRng> rng_;         // if the VM has one
    std::vector<VirtioMmioDevice*> virtio_;  // drives, interfaces, entropy: by address
    std::vector<Output> outputs_;
    Condition condition_ = Condition::running;
    LineSink line_sink_;
    uint16_t lines_high_ = 0;  // with a line sink: what it was told
};

}  // namespace antipode::vmm
