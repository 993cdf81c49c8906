// What recording adds to the cost of a guest exit: a port write in ring 3 after a few instructions,
// and one in ring 0 (their costs differ where a host emulates ring 0). The same guest runs in short
// turns, with the bare loop KVM_RUN + emulation, and under the recording engine whose log is taken
// by another thread. All in one run; a figure is the median over the turns, and what is added is
// the median of the differences of neighbouring turns: a slow stretch of the machine hits both.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <fmt/format.h>
#include <mutex>
#include <span>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "replicator/control/vcpu_bridge.h"
#include "replicator/replay/engine.h"

namespace antipode {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kExitsPerTurn = 5'000;
constexpr int kTurns = 25;

enum class Ring { kernel, user };

class ZeroInputs final : public vmm::InputSource {
  public:
    uint64_t read(vmm::InputKind) override { return 0; }
};

class NoDisk final : public replay::DiskPort {
  public:
    void submit(vmm::BlockRequest&&) override {}
};

// out %al, $0x80; jmp to it: the guest's only instructions, in whichever mode it starts.
constexpr uint8_t kRing0Loop[] = {0xe6, 0x80, 0xeb, 0xfc};

Result<std::unique_ptr<vmm::VirtualMachine>> build(const std::string& kernel, Ring ring) {
    FT_TRY(const auto kvm, vmm::Kvm::open());
    vmm::VmConfig config;
    config.kernel_image_path = kernel;
    config.boot_args = "antipode.steps=1 antipode.every=1000000000 antipode.hz=0";
    config.mem_size_mib = 32;
    FT_TRY(auto vm, vmm::build_vm(kvm, config, {}));
    if (ring == Ring::kernel) {
        FT_TRY(const auto regs, vm->vcpu.regs());
        if (!vm->memory.write(vmm::GuestPhys(regs.rip), std::as_bytes(std::span(kRing0Loop)))) {
            return fail(Errc::invalid_argument, "the guest starts at {:#x}, outside of its memory",
                        regs.rip);
        }
    }
    return vm;
}

double microseconds_an_exit(Clock::duration time) {
    return std::chrono::duration<double, std::micro>(time).count() / double{kExitsPerTurn};
}

Result<double> bare_turn(const std::string& kernel, Ring ring) {
    FT_TRY(auto vm, build(kernel, ring));
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

Result<double> recorded_turn(const std::string& kernel, Ring ring) {
    FT_TRY(auto vm, build(kernel, ring));
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

Result<void> measure(const std::string& kernel, Ring ring, std::string_view name) {
    std::vector<double> bare;
    std::vector<double> added;
    for (int turn = 0; turn < kTurns; ++turn) {
        FT_TRY(const double without, bare_turn(kernel, ring));
        FT_TRY(const double with, recorded_turn(kernel, ring));
        bare.push_back(without);
        added.push_back(with - without);
    }
    const double cost = median(bare);
    const double more = median(added);
    fmt::print("exit_bare_{} {:.3f} us\n", name, cost);
    fmt::print("exit_recorded_{} {:.3f} us\n", name, cost + more);
    fmt::print("recording_added_{} {:.1f} % goal=<=3 ratio={:.4f}\n", name, 100 * more / cost,
               more / cost);
    return {};
}

int run(const std::string& kernel) {
    vmm::install_kick_handler();
    for (const auto& [ring, name] :
         {std::pair{Ring::user, "ring3"}, std::pair{Ring::kernel, "ring0"}}) {
        const auto measured = measure(kernel, ring, name);
        std::fflush(stdout);
        if (!measured) {
            std::fprintf(stderr, "exits: %s\n", measured.error().to_string().c_str());
            return 1;
        }
    }
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
