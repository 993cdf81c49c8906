#include "replicator/control/output_gate.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode::control {

void OutputGate::hold(HeldOutput output) {
    const OutputNumber last = held_.empty() ? released_ : held_.back().number;
    if (output.number <= released_) return;  // the primary released it before this site made it
    FT_CHECK(output.number > last, "output {} after {}", output.number, last);
    held_bytes_ += output.output.bytes.size();
    held_.push_back(std::move(output));
}

void OutputGate::acknowledge(LogIndex index) {
    acknowledged_ = std::max(acknowledged_, index);
}

std::vector<HeldOutput> OutputGate::take() {
    std::vector<HeldOutput> leaving;
    if (mode_ == Mode::frozen) return leaving;
    while (!held_.empty()) {
        HeldOutput& next = held_.front();
        if (mode_ == Mode::gated && next.needs > acknowledged_) break;
        if (mode_ == Mode::gated && hold_behind_ && next.needs > *hold_behind_) break;
        FT_CHECK(next.number > released_, "output {} twice", next.number);
        released_ = next.number;
        held_bytes_ -= next.output.bytes.size();
        leaving.push_back(std::move(next));
        held_.pop_front();
    }
    return leaving;
}

void OutputGate::begin_after(OutputNumber released) {
    *this = OutputGate{};
    released_ = released;
}

void OutputGate::forget_log() {
    acknowledged_ = LogIndex();
    for (auto& each : held_) each.needs = LogIndex();
}

std::vector<HeldOutput> OutputGate::released_elsewhere(OutputNumber number) {
    std::vector<HeldOutput> dropped;
    released_ = std::max(released_, number);
    while (!held_.empty() && held_.front().number <= released_) {
        held_bytes_ -= held_.front().output.bytes.size();
        dropped.push_back(std::move(held_.front()));
        held_.pop_front();
    }
    return dropped;
}

}  // namespace antipode::control
