#include "replicator/stream/zmq_thread.h"

#include <algorithm>
#include <cerrno>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/overloaded.h"

namespace antipode::stream {
namespace {

constexpr size_t kCommandsMax = 16384;
constexpr size_t kEventsMax = 16384;
constexpr int kFramesPerTurn = 256;
constexpr int kSentPerTurn = 64;
constexpr Duration kPublishInterval = std::chrono::milliseconds(50);
constexpr Duration kRateInterval = std::chrono::seconds(1);
constexpr Duration kLogInterval = std::chrono::seconds(5);
constexpr Duration kGoodbyeLinger = std::chrono::milliseconds(200);
constexpr Duration kFullSocketWait = std::chrono::milliseconds(1);
constexpr Duration kWaitMax = std::chrono::milliseconds(500);
constexpr Duration kLevelInterval = std::chrono::milliseconds(200);

}  // namespace

Result<WakeUp> WakeUp::create() {
    UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return fail_errno(errno, "eventfd");
    return WakeUp(std::move(fd));
}

void WakeUp::notify() {
    if (notified_.exchange(true)) return;
    const uint64_t one = 1;
    // Cannot be full: it is read before it is written again.
    (void)!::write(fd_.get(), &one, sizeof one);
}

void WakeUp::clear() {
    uint64_t count = 0;
    (void)!::read(fd_.get(), &count, sizeof count);
    notified_.store(false);
}

Result<std::unique_ptr<ZmqThread>> ZmqThread::start(Config config, std::unique_ptr<ZmqLink> link) {
    FT_TRY(WakeUp to_thread, WakeUp::create());
    FT_TRY(WakeUp to_core, WakeUp::create());
    return std::unique_ptr<ZmqThread>(new ZmqThread(std::move(config), std::move(link),
                                                    std::move(to_thread), std::move(to_core)));
}

ZmqThread::ZmqThread(Config config, std::unique_ptr<ZmqLink> link, WakeUp to_thread, WakeUp to_core)
    : link_(std::move(link)),
      session_(config.session),
      send_bytes_max_(config.send_bytes_max),
      capture_(std::move(config.capture)),
      peer_site_(config.session.peer_site.view()),
      to_thread_(std::move(to_thread)),
      to_core_(std::move(to_core)),
      commands_(kCommandsMax),
      events_(kEventsMax) {
    if (config.metrics != nullptr) metrics_.emplace(*config.metrics);
    for (size_t i = 0; i < wire::kMessageClassCount; ++i) {
        wake_step_[i] = std::max<uint64_t>(config.session.receive_bytes_max[i] / 8, 1);
    }
    set_bulk_level(level_control_.level());
    thread_ = std::thread([this] { run(); });
}

ZmqThread::~ZmqThread() {
    stopping_.store(true);
    to_thread_.notify();
    thread_.join();
}

// ---- Core thread ----

ZmqThread::Admitted ZmqThread::admit(MessageClass message_class, size_t size) {
    const size_t index = wire::index_of(message_class);
    const auto has_room = [&] {
        const uint64_t before = unsent_[index].load();
        return (before == 0 || before + size <= send_bytes_max_[index]) &&
               commands_.count() < commands_.capacity();
    };
    if (has_room()) return Admitted::yes;
    refused_[index].store(true);
    // The thread may have made room before it could see that somebody waits for it.
    if (has_room()) {
        refused_[index].store(false);
        return Admitted::yes;
    }
    to_thread_.notify();
    return Admitted::no;
}

void ZmqThread::submit(OutgoingMessage message, uint64_t generation) {
    unsent_[wire::index_of(message.message_class)].fetch_add(message.payload.size());
    Command command = Submission{std::move(message), generation};
    const bool pushed = commands_.push(std::move(command));
    FT_CHECK(pushed, "there was room for a command");
    to_thread_.notify();
}

void ZmqThread::consumed(MessageClass message_class, uint64_t total_cost) {
    const size_t index = wire::index_of(message_class);
    consumed_[index].store(total_cost, std::memory_order_release);
    if (total_cost - woken_for_[index] < wake_step_[index]) return;
    woken_for_[index] = total_cost;
    to_thread_.notify();
}

bool ZmqThread::order(std::function<void(Session&, Instant)> order) {
    Command command = std::move(order);
    const bool pushed = commands_.push(std::move(command));
    to_thread_.notify();
    return pushed;
}

void ZmqThread::set_line(Line line) {
    line_.store(line);
    to_thread_.notify();
}

std::optional<ThreadEvent> ZmqThread::take_event() {
    auto event = events_.pop();
    if (event && core_owes_wake_.load() && core_owes_wake_.exchange(false)) to_thread_.notify();
    return event;
}

uint64_t ZmqThread::unsent_bytes(MessageClass message_class) const {
    return unsent_[wire::index_of(message_class)].load();
}

ChannelStats ZmqThread::stats() const {
    const std::lock_guard lock(stats_mutex_);
    return stats_;
}

// ---- ZeroMQ thread ----

void ZmqThread::run() {
    (void)prctl(PR_SET_NAME, "channel");
    Instant now = MonotonicClock::now();
    rate_since_ = level_since_ = turn_end_ = now;
    bool busy = false;
    while (!stopping_.load()) {
        Instant deadline = std::min(session_.deadline(now), now + kWaitMax);
        if (unpublished_) deadline = std::min(deadline, next_publish_);
        Duration timeout = busy ? Duration::zero() : std::max(deadline - now, Duration::zero());
        const Line line = line_.load();
        link_->set_line(line);
        // What is due cannot leave while a socket is full, or the line is cut; room wakes us.
        if (stash_[0] || stash_[1] || line == Line::cut)
            timeout = std::max(timeout, kFullSocketWait);
        link_->wait(to_thread_.fd(), {stash_[0].has_value(), stash_[1].has_value()}, timeout);
        now = MonotonicClock::now();
        if (bulk_waits_) bulk_held_ += now - turn_end_;
        to_thread_.clear();
        take_link_events(now);
        busy = take_frames(now);
        take_commands(now);
        session_.tick(now);
        busy = pump(now) || busy;
        release();
        hand_events();
        report_garbage(now);
        tune_compression(now);
        publish(now);
        now = turn_end_ = MonotonicClock::now();
    }
    say_goodbye();
    link_.reset();
}

void ZmqThread::say_goodbye() {
    take_commands(MonotonicClock::now());
    session_.say_goodbye("shut down");
    (void)pump(MonotonicClock::now());
    if (connected_[0]) link_->set_linger(kGoodbyeLinger);
}

void ZmqThread::take_link_events(Instant now) {
    auto& log = logger("stream");
    while (auto event = link_->next_event()) {
        std::visit(Overloaded{
                       [&](const LaneConnected& connected) {
                           const auto index = static_cast<size_t>(connected.lane);
                           stash_[index].reset();  // it was for a connection that is gone
                           connected_[index] = true;
                           session_.lane_connected(connected.lane, now);
                       },
                       [&](const LaneLost& lost) {
                           const auto index = static_cast<size_t>(lost.lane);
                           connected_[index] = false;
                           stash_[index].reset();
                           // What the peer said before it went comes first: a goodbye has a reason.
                           (void)take_frames(now);
                           log.info("{}: {}", peer_site_, lost.reason);
                           session_.lane_lost(lost.lane, lost.reason, now);
                       },
                       [&](const KeyRefused& refused) {
                           ++session_.mutable_stats().refused_keys;
                           if (now < next_key_line_) return;
                           next_key_line_ = now + kLogInterval;
                           log.warn("{}", refused.text);
                       },
                       [&](const HandshakeFailed& failed) { log.error("{}", failed.text); },
                   },
                   *event);
    }
}

bool ZmqThread::take_frames(Instant now) {
    for (int i = 0; i < kFramesPerTurn; ++i) {
        const auto frame = link_->receive();
        if (!frame) return false;
        if (capture_) capture_->write(Direction::received, 0, frame->view(), now);
        session_.received(*frame, now);
    }
    return true;
}

void ZmqThread::take_commands(Instant now) {
    while (auto command = commands_.pop()) {
        if (auto* order = std::get_if<std::function<void(Session&, Instant)>>(&*command)) {
            (*order)(session_, now);
            continue;
        }
        auto& submission = std::get<Submission>(*command);
        if (submission.generation == session_.generation()) {
            session_.submit(std::move(submission.message), now);
        } else {
            const OutgoingMessage& message = submission.message;
            unsent_[wire::index_of(message.message_class)].fetch_sub(message.payload.size());
        }
    }
    for (const MessageClass c : wire::kMessageClasses) {
        session_.consumed(c, consumed_[wire::index_of(c)].load(std::memory_order_acquire), now);
    }
}

bool ZmqThread::pump(Instant now) {
    bool more = false;
    if (connected_[static_cast<size_t>(Lane::urgent)]) more = pump_lane(Lane::urgent, now);
    bulk_waits_ = false;
    if (!connected_[static_cast<size_t>(Lane::bulk)]) return more;
    const uint64_t before = session_.stats().frames_sent;
    const Instant begin = MonotonicClock::now();
    more = pump_lane(Lane::bulk, now) || more;
    if (session_.stats().frames_sent != before) bulk_busy_ += MonotonicClock::now() - begin;
    bulk_waits_ = session_.bulk_held() || stash_[static_cast<size_t>(Lane::bulk)].has_value();
    return more;
}

void ZmqThread::tune_compression(Instant now) {
    const Duration passed = now - level_since_;
    if (passed < kLevelInterval) return;
    const auto part = [&](Duration of) {
        return std::chrono::duration<double>(of) / std::chrono::duration<double>(passed);
    };
    const uint64_t payload = session_.stats().of(MessageClass::resync).payload_bytes_sent +
                             session_.stats().of(MessageClass::seed).payload_bytes_sent;
    const double seconds = std::chrono::duration<double>(passed).count();
    const int before = level_control_.level();
    const int level =
        level_control_.look({part(bulk_busy_), part(bulk_held_),
                             static_cast<double>(payload - level_payload_) / seconds});
    level_since_ = now;
    level_payload_ = payload;
    bulk_busy_ = bulk_held_ = {};
    if (level == before) return;
    set_bulk_level(level);
}

void ZmqThread::set_bulk_level(int level) {
    session_.set_compression_level(MessageClass::resync, level);
    session_.set_compression_level(MessageClass::seed, level);
}

// True when the turn was over before the work was.
bool ZmqThread::pump_lane(Lane lane, Instant now) {
    auto& stash = stash_[static_cast<size_t>(lane)];
    const auto index = static_cast<uint8_t>(lane);
    for (int i = 0; i < kSentPerTurn; ++i) {
        if (!stash) stash = session_.next_frame(lane, now);
        if (!stash) return false;
        if (link_->send(lane, *stash) == ZmqLink::Sent::no) return false;
        if (capture_) capture_->write(Direction::sent, index, stash->view(), now);
        ChannelStats& stats = session_.mutable_stats();
        ++stats.frames_sent;
        stats.wire_bytes_sent += stash->size;
        stash.reset();
    }
    return true;
}

void ZmqThread::release() {
    for (const MessageClass c : wire::kMessageClasses) {
        const size_t index = wire::index_of(c);
        if (const uint64_t released = session_.take_released(c); released > 0) {
            unsent_[index].fetch_sub(released);
        }
        if (!refused_[index].load()) continue;
        const bool room = unsent_[index].load() <= send_bytes_max_[index] / 2 &&
                          commands_.count() <= commands_.capacity() / 2;
        if (!room || !refused_[index].exchange(false)) continue;
        // A full queue of events has the core busy anyway: it comes back to this.
        ThreadEvent event = Writable{c};
        if (events_.push(std::move(event))) {
            to_core_.notify();
        } else {
            refused_[index].store(true);
            core_owes_wake_.store(true);
        }
    }
}

void ZmqThread::hand_events() {
    bool handed = false;
    for (;;) {
        if (!waiting_event_) {
            auto event = session_.next_event();
            if (!event) break;
            waiting_event_ = std::visit([](auto&& what) -> ThreadEvent { return std::move(what); },
                                        std::move(*event));
        }
        if (!events_.push(std::move(*waiting_event_))) {
            core_owes_wake_.store(true);
            // It may have taken everything just before it could see that.
            if (!events_.push(std::move(*waiting_event_))) break;
        }
        waiting_event_.reset();
        handed = true;
    }
    if (handed) to_core_.notify();
}

void ZmqThread::report_garbage(Instant now) {
    const uint64_t count = session_.stats().garbage_frames;
    if (count == garbage_told_ || now < next_garbage_line_) return;
    logger("stream").error("{} sent {} frames that make no sense, the last: {}", peer_site_,
                           count - garbage_told_, session_.last_garbage());
    garbage_told_ = count;
    next_garbage_line_ = now + kLogInterval;
}

void ZmqThread::publish(Instant now) {
    unpublished_ = unpublished_ || session_.stats().frames_sent != published_sent_ ||
                   session_.stats().frames_received != published_received_;
    if (now < next_publish_) return;
    next_publish_ = now + kPublishInterval;
    unpublished_ = false;
    published_sent_ = session_.stats().frames_sent;
    published_received_ = session_.stats().frames_received;
    session_.fill_stats();
    ChannelStats& stats = session_.mutable_stats();
    if (now - rate_since_ >= kRateInterval) {
        const double seconds = std::chrono::duration<double>(now - rate_since_).count();
        stats.sent_bytes_per_second =
            static_cast<double>(stats.wire_bytes_sent - rate_sent_) / seconds;
        stats.received_bytes_per_second =
            static_cast<double>(stats.wire_bytes_received - rate_received_) / seconds;
        rate_since_ = now;
        rate_sent_ = stats.wire_bytes_sent;
        rate_received_ = stats.wire_bytes_received;
    }
    for (const MessageClass c : wire::kMessageClasses) {
        stats.of(c).waiting_bytes = unsent_[wire::index_of(c)].load();
    }
    stats.bulk_compression_level = level_control_.level();
    if (metrics_) metrics_->set(stats);
    const std::lock_guard lock(stats_mutex_);
    stats_ = stats;
}

}  // namespace antipode::stream
