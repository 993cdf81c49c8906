// The side of the site that is told a code: see pairing.h.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/json/serialize.hpp>

#include "common/base/log.h"
#include "web/pairing/code.h"
#include "web/pairing/parts.h"

namespace antipode::web {
namespace {

// Stands for the VM until its name is known; no VM can have it.
constexpr std::string_view kJoining = ".joining";
constexpr int64_t kSkewWarnMs = 2000;
constexpr int kFinishTries = 3;

// What the other site's problem document says.
std::string detail_of(const std::string& body) {
    const auto parsed = control::parse_json(body);
    if (parsed && parsed->is_object()) {
        const json::value* detail = parsed->get_object().if_contains("detail");
        if (detail != nullptr && detail->is_string()) {
            return control::printable(std::string_view(detail->get_string()), 400);
        }
    }
    return "it does not understand this site; is it Antipode's page that answers there?";
}

// A busy site is told from a refusing one.
Errc code_of(unsigned status) {
    switch (status) {
        case 409:
        case 503:
            return Errc::busy;
        case 401:
        case 403:
            return Errc::denied;
        case 404:
            return Errc::not_found;
        case 429:
            return Errc::limit;
        default:
            return Errc::protocol;
    }
}

}  // namespace

boost::asio::awaitable<Result<json::object>> Pairings::call(const Line& line, std::string step,
                                                            json::object payload,
                                                            std::chrono::seconds limit) {
    HttpsQuestion question;
    question.path = "/api/v1/pairing/" + step;
    question.time_limit = limit;
    question.body = json::serialize(seal(line.id, line.key, step + " request", payload));
    auto answer = co_await ask_https(line.target, std::move(question));
    if (!answer) co_return fail(answer.error());
    if (answer->status != 200) {
        co_return fail(code_of(answer->status), "{}:{}: {}", line.target.host, line.target.port,
                       detail_of(answer->body));
    }
    auto parsed = control::parse_json(answer->body);
    if (!parsed) co_return fail(parsed.error());
    auto sealed = parse_sealed(*parsed);
    if (!sealed) co_return fail(sealed.error());
    auto opened = open_sealed(*sealed, line.key, step + " answer");
    co_return opened;
}

Result<Pairing> Pairings::join(PairingAsked asked) {
    FT_TRY(const PairingCode code, parse_pairing_code(asked.code));
    FT_TRY_VOID(own_fingerprint());
    const auto join = std::make_shared<Join>();
    FT_TRY(join->plan, plan_of(asked));
    join->keys = PairingKeys::derive(code.secret, code.fingerprint);
    join->line.target.host = code.host;
    join->line.target.port = code.port;
    join->line.target.fingerprint = code.fingerprint;
    join->line.id = join->keys.id;
    join->line.key = join->keys.mac_key;
    join->asked = std::move(asked);
    join->asked.code.clear();
    for (const auto& [pair, pairing] : pairings_) {
        if (pairing.state == PairingState::joining) {
            return fail(Errc::busy, "'{}' is being paired; one at a time", pair);
        }
    }
    // Its name is learnt with the first answer; until then it is shown under the code's place.
    join->pair = kJoining;
    join->shown.pair = join->pair;
    join->shown.site = std::string(join->plan.site.view());
    join->shown.state = PairingState::joining;
    step(join->shown, "connect", PairingStep::State::running,
         fmt::format("asking {}:{}", code.host, code.port));
    auto task = run_join(join);
    boost::asio::co_spawn(executor_, std::move(task), boost::asio::detached);
    return join->shown;
}

boost::asio::awaitable<void> Pairings::run_join(std::shared_ptr<Join> join) {
    Result<> done = fail(Errc::io, "a defect of this program ended it");
    try {
        done = co_await join_steps(*join);
    } catch (const std::exception& error) {
        logger("web").error("pairing: {}", error.what());
    }
    if (done) co_return;
    join->shown.state = PairingState::failed;
    const std::string name = join->shown.steps.empty() ? "connect" : join->shown.steps.back().name;
    step(join->shown, name, PairingStep::State::failed, done.error().context);
    if (!files_.is_paired(join->pair)) files_.abandon(join->pair);
    logger("web").warn("pairing: {}", done.error().to_string());
}

boost::asio::awaitable<Result<>> Pairings::join_steps(Join& join) {
    auto greeted = co_await greet(join);
    if (!greeted) co_return fail(greeted.error());
    const std::string site(join.plan.site.view());
    auto trial =
        co_await try_tiebreaker(join.plan.tiebreaker, join.plan.credentials, site, join.pair);
    step(join.shown, "tiebreaker", trial.state, trial.text);
    if (trial.state == PairingStep::State::failed) {
        co_return fail(Errc::denied, "{}", trial.text);
    }
    auto tried = co_await try_line(join);
    if (!tried) co_return fail(tried.error());
    auto concluded = co_await conclude(join);
    co_return concluded;
}

namespace {

Result<> read_plan(const json::object& said, PairPlan& plan) {
    FT_TRY(const std::string site, text_of(said, "site", 40));
    FT_TRY(plan.peer_site, Name::parse(site, "site"));
    FT_TRY(const std::string pair, text_of(said, "pair", 40));
    FT_TRY(plan.pair, Name::parse(pair, "pair"));
    FT_TRY(const std::string address, text_of(said, "address", 64));
    boost::system::error_code error;
    plan.peer_address = boost::asio::ip::make_address(address, error).to_string();
    if (error) return fail(Errc::protocol, "the other site's message: address: is none");
    FT_TRY(const int64_t channel, number_of(said, "channel_port", 1, 65535));
    FT_TRY(const int64_t heartbeat, number_of(said, "heartbeat_port", 1, 65535));
    plan.peer_channel_port = static_cast<uint16_t>(channel);
    plan.peer_heartbeat_port = static_cast<uint16_t>(heartbeat);
    if (plan.tiebreaker.empty()) {
        FT_TRY(plan.tiebreaker, text_of(said, "tiebreaker", 300));
    }
    for (const char c : plan.tiebreaker) {
        if (c <= ' ' || c == '"' || c == '\\' || c == 0x7f) {
            return fail(Errc::protocol, "the other site's message: tiebreaker: is no address");
        }
    }
    plan.role = "backup";
    return {};
}

std::string skew_text(int64_t skew_ms) {
    if (std::abs(skew_ms) <= kSkewWarnMs) return "the clocks agree";
    return fmt::format("the clocks differ by {:.1f} s; set both by NTP",
                       static_cast<double>(skew_ms) / 1000);
}

}  // namespace

boost::asio::awaitable<Result<>> Pairings::greet(Join& join) {
    // The keys are made under a name of this site's own until the VM's is known.
    auto begin = [this] { return files_.begin(kJoining); };
    auto own_pub = co_await worker_.run<std::string>(executor_, std::move(begin));
    if (!own_pub) co_return fail(own_pub.error());
    auto fingerprint = own_fingerprint();
    if (!fingerprint) co_return fail(fingerprint.error());
    const int64_t asked_at = unix_ms_now();
    const std::chrono::seconds limit(15);
    auto payload = own_hello(join.plan, *own_pub, *fingerprint);
    auto said = co_await call(join.line, "hello", std::move(payload), limit);
    if (!said) co_return fail(said.error());
    if (auto read = read_plan(*said, join.plan); !read) co_return fail(read.error());
    const std::string pair(join.plan.pair.view());
    if (files_.is_paired(pair)) {
        co_return fail(Errc::already_exists, "'{}' is paired at this site already: {}", pair,
                       files_.path(pair, "pair.toml"));
    }
    auto definition = text_of(*said, "definition", 64 * 1024);
    auto heartbeat = text_of(*said, "heartbeat_key", 200);
    auto peer_pub = text_of(*said, "channel_pub", 200);
    auto pinned = text_of(*said, "page_fingerprint", 64);
    for (const auto* part : {&definition, &heartbeat, &peer_pub, &pinned}) {
        if (!*part) co_return fail(part->error());
    }
    if (auto fine = check_key_text("heartbeat_key", *heartbeat); !fine)
        co_return fail(fine.error());
    if (auto fine = check_key_text("channel_pub", *peer_pub); !fine) co_return fail(fine.error());
    if (auto moved = files_.adopt(kJoining, pair); !moved) co_return fail(moved.error());
    join.vm_json = *definition;
    join.heartbeat_key = *heartbeat;
    join.peer_channel_pub = *peer_pub;
    join.peer_fingerprint = *pinned;
    pairings_.erase(join.pair);
    auto forgotten = database_.run("DELETE FROM pairings WHERE pair=?", {join.pair});
    if (!forgotten) co_return fail(forgotten.error());
    join.pair = pair;
    join.shown.pair = pair;
    join.shown.peer_site = std::string(join.plan.peer_site.view());
    join.shown.tiebreaker = join.plan.tiebreaker;
    step(join.shown, "connect", PairingStep::State::good,
         fmt::format("{} offers '{}'", join.plan.peer_site, pair));
    auto their_time = number_of(*said, "time_unix_ms", 0, int64_t{1} << 52);
    if (!their_time) co_return fail(their_time.error());
    const int64_t skew = *their_time - (asked_at + unix_ms_now()) / 2;
    step(join.shown, "clocks",
         std::abs(skew) > kSkewWarnMs ? PairingStep::State::warning : PairingStep::State::good,
         skew_text(skew));
    co_return Result<>{};
}

boost::asio::awaitable<Result<>> Pairings::try_line(Join& join) {
    const PairPlan& plan = join.plan;
    step(join.shown, "line", PairingStep::State::running, "trying it in both directions");
    const std::string token = random_bytes(kLinkTokenBytes);
    if (echo_) echo_->stop();
    auto echo =
        LinkEcho::start(executor_, plan.own_address, plan.channel_port, plan.heartbeat_port, token);
    if (!echo) co_return fail(echo.error());
    echo_ = *echo;
    json::object payload;
    payload["token"] = to_hex(token);
    const std::chrono::seconds limit(25);
    auto theirs = co_await call(join.line, "probe", std::move(payload), limit);
    if (!theirs) co_return fail(theirs.error());
    auto report = co_await probe_link(plan.own_address, plan.peer_address, plan.peer_channel_port,
                                      plan.peer_heartbeat_port, token);
    echo_->stop();
    const LinkJudgment to = judge_link(report, plan.site.view(), plan.peer_site.view(),
                                       plan.peer_channel_port, plan.peer_heartbeat_port);
    const LinkJudgment from = judge_link(link_report_from(*theirs), plan.peer_site.view(),
                                         plan.site.view(), plan.channel_port, plan.heartbeat_port);
    const LinkVerdict worst = std::max(to.verdict, from.verdict);
    const std::string text = from.text + "; " + to.text;
    if (worst == LinkVerdict::broken) co_return fail(Errc::unreachable, "{}", text);
    step(join.shown, "line",
         worst == LinkVerdict::poor ? PairingStep::State::warning : PairingStep::State::good, text);
    co_return Result<>{};
}

// Nothing was put in place at either site before this; the other goes first, for it can be asked
// again.
boost::asio::awaitable<Result<>> Pairings::conclude(Join& join) {
    const std::string pair = join.pair;
    step(join.shown, "finish", PairingStep::State::running, "putting the pair's files in place");
    const auto prepared = [&]() -> Result<> {
        FT_TRY_VOID(files_.prepare(pair, "peer.pub", join.peer_channel_pub));
        FT_TRY_VOID(files_.prepare(pair, "heartbeat.key", join.heartbeat_key));
        FT_TRY_VOID(files_.prepare(pair, "pair.toml", pair_toml(join.plan)));
        if (!files_.definition(pair)) FT_TRY_VOID(files_.prepare(pair, "vm.json", join.vm_json));
        return {};
    };
    if (auto done = prepared(); !done) co_return fail(done.error());
    Result<json::object> finished = fail(Errc::closed, "not asked");
    for (int i = 0; i < kFinishTries && !finished; ++i) {
        json::object nothing;
        const std::chrono::seconds limit(10);
        finished = co_await call(join.line, "finish", std::move(nothing), limit);
    }
    if (!finished) co_return fail(finished.error());
    if (auto put = files_.finish(pair); !put) co_return fail(put.error());
    Pairing& shown = join.shown;
    shown.state = PairingState::paired;
    shown.lasting = to_hex(join.keys.lasting);
    shown.peer_host = join.line.target.host;
    shown.peer_port = join.line.target.port;
    shown.peer_fingerprint = join.peer_fingerprint;
    step(shown, "finish", PairingStep::State::good,
         fmt::format(
             "paired; put the VM's kernel and disks where {} names them, look at it with runuser "
             "-u antipode-replicator -- antipode-replicator check {}, and start it at both sites: "
             "systemctl enable "
             "--now antipode-replicator@{}; their first start makes the pair's record at the "
             "tiebreaker",
             files_.path(pair, "vm.json"), files_.path(pair), pair));
    logger("web").info("{} is paired with {}", pair, shown.peer_site);
    co_return Result<>{};
}

}  // namespace antipode::web
