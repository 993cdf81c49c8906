#include "web/fleet.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <filesystem>
#include <set>

#include "common/base/log.h"
#include "web/control_client.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;
using control::Method;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

spdlog::logger& log() {
    static spdlog::logger& instance = logger("web");
    return instance;
}

}  // namespace

int64_t unix_ms_now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::string pair_of(const View& view) {
    if (view.status && !view.status->pair.empty()) return view.status->pair;
    return fs::path(view.socket).stem().string();
}

// One question on a connection of its own, known to the fleet as long as it lasts.
class Fleet::Question {
  public:
    Question(Fleet& fleet, std::string path)
        : fleet_(fleet), client_(fleet.executor_, std::move(path)) {
        fleet_.questions_.insert(this);
    }
    ~Question() { fleet_.questions_.erase(this); }
    Question(const Question&) = delete;
    Question& operator=(const Question&) = delete;
    ControlClient& client() { return client_; }

  private:
    Fleet& fleet_;
    ControlClient client_;
};

// Asks one replicator for ever; its coroutine holds it.
class Fleet::Poller {
  public:
    Poller(Fleet& fleet, std::string id, std::string path)
        : fleet_(fleet), client_(fleet.executor_, path), timer_(fleet.executor_) {
        view_.id = std::move(id);
        view_.socket = std::move(path);
    }

    asio::awaitable<void> run() {
        while (!stopped_) {
            auto outcome = co_await session();
            if (stopped_) co_return;
            note_failure(outcome.error());
            co_await pause(std::chrono::seconds(1));
        }
    }

    void stop() {
        stopped_ = true;
        client_.close();
        timer_.cancel();
    }
    bool stopped() const { return stopped_; }
    View view_;
    std::deque<control::Sample> samples_;

  private:
    // Runs until something fails; never returns a value.
    asio::awaitable<Result<>> session() {
        Result<> done = co_await client_.connect();
        if (done) done = co_await read_history();
        while (done && !stopped_) {
            const auto started = std::chrono::steady_clock::now();
            done = co_await read_status();
            if (!done) break;
            const auto spent = std::chrono::steady_clock::now() - started;
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                fleet_.settings_.poll_interval - spent);
            co_await pause(std::max(left, std::chrono::milliseconds(10)));
        }
        if (!done) co_return done;
        co_return fail(Errc::closed, "stopped");
    }

    asio::awaitable<void> pause(std::chrono::milliseconds time) {
        timer_.expires_after(time);
        co_await timer_.async_wait(kToken);
    }

    asio::awaitable<Result<>> read_history();
    asio::awaitable<Result<>> read_status();
    asio::awaitable<Result<>> read_events();
    void take_sample(const control::Sample& sample);
    void take_event(const control::Event& event);
    void note_failure(const Error& error);

    Fleet& fleet_;
    ControlClient client_;
    asio::steady_timer timer_;
    uint64_t last_event_ = 0;
    Incarnation events_of_{0};
    bool stopped_ = false;
};

asio::awaitable<Result<>> Fleet::Poller::read_history() {
    control::HistoryRequest request;
    request.after_unix_ms = samples_.empty() ? 0 : samples_.back().time_unix_ms;
    auto answer = co_await client_.ask(Method::history, control::to_json(request));
    if (!answer) co_return fail(std::move(answer).error());
    auto reply = control::parse_history_reply(*answer);
    if (!reply) co_return fail(std::move(reply).error().within("history"));
    for (const control::Sample& sample : reply->samples) take_sample(sample);
    co_return Result<>{};
}

asio::awaitable<Result<>> Fleet::Poller::read_status() {
    auto answer = co_await client_.ask(Method::status, json::object());
    if (!answer) co_return fail(std::move(answer).error());
    auto status = control::parse_status(*answer);
    if (!status) co_return fail(std::move(status).error().within("status"));
    if (view_.status && view_.reachable && view_.status->state != status->state) {
        log().info("{} at {}: {} -> {} reason={}", status->pair, status->site,
                   control::word(view_.status->state), control::word(status->state),
                   status->reason);
    }
    if (!view_.reachable) log().info("{}: answers", view_.socket);
    view_.status = std::move(*status);
    view_.reachable = true;
    view_.error.clear();
    view_.seen_unix_ms = unix_ms_now();
    take_sample(control::sample_of(*view_.status));
    ++fleet_.revision_;
    co_return co_await read_events();
}

// The newest events ride in the status; the rest is fetched when some are missing.
asio::awaitable<Result<>> Fleet::Poller::read_events() {
    if (view_.status->incarnation != events_of_) {
        events_of_ = view_.status->incarnation;
        last_event_ = 0;
    }
    const auto& recent = view_.status->events;
    while (!recent.empty() && recent.front().sequence > last_event_ + 1) {
        control::EventsRequest request;
        request.after = last_event_;
        request.limit = control::kEventsPerReplyMax;
        auto answer = co_await client_.ask(Method::events, control::to_json(request));
        if (!answer) co_return fail(std::move(answer).error());
        auto reply = control::parse_events_reply(*answer);
        if (!reply) co_return fail(std::move(reply).error().within("events"));
        if (reply->events.empty()) break;
        for (const control::Event& event : reply->events) take_event(event);
    }
    const std::vector<control::Event> newest = view_.status->events;
    for (const control::Event& event : newest) take_event(event);
    if (fleet_.on_view) fleet_.on_view(view_);
    co_return Result<>{};
}

