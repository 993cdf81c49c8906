// What recording adds to the cost of a guest exit. The same guest (ring 3, one port write after a
// few instructions) runs in turns: with the bare loop KVM_RUN + emulation, and under the recording
// engine whose log is taken by another thread. Both in one run, medians of turns.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <fmt/format.h>
#include <mutex>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "replicator/control/vcpu_bridge.h"
#include "replicator/replay/engine.h"

namespace antipode {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kExitsPerTurn = 40'000;
constexpr int kTurns = 7;

class ZeroInputs final : public vmm::InputSource {
  public:
    uint64_t read(vmm::InputKind) override { return 0; }
};

class NoDisk final : public replay::DiskPort {
  public:
    void submit(vmm::BlockRequest&&) override {}
};

Result<std::unique_ptr<vmm::VirtualMachine>> build(const std::string& kernel) {
    FT_TRY(const auto kvm, vmm::Kvm::open());
    vmm::VmConfig config;
    config.kernel_image_path = kernel;
    config.boot_args = "antipode.steps=1 antipode.every=1000000000 antipode.hz=0";
    config.mem_size_mib = 32;
    return vmm::build_vm(kvm, config, {});
}

double microseconds_an_exit(Clock::duration time) {
    return std::chrono::duration<double, std::micro>(time).count() / double{kExitsPerTurn};
}

Result<double> bare_turn(const std::string& kernel) {
    FT_TRY(auto vm, build(kernel));
    ZeroInputs inputs;
    Clock::time_point begin;
    for (uint64_t exits = 0; exits < 2 * kExitsPerTurn;) {
        const vmm::Exit exit = vm->vcpu.run();
        if (exit.kind == vmm::Exit::Kind::kicked) continue;
        if (!exit.is_counted()) return fail(Errc::io, "{}", exit.detail);
        vm->machine->emulate(exit, inputs, vm->vcpu);
        if (++exits == kExitsPerTurn) begin = Clock::now();
    }
    return microseconds_an_exit(Clock::now() - begin);
}

Result<double> recorded_turn(const std::string& kernel) {
    FT_TRY(auto vm, build(kernel));
    Registry metrics;
    NoDisk disk;
    control::VcpuBridge bridge(1 << 16);
    replay::EngineOptions options;
    options.digest_interval = Duration::zero();
    replay::Engine engine(std::move(vm), options, bridge, disk, bridge, metrics);
    Clock::time_point begin;
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<double> result;
    engine.observe_exits([&](ExitNumber exit, vmm::VirtualMachine&, const vmm::Exit&) {
        if (exit.value() == kExitsPerTurn) begin = Clock::now();
        if (exit.value() == 2 * kExitsPerTurn) {
            const std::lock_guard lock(mutex);
            result = microseconds_an_exit(Clock::now() - begin);
            changed.notify_all();
        }
    });
    engine.start_recording(0);
    std::unique_lock lock(mutex);
    const bool done =
        changed.wait_for(lock, std::chrono::seconds(60), [&] { return result.has_value(); });
    lock.unlock();
    engine.stop();
    if (!done) return fail(Errc::unreachable, "the guest does not exit");
    return *result;
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

int run(const std::string& kernel) {
    vmm::install_kick_handler();
    std::vector<double> bare;
    std::vector<double> recorded;
    for (int turn = 0; turn < kTurns; ++turn) {
        const auto one = bare_turn(kernel);
        const auto two = recorded_turn(kernel);
        if (!one || !two) {
            std::fprintf(stderr, "exits: %s\n", (!one ? one : two).error().to_string().c_str());
            return 1;
        }
        bare.push_back(*one);
        recorded.push_back(*two);
    }
    const double cost = median(bare);
    const double added = median(recorded) - cost;
    fmt::print("exit_bare {:.3f} us\n", cost);
    fmt::print("exit_recorded {:.3f} us ratio={:.3f}\n", cost + added, (cost + added) / cost);
    fmt::print("recording_added {:.1f} % goal=<=3 ratio={:.4f}\n", 100 * added / cost,
               added / cost);
    return 0;
}

}  // namespace
}  // namespace antipode

int main(int argc, char** argv) {
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        std::fprintf(stderr, "exits: no /dev/kvm, nothing to measure\n");
        return 77;
    }
    return antipode::run(argc > 1 ? argv[1] : GUEST_DIRECTORY "/compute.elf");
}
