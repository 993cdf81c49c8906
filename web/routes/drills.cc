#include "web/routes/drills.h"

#include <boost/json/serialize.hpp>
#include <charconv>

#include "common/base/log.h"
#include "web/http/body.h"
#include "web/routes/once.h"
#include "web/routes/page.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

using control::Access;
using control::json::array;
using control::json::object;
using control::json::value;

Response refused(const Services& services, const Call& call, const DrillPlan& plan) {
    const std::string detail = fmt::format("needs the right '{}'", control::word(plan.access()));
    auto noted = services.note(call, "drill.start", plan.pair, "refused", detail);
    if (!noted) return problem(noted.error());
    return problem(403, "denied", "not allowed",
                   fmt::format("'{}' is {}; a {} drill {}", call.principal.name,
                               call.principal.role, word(plan.kind), detail));
}

value preflight_json(const DrillPlan& plan, const std::vector<DrillFinding>& findings) {
    object out;
    out["plan"] = to_json(plan);
    out["allowed"] = findings.empty();
    array list;
    for (const DrillFinding& finding : findings) {
        object one;
        one["severity"] = control::word(finding.severity);
        one["text"] = finding.text;
        list.push_back(std::move(one));
    }
    out["findings"] = std::move(list);
    // What can end in a failover wants the pair's name typed.
    out["confirm"] = plan.kind == DrillKind::isolated ? value(nullptr) : value(plan.pair);
    return out;
}

Response begin_drill(Services& services, const Call& call, DrillPlan plan) {
    const std::string detail = json::serialize(to_json(plan));
    if (auto noted = services.note(call, "drill.start", plan.pair, "asked", detail); !noted) {
        return problem(noted.error());
    }
    const std::string actor = fmt::format("{} via {}", call.principal.name, call.principal.via);
    const std::string pair = plan.pair;
    auto started = services.drills.start(std::move(plan), actor, false);
    auto noted = services.note(call, "drill.start", pair, started ? "ok" : "refused",
                               started ? started->id : started.error().context);
    if (!noted) logger("web").error("audit: {}", noted.error().to_string());
    if (!started) return problem(started.error());
    return Response::from_json(to_json(*started), 202)
        .with("Location", "/api/v1/drills/" + started->id);
}

Response start_drill(Services& services, const Call& call) {
    DrillPlan plan;
    bool check = false;
    std::string confirm;
    Body body(call.request);
    read_plan(body, plan);
    body.flag("check_only", check);
    body.text("confirm", confirm, Body::optional, 64);
    if (auto read = body.done(); !read) return problem(read.error());
    if (!call.principal.may(plan.access())) return refused(services, call, plan);
    if (auto sound = check_plan(plan); !sound) return problem(sound.error());
    if (check) return Response::from_json(preflight_json(plan, services.drills.preflight(plan)));
    if (plan.kind != DrillKind::isolated && confirm != plan.pair) {
        return problem(422, "not-confirmed", "not confirmed",
                       fmt::format("confirm: type the pair's name, '{}'", plan.pair));
    }
    Once once(services, call);
    if (auto answer = once.answer()) return std::move(*answer);
    return once.finished(begin_drill(services, call, std::move(plan)));
}

Response list_drills(const Services& services, const Call& call) {
    Drills::Filter filter;
    if (auto read = read_page(call.request, filter); !read) return problem(read.error());
    if (const auto pair = call.request.query_value("pair")) filter.pair = std::string(*pair);
    auto found = services.drills.list(filter);
    if (!found) return problem(found.error());
    return page_of(std::move(*found), filter, &DrillEntry::number);
}

Response get_drill(const Services& services, const Call& call) {
    auto found = services.drills.find(call.parameter("drill"));
    return found ? Response::from_json(to_json(*found)) : problem(found.error());
}

Response stop_drill(Services& services, const Call& call) {
    const std::string& id = call.parameter("drill");
    auto found = services.drills.find(id);
    if (!found) return problem(found.error());
    DrillPlan plan;
    plan.kind = found->kind;
    plan.pair = found->pair;
    if (!call.principal.may(plan.access())) return refused(services, call, plan);
    if (auto noted = services.note(call, "drill.stop", found->pair, "asked", id); !noted) {
        return problem(noted.error());
    }
    auto ended = services.drills.end(id);
    return ended ? Response::from_json(to_json(*ended), 202) : problem(ended.error());
}

// The signed document, byte for byte.
Response get_report(const Services& services, const Call& call) {
    const std::string& id = call.parameter("drill");
    auto document = services.drills.document(id);
    if (!document) return problem(document.error());
    Response response = Response::from_text(std::move(*document));
    response.content_type = "application/json";
    response.with("Content-Disposition", fmt::format("inline; filename=\"drill-{}.json\"", id));
    return response;
}

