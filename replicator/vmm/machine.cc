#include "replicator/vmm/machine.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "common/base/check.h"
#include "replicator/vmm/layout.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kLocalApic = 0xfee00000;
constexpr uint64_t kLocalApicBytes = 0x1000;

bool in(uint64_t value, uint64_t first, uint64_t count) {
    return value >= first && value - first < count;
}

bool is_pic(uint16_t port) {
    return in(port, layout::kPortPicPrimary, 2) || in(port, layout::kPortPicSecondary, 2) ||
           in(port, layout::kPortPicEdgeLevel, 2);
}

}  // namespace

Machine::Machine(const VmConfig& config, const std::vector<uint64_t>& drive_bytes,
                 GuestMemory& memory)
    : memory_(memory) {
    FT_CHECK(drive_bytes.size() == config.drives.size(), "{} sizes for {} drives",
             drive_bytes.size(), config.drives.size());
    for (size_t i = 0; i < config.drives.size(); ++i) {
        const auto& drive = config.drives[i];
        const auto access =
            drive.is_read_only ? VirtioBlock::Access::read_only : VirtioBlock::Access::read_write;
        drives_.push_back(std::make_unique<VirtioBlock>(static_cast<uint32_t>(i), drive.drive_id,
                                                        drive_bytes[i], access));
        virtio_.push_back(drives_.back().get());
    }
    for (const auto& network : config.networks) {
        interfaces_.push_back(std::make_unique<VirtioNet>(network.iface_id, network.guest_mac));
        virtio_.push_back(interfaces_.back().get());
    }
    if (config.has_entropy) {
        rng_ = std::make_unique<VirtioRng>();
        virtio_.push_back(rng_.get());
    }
    FT_CHECK(virtio_.size() <= layout::kVirtioIrqs.size(), "{} virtio devices", virtio_.size());
}

std::string Machine::command_line_suffix() const {
    std::string text;
    for (size_t i = 0; i < virtio_.size(); ++i) {
        text +=
            fmt::format(" virtio_mmio.device=512@{:#x}:{}",
                        layout::kVirtioMmio + i * layout::kVirtioMmioBytes, layout::kVirtioIrqs[i]);
    }
    return text;
}

void Machine::emulate(const Exit& exit, InputSource& inputs) {
    switch (exit.kind) {
        case Exit::Kind::port_out:
        case Exit::Kind::port_in:
            emulate_port(exit, inputs);
            break;
        case Exit::Kind::mmio_write:
        case Exit::Kind::mmio_read:
            emulate_mmio(exit, inputs);
            break;
        case Exit::Kind::msr_read:
        case Exit::Kind::msr_write:
            emulate_msr(exit);
            break;
        case Exit::Kind::halt:
            flush_console();
            break;
        case Exit::Kind::kicked:
        case Exit::Kind::stepped:
        case Exit::Kind::shutdown:
        case Exit::Kind::failure:
            break;
    }
    collect_outputs();
    update_lines();
}

// The filtered MSRs read as zero and take any write: the guest has no TSC that it could set, and no
// kvmclock. KVM's own do not exist.
void Machine::emulate_msr(const Exit& exit) {
    constexpr uint64_t kKvmMsrs = 0x4b564d00;
    if (exit.kind == Exit::Kind::msr_read) {
        std::fill(exit.data.begin(), exit.data.end(), std::byte{0});
    }
    *exit.refused = exit.address >= kKvmMsrs ? 1 : 0;
}

void Machine::emulate_port(const Exit& exit, InputSource& inputs) {
    const auto port = static_cast<uint16_t>(exit.address);
    for (uint32_t i = 0; i < exit.count; ++i) {
        const auto item = exit.data.subspan(static_cast<size_t>(i) * exit.size, exit.size);
        if (exit.kind == Exit::Kind::port_out) {
            for (size_t b = 0; b < item.size(); ++b) {
                port_write(static_cast<uint16_t>(port + b), static_cast<uint8_t>(item[b]));
            }
            continue;
        }
        if (port == layout::kPortPmTimer && exit.size == 4) {
            const auto value = static_cast<uint32_t>(inputs.read(InputKind::pm_timer) & 0xffffff);
            std::memcpy(item.data(), &value, sizeof value);
            continue;
        }
        for (size_t b = 0; b < item.size(); ++b) {
            item[b] = static_cast<std::byte>(port_read(static_cast<uint16_t>(port + b), inputs));
        }
    }
}

void Machine::port_write(uint16_t port, uint8_t value) {
    if (is_pic(port)) {
        pic_.write(port, value);
    } else if (in(port, layout::kPortPitChannel0, 4)) {
        pit_.write(port, value);
    } else if (in(port, layout::kPortUart, 8)) {
        uart_.write(port - layout::kPortUart, value);
    } else if (port == layout::kPortCmosIndex || port == layout::kPortCmosData) {
        rtc_.write(port, value);
    } else if (port == layout::kPortSystemControlB) {
        pit_.write_system_control_b(value);
    } else if (port == layout::kPortKeyboardCommand && value == layout::kKeyboardReset) {
        condition_ = Condition::reset_requested;
    }
}

uint8_t Machine::port_read(uint16_t port, InputSource& inputs) {
    if (is_pic(port)) return pic_.read(port);
    if (in(port, layout::kPortPitChannel0, 4)) return pit_.read(port, inputs);
    if (in(port, layout::kPortUart, 8)) return uart_.read(port - layout::kPortUart);
    if (port == layout::kPortCmosIndex || port == layout::kPortCmosData) {
        return rtc_.read(port, inputs);
    }
    if (port == layout::kPortSystemControlB) return pit_.read_system_control_b();
    if (port == layout::kPortKeyboardCommand) return 0;
    return 0xff;  // nothing is there
}

