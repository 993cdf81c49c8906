#include "replicator/control/vcpu_bridge.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/log.h"

namespace antipode::control {

VcpuBridge::VcpuBridge(size_t capacity)
    : queue_(capacity + kReserve), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    FT_CHECK(static_cast<bool>(event_), "eventfd");
}

void VcpuBridge::wake() {
    const uint64_t one = 1;
    (void)!write(event_.get(), &one, sizeof one);
}

void VcpuBridge::clear_event() {
    uint64_t drained = 0;
    (void)!read(event_.get(), &drained, sizeof drained);
}

std::optional<VcpuBridge::Item> VcpuBridge::take(bool entries_allowed) {
    if (!held_) {
        std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with record()
        held_ = queue_.pop();
    }
    if (!held_) return std::nullopt;
    if (!entries_allowed && std::holds_alternative<replay::Recorded>(*held_)) return std::nullopt;
    return std::exchange(held_, std::nullopt);
}

bool VcpuBridge::record(replay::Recorded&& step) {
    if (!has_room()) return false;
    const bool is_output = step.output_number != OutputNumber();
    Item item(std::move(step));
    FT_CHECK(queue_.push(std::move(item)), "room was there");
    // Against the core's look at the queue: either it sees this entry, or this sees that it has
    // emptied the queue before.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (is_output || queue_.count() <= 1) wake();
    return true;
}

bool VcpuBridge::replayed(replay::ReplayedOutput&& output) {
    if (!has_room()) return false;
    Item item(std::move(output));
    FT_CHECK(queue_.push(std::move(item)), "room was there");
    wake();
    return true;
}

// The reserve is for these; a flood of them (digests that differ, disk errors) beyond it is cut.
void VcpuBridge::notify(Item item) {
    if (!queue_.push(std::move(item))) {
        logger("control").error("a notice of the vCPU thread found no room");
    }
    wake();
}

void VcpuBridge::drained(ExitNumber, LogIndex applied) {
    notify(Drained{applied});
}
void VcpuBridge::live(ExitNumber) {
    notify(Live{});
}
void VcpuBridge::paused(ExitNumber) {
    notify(Paused{});
}
void VcpuBridge::standing(std::unique_ptr<replay::VmState> state) {
    notify(Standing{std::move(state)});
}
void VcpuBridge::dirty_pages(std::vector<uint64_t> bitmap) {
    notify(DirtyPages{std::move(bitmap)});
}
void VcpuBridge::stopped(replay::StopReason reason, const std::string& text) {
    notify(Stopped{reason, text});
}
void VcpuBridge::digest_checked(ExitNumber exit, const std::string& text) {
    if (has_room()) notify(DigestChecked{exit, text});
}
void VcpuBridge::heal_wanted(std::unique_ptr<replay::HealRequest> request) {
    notify(HealWanted{std::move(request)});
}
void VcpuBridge::heal_answered(std::unique_ptr<replay::HealAnswer> answer) {
    notify(HealAnswered{std::move(answer)});
}
void VcpuBridge::healed(std::unique_ptr<replay::HealResult> result) {
    notify(Healed{std::move(result)});
}
void VcpuBridge::replay_disk_error(const std::string& text) {
    if (has_room()) notify(DiskTrouble{text});
}

}  // namespace antipode::control
