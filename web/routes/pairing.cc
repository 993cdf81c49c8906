#include "web/routes/pairing.h"

#include "web/http/body.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using control::json::array;
using control::json::object;
using control::json::value;

// The same bucket for everybody who tries codes at this site, beside that of each address.
constexpr std::string_view kLimiterName = "pairing code";

Response list_pairings(Services& services) {
    array items;
    for (const Pairing& pairing : services.pairings.list()) items.push_back(to_json(pairing));
    array vms;
    if (const auto found = services.pairings.files().list()) {
        for (const VmFiles::Vm& vm : *found) {
            object item;
            item["name"] = vm.name;
            item["paired"] = vm.paired;
            vms.push_back(std::move(item));
        }
    }
    object out;
    out["items"] = std::move(items);
    out["next"] = nullptr;
    out["vms"] = std::move(vms);
    out["site"] = services.settings.site.name;
    out["address"] = services.settings.site.address;
    out["tiebreaker"] = services.settings.site.tiebreaker;
    out["reachable"] = services.settings.tls;
    return Response::from_json(out);
}

Response get_pairing(Services& services, const Call& call) {
    auto pairing = services.pairings.find(call.parameter("pair"));
    if (!pairing) return problem(pairing.error());
    return Response::from_json(to_json(*pairing));
}

enum class Side { offering, joining };

Result<PairingAsked> read_asked(const Call& call, Side side) {
    PairingAsked asked;
    std::optional<int64_t> port;
    Body body(call.request);
    if (side == Side::offering) {
        body.text("pair", asked.pair, Body::required, 64);
    } else {
        body.text("code", asked.code, Body::required, 400);
    }
    body.text("site", asked.site, Body::optional, 64);
    body.text("address", asked.address, Body::optional, 64);
    body.text("tiebreaker", asked.tiebreaker, Body::optional, 300);
    body.integer("port", port, 1, 65534);
    FT_TRY_VOID(body.done());
    asked.port = static_cast<uint16_t>(port.value_or(0));
    return asked;
}

// In the audit log before it is done, and again with its outcome.
Result<> note(Services& services, const Call& call, std::string action, const std::string& target,
              const Result<>& outcome) {
    return services.note(call, std::move(action), target, outcome ? "ok" : "refused",
                         outcome ? "" : outcome.error().context);
}

asio::awaitable<Response> offer(Services& services, const Call& call) {
    auto asked = read_asked(call, Side::offering);
    if (!asked) co_return problem(asked.error());
    const std::string pair = asked->pair;
    if (auto noted = services.note(call, "pairing.offer", pair, "asked"); !noted) {
        co_return problem(noted.error());
    }
    auto offered = co_await services.pairings.offer(std::move(*asked));
    const Result<> outcome = offered ? Result<>{} : Result<>(fail(offered.error()));
    if (auto noted = note(services, call, "pairing.offer", pair, outcome); !noted) {
        co_return problem(noted.error());
    }
    if (!offered) co_return problem(offered.error());
    object out;
    out["code"] = offered->code;  // the only time that it is shown
    out["pairing"] = to_json(offered->pairing);
    co_return Response::from_json(out, 201).with("Cache-Control", "no-store");
}

Response join(Services& services, const Call& call) {
    auto asked = read_asked(call, Side::joining);
    if (!asked) return problem(asked.error());
    auto joined = services.pairings.join(std::move(*asked));
    const Result<> outcome = joined ? Result<>{} : Result<>(fail(joined.error()));
    if (auto noted = note(services, call, "pairing.join", "", outcome); !noted) {
        return problem(noted.error());
    }
    if (!joined) return problem(joined.error());
    object out;
    out["pairing"] = to_json(*joined);
    return Response::from_json(out, 202);
}

Response withdraw(Services& services, const Call& call) {
    const std::string& pair = call.parameter("pair");
    auto done = services.change(call, "pairing.withdraw", pair, "",
                                [&] { return services.pairings.withdraw(pair); });
    if (!done) return problem(done.error());
    return Response::empty();
}

