// LoneVm: a VM that runs by itself: nobody follows it, no log is kept and every output leaves at
// once. The copies of drills are such VMs, and those that are run from a snapshot file.
//
// The thread of the io_context, but for the vCPU thread, which comes in through VcpuBridge.
//
//     prepare -> VmEngine::restore (by the caller) -> start
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/metrics.h"
#include "replicator/control/frame_counters.h"
#include "replicator/control/net_port.h"
#include "replicator/control/vcpu_bridge.h"
#include "replicator/replay/vm_engine.h"

namespace antipode::control {

class LoneVm {
  public:
    struct Hooks {
        std::function<void(std::span<const std::byte>)> on_console;
        std::function<void(const std::string&)> on_stopped;  // "reason: text"
    };

    LoneVm(boost::asio::io_context& context, Hooks hooks, std::shared_ptr<FrameCounters> frames);
    ~LoneVm() { stop(); }

    void prepare(std::unique_ptr<vmm::VirtualMachine> vm, vmm::ProtectionMode mode,
                 replay::DiskPort& disk);
    // One TAP an interface of the VM; without them its frames are counted and dropped.
    Result<void> open_ports(const std::vector<std::string>& taps,
                            const std::vector<vmm::NetworkConfig>& networks);
    void start(uint64_t guest_clock_ns);
    void stop();

    replay::VmEngine& engine() { return *engine_; }
    void emit(const vmm::Output& output);

  private:
    static constexpr size_t kBridgeEntries = 1 << 14;
    void wait_for_vcpu();
    void drain();

    boost::asio::io_context& context_;
    Hooks hooks_;
    std::shared_ptr<FrameCounters> frames_;
    Registry metrics_;
    VcpuBridge bridge_{kBridgeEntries};
    boost::asio::posix::stream_descriptor bridge_event_;
    std::unique_ptr<replay::VmEngine> engine_;
    std::vector<std::unique_ptr<NetPort>> ports_;
};

}  // namespace antipode::control
