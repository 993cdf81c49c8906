#include "web/hooks/hooks.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <fstream>

#include "common/base/log.h"
#include "web/child.h"
#include "web/http/https_client.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using SteadyClock = std::chrono::steady_clock;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr size_t kOutputBytesMax = 4096;
constexpr auto kFirstPause = std::chrono::seconds(2);
constexpr std::string_view kTestCode = "test";

bool wants(const HookSettings& hook, const PairEvent& event) {
    const auto has = [](const std::vector<std::string>& list, std::string_view text) {
        return std::find(list.begin(), list.end(), text) != list.end();
    };
    return has(hook.events, control::word(event.event.code)) &&
           (hook.pairs.empty() || has(hook.pairs, event.pair));
}

json::object payload(const HookSettings& hook, const PairEvent& event, const std::string& code) {
    json::object out;
    out["hook"] = hook.name;
    out["event"] = code;
    out["pair"] = event.pair;
    out["site"] = event.site;
    out["severity"] = control::word(event.event.severity);
    out["text"] = event.event.text;
    out["time_unix_ms"] = event.event.time_unix_ms;
    // The same event has the same pair of these, however often it is told.
    out["incarnation"] = fmt::format("{:016x}", event.incarnation.value());
    out["sequence"] = event.event.sequence;
    return out;
}

Result<std::string> read_secret(const std::string& path) {
    std::ifstream file(path);
    std::string secret;
    if (!(file >> secret)) return fail(Errc::io, "{}: holds no token that can be read", path);
    return secret;
}

}  // namespace

json::object to_json(const HookResult& result) {
    json::object out;
    out["id"] = result.id;
    out["hook"] = result.hook;
    out["pair"] = result.pair;
    out["site"] = result.site;
    out["event"] = result.code;
    out["attempt"] = result.attempt;
    out["outcome"] = result.outcome;
    out["text"] = result.text;
    out["output"] = result.output;
    out["began_unix_ms"] = result.began_unix_ms;
    out["took_ms"] = result.took_ms;
    return out;
}

json::object to_json(const HookSettings& hook) {
    json::object out;
    out["name"] = hook.name;
    json::array events(hook.events.begin(), hook.events.end());
    out["events"] = std::move(events);
    json::array pairs(hook.pairs.begin(), hook.pairs.end());
    out["pairs"] = std::move(pairs);
    out["target"] = hook.url.empty() ? hook.command.front() : hook.url;
    out["time_limit_seconds"] = static_cast<double>(hook.time_limit.count()) / 1000;
    out["attempts"] = hook.attempts;
    return out;
}

Hooks::Hooks(asio::any_io_executor executor, const std::vector<HookSettings>& settings,
             Database& database)
    : executor_(std::move(executor)), settings_(settings), database_(database) {
    for (size_t i = 0; i < settings_.size(); ++i) {
        queues_.push_back(std::make_unique<Queue>(executor_));
    }
}

Hooks::~Hooks() {
    worker_.join();
}

void Hooks::stop() {
    stopped_ = true;
    given_up_->store(true);
    for (const auto& queue : queues_) {
        queue->waiting.clear();
        queue->timer.cancel();
    }
}

void Hooks::see(const StoredEvent& stored) {
    const PairEvent& event = stored.event;
    for (size_t i = 0; i < settings_.size() && !stopped_; ++i) {
        if (!wants(settings_[i], event)) continue;
        Queue& queue = *queues_[i];
        const bool old = event.event.time_unix_ms < unix_ms_now() - kOldMs;
        if (old || queue.waiting.size() >= kQueuedMax) {
            HookResult dropped;
            dropped.hook = settings_[i].name;
            dropped.pair = event.pair;
            dropped.site = event.site;
            dropped.code = control::word(event.event.code);
            dropped.outcome = "dropped";
            dropped.text = old ? "learned of more than an hour late" : "too many wait";
            dropped.began_unix_ms = unix_ms_now();
            record(dropped);
            continue;
        }
        queue.waiting.push_back(event);
        if (queue.runs) continue;
        queue.runs = true;
        auto task = work(i);
        asio::co_spawn(executor_, std::move(task), [](const std::exception_ptr& thrown) {
            if (thrown) std::rethrow_exception(thrown);
        });
    }
}

asio::awaitable<void> Hooks::work(size_t index) {
    Queue& queue = *queues_[index];
    while (!queue.waiting.empty() && !stopped_) {
        PairEvent event = std::move(queue.waiting.front());
        queue.waiting.pop_front();
        co_await tell(index, std::move(event));
    }
    queue.runs = false;
}

asio::awaitable<void> Hooks::tell(size_t index, PairEvent event) {
    const HookSettings& hook = settings_[index];
    auto pause = std::chrono::duration_cast<std::chrono::milliseconds>(kFirstPause);
    for (int i = 1; i <= hook.attempts && !stopped_; ++i) {
        std::string code(control::word(event.event.code));
        HookResult result = co_await attempt(hook, event, std::move(code));
        result.attempt = i;
        record(result);
        if (result.outcome == "ok") co_return;
        if (i == hook.attempts) break;
        queues_[index]->timer.expires_after(pause);
        co_await queues_[index]->timer.async_wait(kToken);
        pause *= 2;
    }
    if (!stopped_) {
        logger("web").error("hook {}: {} of {} was not told in {} attempts", hook.name,
                            control::word(event.event.code), event.pair, hook.attempts);
    }
}