void Fleet::Poller::take_sample(const control::Sample& sample) {
    if (!samples_.empty() && sample.time_unix_ms <= samples_.back().time_unix_ms) return;
    if (samples_.size() >= fleet_.settings_.samples_max) samples_.pop_front();
    samples_.push_back(sample);
}

void Fleet::Poller::take_event(const control::Event& event) {
    if (event.sequence <= last_event_) return;
    last_event_ = event.sequence;
    if (!fleet_.on_event) return;
    const PairEvent made{pair_of(view_), view_.status ? view_.status->site : "", events_of_, event};
    fleet_.on_event(made);
}

void Fleet::Poller::note_failure(const Error& error) {
    client_.close();
    if (view_.reachable || view_.error.empty()) log().warn("{}", error.to_string());
    view_.reachable = false;
    view_.error = error.context;
    ++fleet_.revision_;
    if (fleet_.on_view) fleet_.on_view(view_);
}

Fleet::Fleet(asio::any_io_executor executor, FleetSettings settings)
    : executor_(std::move(executor)), settings_(std::move(settings)), scan_timer_(executor_) {}

Fleet::~Fleet() {
    stop();
}

void Fleet::start() {
    auto task = scan_loop();
    asio::co_spawn(executor_, std::move(task), [](const std::exception_ptr& thrown) {
        if (thrown) std::rethrow_exception(thrown);
    });
}

void Fleet::stop() {
    stopped_ = true;
    scan_timer_.cancel();
    for (const auto& [path, poller] : pollers_) poller->stop();
    for (Question* question : questions_) question->client().close();
}

asio::awaitable<void> Fleet::scan_loop() {
    while (!stopped_) {
        rescan();
        scan_timer_.expires_after(settings_.rescan_interval);
        const auto [error] = co_await scan_timer_.async_wait(kToken);
        if (error) co_return;  // stopped: this object may be gone
    }
}

// New sockets get a poller. A socket that is gone is forgotten if it never answered or was stopped
// on purpose; else it stays, as a site that no longer answers is exactly what an operator must see.
void Fleet::rescan() {
    std::set<std::string> present;
    for (const std::string& directory : settings_.directories) {
        std::error_code error;
        for (fs::directory_iterator at(directory, error), end; !error && at != end;
             at.increment(error)) {
            std::error_code ignored;
            if (at->path().extension() != ".sock" || !at->is_socket(ignored)) continue;
            present.insert(at->path().string());
            add(directory, at->path().string(), at->path().stem().string());
        }
        if (error && error != std::errc::no_such_file_or_directory) {
            log().warn("control sockets in {}: {}", directory, error.message());
        }
    }
    std::erase_if(pollers_, [&](const auto& entry) {
        const auto& [path, poller] = entry;
        const auto& status = poller->view_.status;
        const bool over = !status || status->state == control::State::stopped;
        if (present.contains(path) || !over) return false;
        poller->stop();
        ++revision_;
        return true;
    });
}

void Fleet::add(const std::string& directory, const std::string& path, const std::string& stem) {
    if (pollers_.contains(path)) return;
    if (pollers_.size() >= settings_.views_max) {
        log().warn("control socket {}: over the limit of {}, not watched", path,
                   settings_.views_max);
        return;
    }
    // A stem is unique in its directory; with several directories the directory's name goes first.
    std::string id = stem;
    if (settings_.directories.size() > 1) {
        id = fs::path(directory).filename().string() + "/" + stem;
    }
    auto poller = std::make_shared<Poller>(*this, std::move(id), path);
    pollers_.emplace(path, poller);
    ++revision_;
    auto task = poller->run();
    asio::co_spawn(executor_, std::move(task), [poller](const std::exception_ptr& thrown) {
        if (thrown) std::rethrow_exception(thrown);
    });
}

std::vector<std::string> Fleet::pairs() const {
    std::set<std::string> names;
    for (const auto& [path, poller] : pollers_) names.insert(pair_of(poller->view_));
    return {names.begin(), names.end()};
}

std::vector<const View*> Fleet::views(std::string_view pair) const {
    std::vector<const View*> out;
    for (const auto& [path, poller] : pollers_) {
        if (pair_of(poller->view_) == pair) out.push_back(&poller->view_);
    }
    return out;
}

std::vector<const View*> Fleet::all_views() const {
    std::vector<const View*> out;
    for (const auto& [path, poller] : pollers_) out.push_back(&poller->view_);
    return out;
}

const View* Fleet::find_view(std::string_view id) const {
    for (const auto& [path, poller] : pollers_) {
        if (poller->view_.id == id) return &poller->view_;
    }
    return nullptr;
}

control::HistoryReply Fleet::history(const View& view, int64_t after_unix_ms) const {
    control::HistoryReply reply;
    const auto found = pollers_.find(view.socket);
    if (found == pollers_.end()) return reply;
    for (const control::Sample& sample : found->second->samples_) {
        if (sample.time_unix_ms > after_unix_ms) reply.samples.push_back(sample);
    }
    return reply;
}

const control::Sample* Fleet::last_sample(const View& view) const {
    const auto found = pollers_.find(view.socket);
    if (found == pollers_.end() || found->second->samples_.empty()) return nullptr;
    return &found->second->samples_.back();
}

asio::awaitable<Result<json::value>> Fleet::ask(std::string socket, Method method,
                                                json::value params) {
    if (stopped_) co_return fail(Errc::closed, "this server is shutting down");
    Question question(*this, std::move(socket));
    co_return co_await question.client().ask(method, std::move(params));
}

}  // namespace antipode::web