enum class Change { unpair, rekey };

asio::awaitable<Response> change(Services& services, const Call& call, Change what) {
    const std::string pair = call.parameter("pair");
    const std::string action = what == Change::unpair ? "pairing.unpair" : "pairing.rekey";
    std::string confirm;
    Body body(call.request);
    body.text("confirm", confirm, Body::optional, 64);
    if (auto read = body.done(); !read) co_return problem(read.error());
    if (confirm != pair) {
        co_return problem(422, "not-confirmed", "not confirmed",
                          fmt::format("confirm: type the pair's name, '{}'", pair));
    }
    if (auto noted = services.note(call, action, pair, "asked"); !noted) {
        co_return problem(noted.error());
    }
    Result<std::string> done = fail(Errc::closed, "not done");
    if (what == Change::unpair) {
        done = co_await services.pairings.unpair(pair);
    } else {
        done = co_await services.pairings.rekey(pair);
    }
    const Result<> outcome = done ? Result<>{} : Result<>(fail(done.error()));
    if (auto noted = note(services, call, action, pair, outcome); !noted) {
        co_return problem(noted.error());
    }
    if (!done) co_return problem(done.error());
    object out;
    out["text"] = *done;
    co_return Response::from_json(out);
}

// The other site. Wrong codes are slowed by address and in all; right ones are not counted.
asio::awaitable<Response> answer(Services& services, const Call& call) {
    const std::string remote = call.request.remote;
    const std::string name(kLimiterName);
    if (const auto wait = services.limiter.refused(remote, name, MonotonicClock::now())) {
        co_return problem(429, "too-many-attempts", "too many attempts",
                          fmt::format("too many wrong codes; wait {} s", wait->count()))
            .with("Retry-After", std::to_string(wait->count()));
    }
    auto parsed = control::parse_json(call.request.body);
    if (!parsed) co_return problem(parsed.error());
    auto sealed = parse_sealed(*parsed);
    if (!sealed) co_return problem(sealed.error());
    const std::string step = call.parameter("step");
    auto answered = co_await services.pairings.answer(step, std::move(*sealed));
    if (!answered && answered.error().code == Errc::denied) {
        services.limiter.failed(remote, name, MonotonicClock::now());
        auto noted =
            services.note(call, "pairing." + step, "", "refused", answered.error().context);
        if (!noted) co_return problem(noted.error());
        co_return problem(401, "wrong-code", "wrong code", answered.error().context);
    }
    if (!answered) co_return problem(answered.error());
    if (step != "probe") {
        if (auto noted = services.note(call, "pairing." + step, "", "ok"); !noted) {
            co_return problem(noted.error());
        }
    }
    co_return Response::from_json(*answered).with("Cache-Control", "no-store");
}

}  // namespace

void add_pairing_routes(Router& router, Services& services) {
    using http::verb;
    router.add_sync(verb::get, "/api/v1/pairings", Need::read,
                    [&services](const Call&) { return list_pairings(services); });
    router.add_sync(verb::get, "/api/v1/pairings/{pair}", Need::read,
                    [&services](const Call& call) { return get_pairing(services, call); });
    router.add(verb::post, "/api/v1/pairings/offers", Need::admin,
               [&services](const Call& call) { return offer(services, call); });
    router.add_sync(verb::post, "/api/v1/pairings", Need::admin,
                    [&services](const Call& call) { return join(services, call); });
    router.add_sync(verb::delete_, "/api/v1/pairings/{pair}", Need::admin,
                    [&services](const Call& call) { return withdraw(services, call); });
    router.add(verb::post, "/api/v1/pairings/{pair}/unpair", Need::admin,
               [&services](const Call& call) { return change(services, call, Change::unpair); });
    router.add(verb::post, "/api/v1/pairings/{pair}/rekey", Need::admin,
               [&services](const Call& call) { return change(services, call, Change::rekey); });
    router.add(verb::post, "/api/v1/pairing/{step}", Need::nobody,
               [&services](const Call& call) { return answer(services, call); });
}

}  // namespace antipode::web