VirtioMmioDevice* Machine::device_at(uint64_t address) {
    if (address < layout::kVirtioMmio) return nullptr;
    const uint64_t index = (address - layout::kVirtioMmio) / layout::kVirtioMmioBytes;
    return index < virtio_.size() ? virtio_[index] : nullptr;
}

void Machine::emulate_mmio(const Exit& exit, InputSource& inputs) {
    VirtioMmioDevice* device = device_at(exit.address);
    const uint64_t offset = exit.address % layout::kVirtioMmioBytes;
    if (exit.kind == Exit::Kind::mmio_read) {
        if (device != nullptr) return device->read(offset, exit.data);
        // No local APIC: a version register of all ones says so.
        const bool apic = in(exit.address, kLocalApic, kLocalApicBytes);
        std::fill(exit.data.begin(), exit.data.end(), apic ? std::byte{0xff} : std::byte{0});
    } else if (device != nullptr) {
        device->write(memory_, offset, exit.data);
        if (rng_) rng_->serve(memory_, inputs);
    }
}

void Machine::timer_tick() {
    if (!pit_.tick()) return;
    pic_.set_line(layout::kIrqPit, false);
    pic_.set_line(layout::kIrqPit, true);
}

void Machine::complete_block(uint32_t drive, uint64_t number, BlockStatus status,
                             std::span<const std::byte> data) {
    FT_CHECK(drive < drives_.size(), "drive {} of {}", drive, drives_.size());
    (void)drives_[drive]->complete(memory_, number, status, data);
    update_lines();
}

bool Machine::can_receive_frame(uint32_t interface) {
    return interface < interfaces_.size() && interfaces_[interface]->can_receive(memory_);
}

void Machine::receive_frame(uint32_t interface, std::span<const std::byte> frame) {
    FT_CHECK(interface < interfaces_.size(), "interface {} of {}", interface, interfaces_.size());
    (void)interfaces_[interface]->receive(memory_, frame);
    update_lines();
}

size_t Machine::console_input(std::span<const std::byte> data) {
    const size_t taken = uart_.receive(data);
    update_lines();
    return taken;
}

bool Machine::console_break() {
    const bool taken = uart_.receive_break();
    update_lines();
    return taken;
}

void Machine::flush_console() {
    if (uart_.has_output()) outputs_.push_back({Output::Kind::console, 0, uart_.take_output()});
}

void Machine::collect_outputs() {
    const auto text = uart_.output();
    if (!text.empty() && (text.size() >= kConsoleBatchBytes || text.back() == std::byte{'\n'})) {
        flush_console();
    }
    for (uint32_t i = 0; i < interfaces_.size(); ++i) {
        for (auto& frame : interfaces_[i]->take_frames()) {
            outputs_.push_back({Output::Kind::frame, i, std::move(frame)});
        }
    }
}

std::vector<BlockRequest> Machine::take_block_requests() {
    std::vector<BlockRequest> all;
    for (auto& drive : drives_) {
        auto requests = drive->take_requests();
        if (all.empty()) {
            all = std::move(requests);
        } else {
            std::move(requests.begin(), requests.end(), std::back_inserter(all));
        }
    }
    return all;
}

std::vector<BlockRequest> Machine::reissue_block_requests() const {
    std::vector<BlockRequest> all;
    for (const auto& drive : drives_) {
        auto requests = drive->reissue(memory_);
        std::move(requests.begin(), requests.end(), std::back_inserter(all));
    }
    return all;
}

bool Machine::block_in_flight() const {
    return std::any_of(drives_.begin(), drives_.end(),
                       [](const auto& drive) { return drive->in_flight() > 0; });
}

void Machine::update_lines() {
    set_line(layout::kIrqUart, uart_.interrupt_line());
    for (size_t i = 0; i < virtio_.size(); ++i) {
        set_line(layout::kVirtioIrqs[i], virtio_[i]->interrupt_line());
    }
}

void Machine::set_line(uint8_t number, bool level) {
    if (!line_sink_) return pic_.set_line(number, level);
    const auto bit = static_cast<uint16_t>(1u << number);
    if (((lines_high_ & bit) != 0) == level) return;
    lines_high_ ^= bit;
    line_sink_(number, level);
}

void Machine::repeat_lines() {
    update_lines();
    for (uint8_t number = 0; number < 16; ++number) {
        if ((lines_high_ >> number & 1) != 0) line_sink_(number, true);
    }
}

void Machine::save(StateWriter& out) const {
    pic_.save(out);
    pit_.save(out);
    uart_.save(out);
    rtc_.save(out);
    for (const auto* device : virtio_) device->save(out);
    out.put(condition_);
}

Result<void> Machine::load(StateReader& in) {
    pic_.load(in);
    pit_.load(in);
    uart_.load(in);
    rtc_.load(in);
    for (auto* device : virtio_) device->load(in, memory_);
    condition_ = in.get_at_most(Condition::reset_requested, "machine: condition is not known");
    if (!in.ok()) return fail(Errc::corrupt, "machine state: {}", in.problem());
    if (!in.at_end()) return fail(Errc::corrupt, "machine state has bytes behind its end");
    return {};
}

}  // namespace antipode::vmm
