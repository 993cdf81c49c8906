#include "replicator/control/lone_vm.h"

#include <unistd.h>

#include "replicator/checkpoint/checkpoint_engine.h"
#include "replicator/replay/engine.h"

namespace antipode::control {

LoneVm::LoneVm(boost::asio::io_context& context, Hooks hooks, std::shared_ptr<FrameCounters> frames)
    : context_(context),
      hooks_(std::move(hooks)),
      frames_(std::move(frames)),
      bridge_event_(context) {}

void LoneVm::prepare(std::unique_ptr<vmm::VirtualMachine> vm, vmm::ProtectionMode mode,
                     replay::DiskPort& disk) {
    if (mode == vmm::ProtectionMode::checkpoint) {
        checkpoint::CheckpointOptions options;
        options.reset = checkpoint::CheckpointOptions::Reset::reboots;
        engine_ = std::make_unique<checkpoint::CheckpointEngine>(std::move(vm), options, bridge_,
                                                                 disk, bridge_, metrics_);
        return;
    }
    replay::EngineOptions options;
    options.digest_interval = Duration::zero();
    options.reset = replay::EngineOptions::Reset::reboots;
    engine_ =
        std::make_unique<replay::Engine>(std::move(vm), options, bridge_, disk, bridge_, metrics_);
}

Result<void> LoneVm::open_ports(const std::vector<std::string>& taps,
                                const std::vector<vmm::NetworkConfig>& networks) {
    for (size_t i = 0; i < taps.size(); ++i) {
        const auto on_frame = [this, i](std::span<const std::byte> frame) {
            ++frames_->received;
            (void)engine_->frame_received(static_cast<uint32_t>(i), {frame.begin(), frame.end()});
        };
        FT_TRY(auto port, NetPort::open(context_, taps[i], on_frame, metrics_));
        port->set_state(NetPort::State::open);
        port->announce(networks[i].guest_mac);
        ports_.push_back(std::move(port));
    }
    return {};
}

void LoneVm::start(uint64_t guest_clock_ns) {
    bridge_event_.assign(dup(bridge_.event_fd()));
    engine_->start_recording(guest_clock_ns);
    wait_for_vcpu();
}

void LoneVm::stop() {
    if (engine_) engine_->stop();
    boost::system::error_code ignored;
    bridge_event_.close(ignored);
    ports_.clear();
}

void LoneVm::wait_for_vcpu() {
    bridge_event_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                             [this](const boost::system::error_code& error) {
                                 if (error) return;
                                 bridge_.clear_event();
                                 drain();
                                 wait_for_vcpu();
                             });
}

void LoneVm::drain() {
    while (auto item = bridge_.take(true)) {
        if (auto* step = std::get_if<replay::Recorded>(&*item)) {
            if (step->output_number != OutputNumber()) emit(step->output);
        } else if (const auto* stopped = std::get_if<VcpuBridge::Stopped>(&*item)) {
            if (stopped->reason == replay::StopReason::stopped) continue;
            hooks_.on_stopped(fmt::format("{}: {}", to_string(stopped->reason), stopped->text));
        }
    }
    engine_->wake();
}

void LoneVm::emit(const vmm::Output& output) {
    if (output.kind == vmm::Output::Kind::console) return hooks_.on_console(output.bytes);
    ++frames_->sent;
    if (output.device < ports_.size()) ports_[output.device]->send(output.bytes);
}

}  // namespace antipode::control
