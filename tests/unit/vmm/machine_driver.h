// MachineDriver: makes the exits that a guest's accesses would make, and hands them to a Machine.
#pragma once

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "replicator/vmm/machine.h"
#include "tests/unit/vmm/fixed_inputs.h"

namespace antipode::vmm {

class MachineDriver {
  public:
    explicit MachineDriver(Machine& machine) : machine_(machine) {}

    void out_bytes(uint16_t port, std::span<const std::byte> bytes, uint8_t size) {
        std::vector<std::byte> data(bytes.begin(), bytes.end());
        access(Exit::Kind::port_out, port, data, size);
    }
    void out8(uint16_t port, uint8_t value) {
        out_bytes(port, std::as_bytes(std::span(&value, 1)), 1);
    }
    void out16(uint16_t port, uint16_t value) {
        out_bytes(port, std::as_bytes(std::span(&value, 1)), 2);
    }
    std::vector<std::byte> in_bytes(uint16_t port, uint8_t size, uint32_t count = 1) {
        std::vector<std::byte> data(static_cast<size_t>(size) * count, std::byte{0x55});
        access(Exit::Kind::port_in, port, data, size);
        return data;
    }
    uint8_t in8(uint16_t port) { return static_cast<uint8_t>(in_bytes(port, 1)[0]); }
    uint32_t in32(uint16_t port) {
        uint32_t value = 0;
        std::memcpy(&value, in_bytes(port, 4).data(), sizeof value);
        return value;
    }
    void mmio_write(uint64_t address, uint32_t value) {
        std::array<std::byte, 4> data{};
        std::memcpy(data.data(), &value, sizeof value);
        access(Exit::Kind::mmio_write, address, data, 4);
    }
    std::vector<std::byte> mmio_read_bytes(uint64_t address, uint8_t size) {
        std::vector<std::byte> data(size, std::byte{0x55});
        access(Exit::Kind::mmio_read, address, data, size);
        return data;
    }
    uint32_t mmio_read(uint64_t address) {
        uint32_t value = 0;
        std::memcpy(&value, mmio_read_bytes(address, 4).data(), sizeof value);
        return value;
    }
    void access(Exit::Kind kind, uint64_t address, std::span<std::byte> data, uint8_t size) {
        Exit exit;
        exit.kind = kind;
        exit.address = address;
        exit.size = size;
        exit.count = static_cast<uint32_t>(data.size() / size);
        exit.data = data;
        machine_.emulate(exit, inputs);
    }
    // True if it was refused.
    bool msr(Exit::Kind kind, uint64_t number, uint64_t& value) {
        uint8_t refused = 0x55;
        Exit exit;
        exit.kind = kind;
        exit.address = number;
        exit.size = 8;
        exit.count = 1;
        exit.data = std::as_writable_bytes(std::span(&value, 1));
        exit.refused = &refused;
        machine_.emulate(exit, inputs);
        return refused == 1;
    }
    void halt() {
        Exit exit;
        exit.kind = Exit::Kind::halt;
        machine_.emulate(exit, inputs);
    }

    FixedInputs inputs;

  private:
    Machine& machine_;
};

}  // namespace antipode::vmm
