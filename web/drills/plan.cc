#include "web/drills/plan.h"

#include <algorithm>
#include <array>

#include "common/base/name.h"
#include "web/drills/probe.h"

namespace antipode::web {
namespace {

struct KindWord {
    DrillKind kind;
    std::string_view word;
};
constexpr std::array<KindWord, 3> kKinds{{{DrillKind::isolated, "isolated"},
                                          {DrillKind::switchover, "switchover"},
                                          {DrillKind::fault, "fault"}}};
struct CheckWord {
    DrillCheck check;
    std::string_view word;
};
constexpr std::array<CheckWord, 4> kChecks{{{DrillCheck::runs, "runs"},
                                            {DrillCheck::command, "command"},
                                            {DrillCheck::console, "console"},
                                            {DrillCheck::tcp, "tcp"}}};
constexpr std::array<std::string_view, 4> kFaults{"link_cut", "link_degrade", "tiebreaker_cut",
                                                  "kill_primary"};
constexpr double kIsolatedSeconds = 600;
constexpr double kFaultSeconds = 10;
constexpr double kFaultSecondsMax = 300;

}  // namespace

std::string_view word(DrillKind kind) {
    return std::find_if(kKinds.begin(), kKinds.end(),
                        [&](const KindWord& each) { return each.kind == kind; })
        ->word;
}

std::string_view word(DrillCheck check) {
    return std::find_if(kChecks.begin(), kChecks.end(),
                        [&](const CheckWord& each) { return each.check == check; })
        ->word;
}

double DrillPlan::length_seconds() const {
    if (duration_seconds > 0) return duration_seconds;
    return kind == DrillKind::fault ? kFaultSeconds : kIsolatedSeconds;
}

control::Access DrillPlan::access() const {
    return kind == DrillKind::switchover ? control::Access::operate : control::Access::drill;
}

std::string DrillPlan::check_text() const {
    switch (check) {
        case DrillCheck::runs:
            return "the copy's virtual CPU works";
        case DrillCheck::command:
            return fmt::format("the command '{}' of web.toml succeeds", command);
        case DrillCheck::console:
            return fmt::format("'{}' appears on the copy's console", expect);
        case DrillCheck::tcp:
            return fmt::format("{} accepts a connection", address);
    }
    return {};
}

void read_plan(Body& body, DrillPlan& plan) {
    std::string kind(word(plan.kind));
    std::string network(control::word(plan.network));
    std::string check(word(plan.check));
    std::optional<double> check_seconds;
    std::optional<double> duration_seconds;
    body.text("pair", plan.pair, Body::required, 64);
    body.choice("kind", kind, {"isolated", "switchover", "fault"});
    body.text("note", plan.note, Body::optional, 500);
    body.text("site", plan.site, Body::optional, 64);
    body.choice("network", network, {"none", "isolated"});
    body.choice("check", check, {"runs", "command", "console", "tcp"});
    body.text("command", plan.command, Body::optional, 64);
    body.text("send", plan.send, Body::optional, 1024);
    body.text("expect", plan.expect, Body::optional, 1024);
    body.text("address", plan.address, Body::optional, 64);
    body.number("check_seconds", check_seconds, 1, 3600);
    body.number("duration_seconds", duration_seconds, 1, 86'400);
    body.text("fault", plan.fault, Body::optional, 64);
    for (const KindWord& each : kKinds) {
        if (each.word == kind) plan.kind = each.kind;
    }
    for (const CheckWord& each : kChecks) {
        if (each.word == check) plan.check = each.check;
    }
    plan.network =
        control::from_word<control::DrillNetwork>(network).value_or(control::DrillNetwork::none);
    plan.check_seconds = check_seconds.value_or(plan.check_seconds);
    plan.duration_seconds = duration_seconds.value_or(plan.duration_seconds);
}

Result<> check_plan(const DrillPlan& plan) {
    const auto wrong = [](std::string_view text) {
        return fail(Errc::invalid_argument, "{}", text);
    };
    if (plan.kind == DrillKind::fault) {
        if (std::find(kFaults.begin(), kFaults.end(), plan.fault) == kFaults.end()) {
            return wrong("fault: expected link_cut, link_degrade, tiebreaker_cut or kill_primary");
        }
        if (plan.length_seconds() > kFaultSecondsMax) {
            return fail(Errc::invalid_argument, "duration_seconds: a fault lasts at most {}",
                        kFaultSecondsMax);
        }
        return {};
    }
    if (!plan.fault.empty()) return wrong("fault: only a drill of kind fault has one");
    if (plan.kind == DrillKind::switchover) return {};
    if (plan.check == DrillCheck::command && plan.command.empty()) {
        return wrong("command: is missing; it is the name of a command of web.toml");
    }
    if (plan.check == DrillCheck::console && plan.expect.empty()) {
        return wrong("expect: is missing");
    }
    if (plan.check == DrillCheck::tcp) {
        if (plan.network != control::DrillNetwork::isolated) {
            return wrong("check: tcp needs the network isolated");
        }
        FT_TRY_VOID(parse_drill_address(plan.address));
    }
    if (plan.check_seconds >= plan.length_seconds()) {
        return wrong("check_seconds: must be less than duration_seconds");
    }
    return {};
}

json::object to_json(const DrillPlan& plan) {
    json::object out;
    out["pair"] = plan.pair;
    out["kind"] = word(plan.kind);
    out["note"] = plan.note;
    if (plan.kind == DrillKind::isolated) {
        out["network"] = control::word(plan.network);
        out["check"] = word(plan.check);
        if (plan.check == DrillCheck::command) out["command"] = plan.command;
        if (plan.check == DrillCheck::console) {
            out["send"] = plan.send;
            out["expect"] = plan.expect;
        }
        if (plan.check == DrillCheck::tcp) out["address"] = plan.address;
        out["check_seconds"] = plan.check_seconds;
        out["duration_seconds"] = plan.length_seconds();
    }
    if (plan.kind == DrillKind::fault) {
        out["fault"] = plan.fault;
        out["duration_seconds"] = plan.length_seconds();
        if (!plan.site.empty()) out["site"] = plan.site;
    }
    return out;
}

}  // namespace antipode::web
