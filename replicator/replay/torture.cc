#include "replicator/replay/torture.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <thread>
#include <vector>
#include <xxhash.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "replicator/replay/bare_guest.h"

namespace antipode::replay {
namespace {

constexpr uint64_t kExitsMax = 20'000;  // the guest ends long before
constexpr uint64_t kKickMicroseconds = 150;
constexpr double kInterruptChance = 0.3;

// One exit of the recording run, and what it was answered.
struct Step {
    uint64_t hash = 0;   // kind, address, data, registers
    uint64_t input = 0;  // what a read returned
    bool interrupt = false;
};

class Run {
  public:
    Run(vmm::VirtualMachine& vm, Random* random, std::vector<Step>& steps)
        : vm_(vm), random_(random), steps_(steps) {}

    // Until the guest is done. Replaying (no random): the first difference is an error.
    Result<void> go() {
        for (uint64_t index = 0; index < kExitsMax;) {
            const vmm::Exit exit = vm_.vcpu.run();
            if (exit.kind == vmm::Exit::Kind::kicked) {
                ++kicks;
                continue;
            }
            if (!exit.is_counted()) {
                return fail(Errc::unsupported, "the guest stopped: {} {}", to_string(exit.kind),
                            exit.detail);
            }
            FT_TRY(const bool done, handle(exit, index));
            ++index;
            if (done) return finish(index);
        }
        return fail(Errc::diverged, "the guest does not end");
    }
    uint64_t kicks = 0;
    uint64_t interrupts = 0;

  private:
    Result<bool> handle(const vmm::Exit& exit, uint64_t index) {
        const bool reads = exit.kind == vmm::Exit::Kind::port_in ||
                           exit.kind == vmm::Exit::Kind::mmio_read ||
                           exit.kind == vmm::Exit::Kind::msr_read;
        FT_TRY(const kvm_regs regs, vm_.vcpu.regs());
        uint64_t hash = XXH3_64bits_withSeed(&regs, sizeof regs, exit.address);
        if (!reads) hash += XXH3_64bits(exit.data.data(), exit.data.size());
        hash = hash * 31 + static_cast<uint64_t>(exit.kind);
        if (random_ != nullptr) {
            steps_.push_back({hash, random_->next(), false});
        } else if (index >= steps_.size() || steps_[index].hash != hash) {
            return fail(Errc::diverged, "exit {} ({} at {:#x}, rip {:#x}) is another one", index,
                        to_string(exit.kind), exit.address, regs.rip);
        }
        Step& step = steps_[index];
        if (reads) {
            std::memcpy(exit.data.data(), &step.input,
                        std::min(exit.data.size(), sizeof step.input));
        }
        FT_TRY_VOID(interrupt(exit, step));
        return exit.kind == vmm::Exit::Kind::port_out && exit.address == kTorturePortEnd;
    }

    // What the recording run decided; a halted guest must be woken.
    Result<void> interrupt(const vmm::Exit& exit, Step& step) {
        const bool can = vm_.vcpu.can_inject();
        const bool halted = exit.kind == vmm::Exit::Kind::halt;
        if (random_ != nullptr)
            step.interrupt = can && (halted || random_->chance(kInterruptChance));
        if (!step.interrupt) return {};
        if (!can) return fail(Errc::diverged, "an interrupt cannot be injected where it was");
        ++interrupts;
        return vm_.vcpu.inject(kTortureVector);
    }

    // The last access is completed before memory is looked at.
    Result<void> finish(uint64_t exits) {
        (void)vm_.vcpu.complete_access();
        if (exits != steps_.size()) {
            return fail(Errc::diverged, "{} exits instead of {}", exits, steps_.size());
        }
        return {};
    }

    vmm::VirtualMachine& vm_;
    Random* random_;
    std::vector<Step>& steps_;
};

uint64_t memory_hash(const vmm::GuestMemory& memory) {
    return XXH3_64bits(memory.host_base(), memory.size_bytes());
}

std::vector<uint64_t> page_hashes(const vmm::GuestMemory& memory) {
    std::vector<uint64_t> hashes(memory.page_count());
    for (uint64_t page = 0; page < hashes.size(); ++page) {
        const auto bytes = memory.page(page);
        hashes[page] = XXH3_64bits(bytes.data(), bytes.size());
    }
    return hashes;
}

// Kicks the vCPU of this thread, for as long as it lives.
class Kicker {
  public:
    Kicker(vmm::Vcpu& vcpu, uint64_t seed)
        : thread_([this, &vcpu, seed] {
              Random random(seed);
              while (!stop_.load()) {
                  std::this_thread::sleep_for(
                      std::chrono::microseconds(random.between(1, kKickMicroseconds)));
                  vcpu.kick();
              }
          }) {}
    Kicker(const Kicker&) = delete;
    Kicker& operator=(const Kicker&) = delete;
    ~Kicker() {
        stop_ = true;
        thread_.join();
    }

  private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

class Attached {
  public:
    explicit Attached(vmm::Vcpu& vcpu) : vcpu_(vcpu) { vcpu_.attach_thread(); }
    Attached(const Attached&) = delete;
    Attached& operator=(const Attached&) = delete;
    ~Attached() { vcpu_.detach_thread(); }

  private:
    vmm::Vcpu& vcpu_;
};

Result<void> record(const vmm::Kvm& kvm, Random& random, std::vector<Step>& steps,
                    TortureResult& result, uint64_t& memory) {
    FT_TRY(auto vm, build_bare_guest(kvm, torture_guest()));
    const Attached attached(vm->vcpu);
    const auto before = page_hashes(vm->memory);
    Run run(*vm, &random, steps);
    const Instant begin = MonotonicClock::now();
    FT_TRY_VOID(run.go());
    const std::chrono::duration<double, std::micro> took = MonotonicClock::now() - begin;
    result.exits = steps.size();
    result.interrupts = run.interrupts;
    result.exit_us = took.count() / static_cast<double>(steps.size());
    std::vector<uint64_t> dirty;
    FT_TRY_VOID(vm->vm.collect_dirty(dirty));
    const auto after = page_hashes(vm->memory);
    for (uint64_t page = 0; page < after.size(); ++page) {
        const bool marked = (dirty[page / 64] >> (page % 64) & 1) != 0;
        if (marked) ++result.dirty_pages;
        if (before[page] != after[page] && !marked) ++result.dirty_missed;
    }
    memory = memory_hash(vm->memory);
    result.digest = memory;
    for (const Step& step : steps) result.digest = result.digest * 31 + step.hash;
    return {};
}

}  // namespace

Result<TortureResult> run_torture(const vmm::Kvm& kvm, uint64_t runs, uint64_t seed) {
    vmm::install_kick_handler();
    TortureResult result;
    Random random(seed);
    std::vector<Step> steps;
    uint64_t memory = 0;
    FT_TRY_VOID(record(kvm, random, steps, result, memory));
    for (uint64_t i = 0; i < runs && result.difference.empty(); ++i) {
        FT_TRY(auto vm, build_bare_guest(kvm, torture_guest()));
        const Attached attached(vm->vcpu);
        Run run(*vm, nullptr, steps);
        Result<void> went;
        {
            const Kicker kicker(vm->vcpu, seed + i);
            went = run.go();
        }
        if (!went && went.error().code != Errc::diverged) return Failure(went.error());
        result.kicks += run.kicks;
        ++result.runs;
        if (!went) {
            result.difference = went.error().to_string();
        } else if (memory_hash(vm->memory) != memory) {
            result.difference = "memory differs at the end, although every exit was equal";
        }
    }
    return result;
}

}  // namespace antipode::replay
