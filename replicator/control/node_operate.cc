// What operators do to the VM: each is an entry in the log, applied at the same exit on both sides.
#include <algorithm>
#include <array>

#include "common/base/log.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

using Kind = replay::VmControl::Kind;

struct Act {
    Method method;
    Kind kind;
    const char* consequence;
    EventCode code;
};
constexpr std::array<Act, 5> kActs{{
    {Method::pause, Kind::pause, "the VM stands at an exit, at both sites, until it is resumed",
     EventCode::vm_paused},
    {Method::resume, Kind::resume, "the VM goes on", EventCode::vm_resumed},
    {Method::reset, Kind::reset, "the VM boots again; what was in its memory is lost",
     EventCode::vm_started},
    {Method::shutdown, Kind::power_off, "the VM ends as by a cut of its power, and both sites stop",
     EventCode::vm_stopped},
    {Method::nmi, Kind::nmi, "the VM gets a non-maskable interrupt", EventCode::operator_action},
}};

}  // namespace

std::optional<Result<ActionReply>> Node::operate(Method method, const ActionRequest& request) {
    using Answer = Result<ActionReply>;
    const bool known = std::any_of(kActs.begin(), kActs.end(),
                                   [&](const Act& act) { return act.method == method; });
    if (!known && method != Method::console_input && method != Method::sysrq) return std::nullopt;
    if (!recording_ || !engine_ || engine_stopped_) {
        return Answer(fail(Errc::busy, "the VM does not run at {}", config_.pair.site));
    }
    if (known) return control_vm(method, request);
    if (method == Method::console_input) return type(request);
    if (request.text.size() != 1) {
        return Answer(fail(Errc::invalid_argument, "text: is not one key"));
    }
    if (!request.check && !engine_->control(Kind::line_break)) {
        return Answer(fail(Errc::busy, "the guest does not read its console"));
    }
    return type(request);
}

Result<ActionReply> Node::control_vm(Method method, const ActionRequest& request) {
    const Act& act = *std::find_if(kActs.begin(), kActs.end(),
                                   [&](const Act& each) { return each.method == method; });
    if (method == Method::pause && engine_->held()) return fail(Errc::busy, "the VM is paused");
    if (method == Method::resume && !engine_->held()) {
        return fail(Errc::busy, "the VM is not paused");
    }
    ActionReply reply;
    reply.consequence = act.consequence;
    if (request.check) return reply;
    if (!engine_->control(act.kind)) {
        return fail(Errc::busy, "the guest has not come to an exit since the last few of these");
    }
    event(act.code, fmt::format("{} asked by {}{}{}", info(method).name, request.actor,
                                request.note.empty() ? "" : ": ", request.note));
    return reply;
}

Result<ActionReply> Node::type(const ActionRequest& request) {
    const auto bytes = std::as_bytes(std::span(request.text));
    if (!request.check && !engine_->console_input({bytes.begin(), bytes.end()})) {
        return fail(Errc::busy, "the guest does not read its console");
    }
    ActionReply reply;
    reply.consequence = fmt::format("{} bytes go to the guest's console", bytes.size());
    return reply;
}

}  // namespace antipode::control