Response get_report_page(const Services& services, const Call& call) {
    const std::string& id = call.parameter("drill");
    auto document = services.drills.document(id);
    if (!document) return problem(document.error());
    std::string report;
    std::string signer;
    if (auto verified = verify_report(*document)) {
        report = verified->report;
        signer = fmt::format("{}, SHA-256 {}", verified->subject, verified->fingerprint);
    } else {
        signer = "nobody: " + verified.error().context;
        auto parsed = control::parse_json(*document);
        const value* text =
            parsed && parsed->is_object() ? parsed->get_object().if_contains("report") : nullptr;
        if (text != nullptr && text->is_string()) report = std::string(text->get_string());
    }
    auto parsed = control::parse_json(report);
    if (!parsed || !parsed->is_object()) {
        return problem(Error{Errc::corrupt, "the report cannot be read"});
    }
    Response response =
        Response::from_text(report_html(parsed->get_object(), signer, digest_of(report)));
    response.content_type = "text/html; charset=utf-8";
    response.with("Content-Security-Policy",
                  fmt::format("default-src 'none'; style-src {}; base-uri 'none'; form-action "
                              "'none'; frame-ancestors 'none'",
                              report_style_source()));
    return response;
}

// ---- Schedules

Response list_schedules(const Services& services) {
    array items;
    for (const DrillSchedule& schedule : services.drills.schedules()) {
        items.push_back(to_json(schedule));
    }
    return list_of(std::move(items));
}

// "02:30" as minutes of the day.
std::optional<int> minute_of_day(const std::string& text) {
    if (text.size() != 5 || text[2] != ':') return std::nullopt;
    int hour = 0;
    int minute = 0;
    const char* begin = text.data();
    const auto first = std::from_chars(begin, begin + 2, hour);
    const auto second = std::from_chars(begin + 3, begin + 5, minute);
    const bool read = first.ptr == begin + 2 && second.ptr == begin + 5;
    if (!read || hour < 0 || hour > 23 || minute < 0 || minute > 59) return std::nullopt;
    return hour * 60 + minute;
}

Response set_schedule(Services& services, const Call& call) {
    DrillSchedule schedule;
    std::string weekday = "sunday";
    std::string time;
    Body body(call.request);
    read_plan(body, schedule.plan);
    body.choice("weekday", weekday,
                {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"});
    body.text("time", time, Body::required, 5);
    body.flag("enabled", schedule.enabled);
    if (auto read = body.done(); !read) return problem(read.error());
    const auto minute = minute_of_day(time);
    if (!minute) return problem(Error{Errc::invalid_argument, "time: expected HH:MM"});
    schedule.minute = *minute;
    while (weekday_word(schedule.weekday) != weekday) ++schedule.weekday;
    if (!call.principal.may(schedule.plan.access())) {
        return refused(services, call, schedule.plan);
    }
    schedule.actor = call.principal.name;
    const std::string detail = json::serialize(to_json(schedule));
    auto noted = services.note(call, "drill.schedule", schedule.plan.pair, "asked", detail);
    if (!noted) return problem(noted.error());
    auto kept = services.drills.set_schedule(std::move(schedule));
    return kept ? Response::from_json(to_json(*kept)) : problem(kept.error());
}

Response remove_schedule(Services& services, const Call& call) {
    const std::string& pair = call.parameter("pair");
    DrillPlan plan;
    plan.pair = pair;
    const std::string& kind = call.parameter("kind");
    bool known = false;
    for (const DrillKind each : {DrillKind::isolated, DrillKind::switchover, DrillKind::fault}) {
        if (word(each) != kind) continue;
        plan.kind = each;
        known = true;
    }
    if (!known) return problem(Error{Errc::not_found, "there is no such kind of drill"});
    if (!call.principal.may(plan.access())) return refused(services, call, plan);
    if (auto noted = services.note(call, "drill.unschedule", pair, "asked", kind); !noted) {
        return problem(noted.error());
    }
    auto removed = services.drills.remove_schedule(pair, plan.kind);
    return removed ? Response::empty() : problem(removed.error());
}

}  // namespace

void publish_drill(Services& services, const DrillEntry& entry) {
    services.hub.publish(kDrillsTopic, make_message("drill", json::serialize(to_json(entry))));
}

void add_drill_routes(Router& router, Services& services) {
    const auto add = [&](http::verb method, std::string path, Need need,
                         Response (*handler)(Services&, const Call&)) {
        router.add_sync(method, std::move(path), need,
                        [&services, handler](const Call& call) { return handler(services, call); });
    };
    const auto read = [&](std::string path, Response (*handler)(const Services&, const Call&)) {
        router.add_sync(http::verb::get, std::move(path), Need::read,
                        [&services, handler](const Call& call) { return handler(services, call); });
    };
    read("/api/v1/drills", list_drills);
    add(http::verb::post, "/api/v1/drills", Need::drill, start_drill);
    read("/api/v1/drills/{drill}", get_drill);
    add(http::verb::post, "/api/v1/drills/{drill}/stop", Need::drill, stop_drill);
    read("/api/v1/drills/{drill}/report", get_report);
    read("/api/v1/drills/{drill}/report.html", get_report_page);
    router.add_sync(http::verb::get, "/api/v1/drill-schedules", Need::read,
                    [&services](const Call&) { return list_schedules(services); });
    add(http::verb::put, "/api/v1/drill-schedules", Need::drill, set_schedule);
    add(http::verb::delete_, "/api/v1/drill-schedules/{pair}/{kind}", Need::drill, remove_schedule);
}

}  // namespace antipode::web