asio::awaitable<HookResult> Hooks::attempt(const HookSettings& hook, PairEvent event,
                                           std::string code) {
    HookResult result;
    result.hook = hook.name;
    result.pair = event.pair;
    result.site = event.site;
    result.code = std::move(code);
    result.began_unix_ms = unix_ms_now();
    const auto began = SteadyClock::now();
    if (hook.url.empty()) {
        co_await run_command(hook, event, result);
    } else {
        co_await call_webhook(hook, event, result);
    }
    result.took_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(SteadyClock::now() - began).count();
    co_return result;
}

asio::awaitable<void> Hooks::run_command(const HookSettings& hook, const PairEvent& event,
                                         HookResult& result) {
    ChildCommand command;
    command.argv = hook.command;
    command.time_limit = hook.time_limit;
    command.output_bytes_max = kOutputBytesMax;
    command.given_up = given_up_;
    const auto add = [&](std::string_view name, std::string value) {
        std::replace(value.begin(), value.end(), '\0', ' ');
        command.environment.push_back(std::string(name) + "=" + value);
    };
    add("ANTIPODE_HOOK", hook.name);
    add("ANTIPODE_EVENT", result.code);
    add("ANTIPODE_PAIR", event.pair);
    add("ANTIPODE_SITE", event.site);
    add("ANTIPODE_SEVERITY", std::string(control::word(event.event.severity)));
    add("ANTIPODE_TEXT", event.event.text);
    add("ANTIPODE_TIME_UNIX_MS", std::to_string(event.event.time_unix_ms));
    auto work = [command = std::move(command)] { return run_child(command); };
    auto ended = co_await worker_.run<ChildOutcome>(executor_, std::move(work));
    if (!ended) {
        result.outcome = "failed";
        result.text = ended.error().context;
        co_return;
    }
    result.outcome = ended->exit_code == 0 ? "ok" : "failed";
    result.text = ended->verdict();
    result.output = ended->output;
}

asio::awaitable<void> Hooks::call_webhook(const HookSettings& hook, const PairEvent& event,
                                          HookResult& result) {
    result.outcome = "failed";
    auto url = parse_https_url(hook.url);
    if (!url) {
        result.text = url.error().context;
        co_return;
    }
    HttpsQuestion question;
    question.path = url->path;
    question.time_limit = hook.time_limit;
    question.body = json::serialize(payload(hook, event, result.code));
    if (!hook.token_file.empty()) {
        auto token = read_secret(hook.token_file);
        if (!token) {
            result.text = token.error().context;
            co_return;
        }
        question.headers.emplace_back("Authorization", "Bearer " + *token);
    }
    HttpsTarget target = url->target;
    auto answer = co_await ask_https(std::move(target), std::move(question));
    if (!answer) {
        result.text = answer.error().context;
        co_return;
    }
    if (answer->status / 100 == 2) result.outcome = "ok";
    result.text = fmt::format("status {}", answer->status);
    result.output = control::printable(answer->body, kOutputBytesMax);
}

void Hooks::record(HookResult& result) {
    auto kept = database_.run(
        "INSERT INTO hook_runs (hook, pair, site, code, attempt, outcome, text, output, "
        "began_unix_ms, took_ms) VALUES (?,?,?,?,?,?,?,?,?,?)",
        {result.hook, result.pair, result.site, result.code, int64_t{result.attempt},
         result.outcome, result.text, result.output, result.began_unix_ms, result.took_ms});
    if (kept) {
        result.id = database_.last_row_id();
        kept = database_.run("DELETE FROM hook_runs WHERE id <= ?", {result.id - kKept});
    }
    if (!kept) logger("web").error("hook {}: {}", result.hook, kept.error().to_string());
    if (result.outcome != "ok") {
        logger("web").warn("hook {}: {} of {}: {} {}", result.hook, result.code, result.pair,
                           result.outcome, result.text);
    }
    if (on_result) on_result(result);
}

asio::awaitable<Result<HookResult>> Hooks::test(std::string name) {
    const auto found = std::find_if(settings_.begin(), settings_.end(),
                                    [&](const HookSettings& hook) { return hook.name == name; });
    if (found == settings_.end()) co_return fail(Errc::not_found, "there is no hook '{}'", name);
    PairEvent event;
    event.pair = found->pairs.empty() ? "example" : found->pairs.front();
    event.site = "test";
    event.event.text = "a test of this hook; nothing has happened";
    event.event.time_unix_ms = unix_ms_now();
    std::string code(kTestCode);
    HookResult result = co_await attempt(*found, std::move(event), std::move(code));
    record(result);
    co_return result;
}

Result<std::vector<HookResult>> Hooks::results(const Filter& filter) const {
    std::vector<HookResult> out;
    std::string where = "WHERE (?1 = 0 OR id < ?1)";
    std::vector<SqlValue> values{filter.before, filter.limit};
    if (filter.hook) {
        values.emplace_back(*filter.hook);
        where += " AND hook = ?3";
    }
    FT_TRY_VOID(database_.query(
        "SELECT id, hook, pair, site, code, attempt, outcome, text, output, began_unix_ms, took_ms "
        "FROM hook_runs " +
            where + " ORDER BY id DESC LIMIT ?2",
        values, [&](const SqlRow& row) {
            HookResult one;
            one.id = row.number(0);
            one.hook = row.text(1);
            one.pair = row.text(2);
            one.site = row.text(3);
            one.code = row.text(4);
            one.attempt = static_cast<int>(row.number(5));
            one.outcome = row.text(6);
            one.text = row.text(7);
            one.output = row.text(8);
            one.began_unix_ms = row.number(9);
            one.took_ms = row.number(10);
            out.push_back(std::move(one));
        }));
    return out;
}

}  // namespace antipode::web
