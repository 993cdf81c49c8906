// The vCPUs' state of a checkpoint, as bytes.
#include "replicator/vmm/smp_state.h"

#include <gtest/gtest.h>

namespace antipode::vmm {
namespace {

SmpState some_state(size_t vcpu_count) {
    SmpState state;
    for (size_t i = 0; i < vcpu_count; ++i) {
        CpuState cpu;
        cpu.regs.rip = 0x1000 + i;
        cpu.sregs.cr3 = 0x9000;
        cpu.msrs.push_back({0xc0000082, 0x1234});
        state.cpus.push_back(cpu);
        kvm_lapic_state apic{};
        apic.regs[0x20 + 3] = static_cast<char>(i);
        state.local_apics.push_back(apic);
    }
    for (uint32_t id = 0; id < SmpState::kChips; ++id) state.chips[id].chip_id = id;
    state.timer.channels[0].count = 11932;
    return state;
}

std::string problem(std::span<const std::byte> bytes, size_t vcpu_count) {
    StateReader in(bytes);
    const auto state = SmpState::load(in, vcpu_count);
    return state ? "" : state.error().context;
}

TEST(SmpStateTest, ComesBackAsItWas) {
    for (const size_t count : {1u, 2u, 16u}) {
        const auto bytes = saved(some_state(count));
        StateReader in(bytes);
        const auto state = SmpState::load(in, count);
        ASSERT_TRUE(state) << state.error().to_string();
        EXPECT_EQ(state->cpus.back().regs.rip, 0x1000 + count - 1);
        EXPECT_EQ(state->timer.channels[0].count, 11932u);
        EXPECT_EQ(saved(*state), bytes);
        // A seed's and a checkpoint's limit.
        EXPECT_LT(bytes.size(), size_t{272} << 10);
    }
}

TEST(SmpStateTest, ALiveTscIsPartOfIt) {
    SmpState with = some_state(2);
    const auto without = saved(with);
    EXPECT_EQ(without[0], std::byte{1});  // as ever
    with.tsc = TscState{2'400'000, {0x1122334455667788, 0x1122334455667799}};
    const auto bytes = saved(with);
    EXPECT_EQ(bytes[0], std::byte{2});
    EXPECT_EQ(bytes.size(), without.size() + 4 + 2 * 8);
    StateReader in(bytes);
    const auto state = SmpState::load(in, 2);
    ASSERT_TRUE(state) << state.error().to_string();
    ASSERT_TRUE(state->tsc.has_value());
    EXPECT_EQ(state->tsc->khz, 2'400'000u);
    EXPECT_EQ(state->tsc->highest(), 0x1122334455667799u);
    EXPECT_EQ(saved(*state), bytes);
    EXPECT_NE(problem(std::span(bytes).first(bytes.size() - 1), 2), "");
    with.tsc->khz = 0;
    EXPECT_EQ(problem(saved(with), 2), "vCPUs' state: the TSC's frequency makes no sense");
}

TEST(SmpStateTest, WhatIsRefused) {
    const auto bytes = saved(some_state(2));
    EXPECT_EQ(problem(bytes, 1), "vCPUs' state: is of 2 vCPUs, this VM has 1");
    auto changed = bytes;
    changed[0] = std::byte{9};
    EXPECT_EQ(problem(changed, 2), "vCPUs' state: version is 9, expected 1 or 2");
    changed = bytes;
    changed.push_back(std::byte{0});
    EXPECT_EQ(problem(changed, 2), "vCPUs' state: bytes behind its end");
    for (size_t length = 0; length < bytes.size(); length += 97) {
        EXPECT_NE(problem(std::span(bytes).first(length), 2), "") << length;
    }
    SmpState swapped = some_state(2);
    swapped.chips[0].chip_id = 1;
    EXPECT_EQ(problem(saved(swapped), 2), "vCPUs' state: a chip has another's number");
}

TEST(SmpStateTest, AVmIsDeadWhenNothingCanWakeIt) {
    SmpState state = some_state(2);
    auto& first = state.cpus[0];
    auto& second = state.cpus[1];
    EXPECT_FALSE(halted_for_good(state));
    first.mp.mp_state = KVM_MP_STATE_HALTED;
    second.mp.mp_state = KVM_MP_STATE_UNINITIALIZED;
    EXPECT_TRUE(halted_for_good(state));
    first.regs.rflags = 0x202;
    EXPECT_FALSE(halted_for_good(state));  // an interrupt wakes it
    first.regs.rflags = 2;
    second.mp.mp_state = KVM_MP_STATE_RUNNABLE;
    EXPECT_FALSE(halted_for_good(state));
    second.mp.mp_state = KVM_MP_STATE_HALTED;
    EXPECT_TRUE(halted_for_good(state));
    second.events.nmi.pending = 1;
    EXPECT_FALSE(halted_for_good(state));
    first.mp.mp_state = KVM_MP_STATE_UNINITIALIZED;
    second.mp.mp_state = KVM_MP_STATE_INIT_RECEIVED;
    EXPECT_FALSE(halted_for_good(state));  // it has not begun
}

}  // namespace
}  // namespace antipode::vmm
