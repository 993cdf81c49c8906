#include "replicator/control/link_test.h"

#include <algorithm>
#include <array>
#include <boost/asio/steady_timer.hpp>
#include <cstring>
#include <random>

#include "common/base/random.h"
#include "common/failover/fault_detector.h"
#include "common/wire/checksum.h"
#include "replicator/stream/channel.h"
#include "replicator/stream/heartbeat.h"

namespace antipode::control {
namespace {

using stream::Channel;
using wire::MessageClass;

// Of the test's messages; all but `bulk` and `end_of_bulk` go as log, those as seed.
enum class Note : uint8_t {
    ready = 1,
    probe = 2,  // 8 bytes, comes back as echo
    echo = 3,
    your_turn = 4,  // to send bulk
    arrived = 5,    // u64: bytes a second, at the receiver
    finished = 6,
    bulk = 7,
    end_of_bulk = 8,
};

constexpr size_t kBulkBytes = 64 << 10;
constexpr uint64_t kAheadFirst = 2 << 20;  // of bulk that waits, before the rate is known
constexpr uint64_t kAheadMin = 512 << 10;
constexpr uint64_t kAheadMax = 32 << 20;
constexpr Duration kPumpInterval = std::chrono::milliseconds(2);
constexpr Duration kProbeInterval = std::chrono::milliseconds(20);
constexpr Duration kStuckAfter = std::chrono::seconds(60);
constexpr Duration kGoodbyePatience = std::chrono::seconds(3);
constexpr size_t kProbesMax = 100'000;

Duration quantile(std::vector<Duration> values, double q) {
    if (values.empty()) return {};
    const auto at = static_cast<size_t>(q * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(at), values.end());
    return values[at];
}

std::array<std::byte, 8> bytes_of(uint64_t value) {
    std::array<std::byte, 8> bytes;
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

std::optional<uint64_t> number_of(std::span<const std::byte> bytes) {
    uint64_t value = 0;
    if (bytes.size() != sizeof value) return std::nullopt;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

// How fast bulk arrives once the sender has found its pace: over the second half of its time.
class ArrivalMeter {
  public:
    void add(uint64_t bytes, Instant now) {
        total_ += bytes;
        if (points_.empty() || now - points_.back().at >= std::chrono::milliseconds(10)) {
            points_.push_back({now, total_});
        }
        last_ = {now, total_};
    }
    double bytes_per_second() const {
        if (points_.size() < 2) return 0;
        const Instant middle = points_.front().at + (last_.at - points_.front().at) / 2;
        const auto from = std::find_if(points_.begin(), points_.end(),
                                       [&](const Point& p) { return p.at >= middle; });
        if (from == points_.end() || last_.at <= from->at) return 0;
        return static_cast<double>(last_.total - from->total) /
               std::chrono::duration<double>(last_.at - from->at).count();
    }

  private:
    struct Point {
        Instant at;
        uint64_t total;
    };
    std::vector<Point> points_;
    Point last_{};
    uint64_t total_ = 0;
};

class Test final : private stream::ChannelHandler {
  public:
    Test(boost::asio::io_context& context, const PairConfig& pair, const LinkTestOptions& options)
        : context_(context),
          pair_(pair),
          options_(options),
          self_{pair.site, random_incarnation()},
          detector_(detector_config(), MonotonicClock::now()),
          phase_timer_(context),
          pump_timer_(context),
          probe_timer_(context),
          random_bytes_(kBulkBytes) {
        Random random(self_.incarnation.value());
        for (auto& byte : random_bytes_) byte = static_cast<std::byte>(random.next());
    }

    Result<> open();
    Result<LinkReport> run();

  private:
    static Incarnation random_incarnation() {
        std::random_device source;
        return Incarnation(uint64_t{source()} << 32 | source() | 1);
    }
    failover::FaultDetectorConfig detector_config() const {
        failover::FaultDetectorConfig config;
        config.interval = pair_.heartbeat_interval;
        return config;
    }
    bool leads() const { return pair_.site.view() < pair_.peer_site.view(); }

    void on_session_up(const Member& peer, std::span<const std::byte> hello) override;
    void on_session_down(const std::string& reason) override;
    void on_message(MessageClass message_class, uint8_t type, Epoch epoch,
                    std::span<const std::byte> payload) override;
    void on_writable() override {}
    void on_peer_refused(const std::string& reason) override {
        end(fail(Errc::denied, "{}", reason));
    }

    void say(Note note, std::span<const std::byte> payload = {});
    void heartbeat_seen(const stream::HeartbeatEvent& seen);
    void take_note(Note note, std::span<const std::byte> payload);
    void begin();
    void finish();
    void send_bulk();
    void pump();
    void probe();
    void wait_at_most(Duration time, const std::string& otherwise);
    void end(Result<> result);
    LinkReport report() const;

    boost::asio::io_context& context_;
    const PairConfig& pair_;
    const LinkTestOptions options_;
    const Member self_;
    failover::FaultDetector detector_;
    boost::asio::steady_timer phase_timer_;
    boost::asio::steady_timer pump_timer_;
    boost::asio::steady_timer probe_timer_;
    std::vector<std::byte> random_bytes_;
    std::unique_ptr<Channel> channel_;
    std::unique_ptr<stream::Heartbeat> heartbeat_;

    bool up_ = false;
    bool begun_ = false;
    bool bulk_flows_ = false;  // in either direction
    bool finished_ = false;
    Instant send_until_{};
    std::vector<Duration> quiet_;
    std::vector<Duration> loaded_;
    ArrivalMeter meter_;
    double out_rate_ = 0;
    double in_rate_ = 0;
    std::optional<Result<>> result_;
};

Result<> Test::open() {
    stream::ChannelConfig channel;
    channel.listen = pair_.channel_listen;
    channel.peer = pair_.channel_peer;
    FT_TRY(channel.own_keys, stream::load_curve_key_pair(pair_.channel_own_key));
    FT_TRY(channel.peer_key, stream::load_curve_public_key(pair_.channel_peer_key));
    // Another pair's number: a replicator at the other end has nothing to do with this.
    const PairId number(wire::xxh64("link-test " + std::string(pair_.pair.view())));
    channel.pair = number;
    channel.self = self_;
    channel.peer_site = pair_.peer_site;
    channel.software = ANTIPODE_VERSION;
    channel.capture_path = pair_.capture_path;
    channel.capture_bytes_max = pair_.capture_bytes_max;
    FT_TRY(channel_, Channel::create(context_, std::move(channel), *this));
    stream::HeartbeatConfig heartbeat;
    heartbeat.paths = {{pair_.heartbeat_listen, pair_.heartbeat_peer}};
    if (!pair_.second_heartbeat_listen.empty()) {
        heartbeat.paths.push_back({pair_.second_heartbeat_listen, pair_.second_heartbeat_peer});
    }
    FT_TRY(heartbeat.key, stream::load_heartbeat_key(pair_.heartbeat_key));
    heartbeat.pair = number;
    heartbeat.self = self_;
    heartbeat.peer_site = pair_.peer_site;
    heartbeat.interval = pair_.heartbeat_interval;
    FT_TRY(heartbeat_, stream::Heartbeat::create(
                           context_, std::move(heartbeat),
                           [this](const stream::HeartbeatEvent& seen) { heartbeat_seen(seen); }));
    return {};
}

Result<LinkReport> Test::run() {
    wait_at_most(options_.patience,
                 fmt::format("{} does not answer at {}. Is link-test running there now, and its "
                             "replicator stopped? Do both firewalls let TCP {} and UDP {} through? "
                             "Does each site hold the other's channel.pub?",
                             pair_.peer_site, pair_.channel_peer, pair_.channel_listen,
                             pair_.heartbeat_listen));
    while (!result_) {
        context_.restart();
        context_.run_one();
    }
    LinkReport made = report();
    channel_.reset();
    heartbeat_.reset();
    if (!*result_) return fail(std::move(*result_).error());
    return made;
}

void Test::wait_at_most(Duration time, const std::string& otherwise) {
    phase_timer_.expires_after(time);
    phase_timer_.async_wait([this, otherwise](const boost::system::error_code& error) {
        if (!error) end(fail(Errc::unreachable, "{}", otherwise));
    });
}

void Test::end(Result<> result) {
    if (result_) return;
    result_ = std::move(result);
    phase_timer_.cancel();
    pump_timer_.cancel();
    probe_timer_.cancel();
}

void Test::heartbeat_seen(const stream::HeartbeatEvent& seen) {
    if (seen.copy == stream::HeartbeatEvent::Copy::first) {
        detector_.heartbeat(seen.sequence, MonotonicClock::now());
    }
}

void Test::on_session_up(const Member& peer, std::span<const std::byte> hello) {
    (void)peer;
    (void)hello;
    up_ = true;
    if (channel_->session().start == stream::SessionStart::resumed) return;
    if (begun_) return end(fail(Errc::closed, "{} was started again", pair_.peer_site));
    say(Note::ready);
}

void Test::on_session_down(const std::string& reason) {
    up_ = false;
    if (finished_) return end({});
    // A line that breaks and comes back is a result, too; the channel goes on where it was.
    (void)reason;
}

void Test::on_message(MessageClass message_class, uint8_t type, Epoch epoch,
                      std::span<const std::byte> payload) {
    (void)message_class;
    (void)epoch;
    if (type == static_cast<uint8_t>(Note::bulk)) {
        bulk_flows_ = true;
        meter_.add(payload.size(), MonotonicClock::now());
        return;
    }
    take_note(static_cast<Note>(type), payload);
}

void Test::take_note(Note note, std::span<const std::byte> payload) {
    switch (note) {
        case Note::ready:
            if (!begun_) begin();
            return;
        case Note::probe:
            return say(Note::echo, payload);
        case Note::echo:
            if (const auto sent = number_of(payload)) {
                const Duration took = MonotonicClock::now().time_since_epoch() -
                                      Duration(static_cast<int64_t>(*sent));
                auto& list = bulk_flows_ ? loaded_ : quiet_;
                if (list.size() < kProbesMax) list.push_back(took);
            }
            return;
        case Note::your_turn:
            return send_bulk();
        case Note::end_of_bulk:
            in_rate_ = meter_.bytes_per_second();
            bulk_flows_ = false;
            return say(Note::arrived, bytes_of(static_cast<uint64_t>(in_rate_)));
        case Note::arrived:
            bulk_flows_ = false;
            if (const auto rate = number_of(payload)) out_rate_ = static_cast<double>(*rate);
            if (leads()) {
                wait_at_most(3 * options_.seconds + kStuckAfter,
                             fmt::format("bulk does not arrive from {}", pair_.peer_site));
                return say(Note::your_turn);
            }
            return finish();
        case Note::finished:
            return end({});
        default:
            return end(fail(Errc::protocol, "{} says {}, which is no part of the test",
                            pair_.peer_site, static_cast<int>(note)));
    }
}

// The other site ends when it hears this, and its goodbye ends us.
void Test::finish() {
    finished_ = true;
    say(Note::finished);
    phase_timer_.expires_after(kGoodbyePatience);
    phase_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) end({});
    });
}

void Test::say(Note note, std::span<const std::byte> payload) {
    if (!channel_) return;
    (void)channel_->send(MessageClass::log, static_cast<uint8_t>(note), Epoch(), payload);
}

void Test::begin() {
    begun_ = true;
    say(Note::ready);  // in case ours went to nobody
    probe();
    if (!leads()) {
        return wait_at_most(3 * options_.seconds + kStuckAfter,
                            fmt::format("{} has not gone on with the test", pair_.peer_site));
    }
    phase_timer_.expires_after(options_.seconds);
    phase_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) send_bulk();
    });
}

void Test::probe() {
    const auto now = static_cast<uint64_t>(MonotonicClock::now().time_since_epoch().count());
    if (up_) say(Note::probe, bytes_of(now));
    probe_timer_.expires_after(kProbeInterval);
    probe_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) probe();
    });
}

void Test::send_bulk() {
    bulk_flows_ = true;
    send_until_ = MonotonicClock::now() + options_.seconds;
    wait_at_most(3 * options_.seconds + kStuckAfter,
                 fmt::format("bulk does not arrive at {}", pair_.peer_site));
    pump();
}

// Keeps about a second of bulk waiting, so that the line is full and the end is near.
void Test::pump() {
    const auto rate = channel_->stats().bulk_delivery_bytes_per_second;
    const uint64_t ahead =
        rate ? std::clamp(static_cast<uint64_t>(*rate), kAheadMin, kAheadMax) : kAheadFirst;
    const bool over = MonotonicClock::now() >= send_until_;
    while (!over && up_ && channel_->unsent_bytes(MessageClass::seed) < ahead) {
        if (!channel_->send(MessageClass::seed, static_cast<uint8_t>(Note::bulk), Epoch(),
                            random_bytes_)) {
            break;
        }
    }
    if (over && channel_->send(MessageClass::seed, static_cast<uint8_t>(Note::end_of_bulk), Epoch(),
                               std::span<const std::byte>())) {
        return;
    }
    pump_timer_.expires_after(kPumpInterval);
    pump_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) pump();
    });
}

LinkReport Test::report() const {
    LinkReport made;
    made.site = pair_.site.view();
    made.peer_site = pair_.peer_site.view();
    made.peer_software = channel_->session().software;
    const auto path = [&](size_t index, const std::string& listen, const std::string& peer) {
        const auto stats = heartbeat_->path_stats(index);
        made.paths.push_back(
            {listen, peer, stats.rtt, stats.jitter, stats.loss_ratio, stats.clock_offset});
    };
    path(0, pair_.heartbeat_listen, pair_.heartbeat_peer);
    if (!pair_.second_heartbeat_listen.empty()) {
        path(1, pair_.second_heartbeat_listen, pair_.second_heartbeat_peer);
    }
    made.quiet_p50 = quantile(quiet_, 0.5);
    made.quiet_p99 = quantile(quiet_, 0.99);
    made.loaded_p50 = quantile(loaded_, 0.5);
    made.loaded_p99 = quantile(loaded_, 0.99);
    made.out_bytes_per_second = out_rate_;
    made.in_bytes_per_second = in_rate_;
    made.detection = detector_.limit();
    made.reconnects = channel_->stats().reconnects;
    return made;
}

}  // namespace

Result<LinkReport> run_link_test(boost::asio::io_context& context, const PairConfig& pair,
                                 const LinkTestOptions& options) {
    Test test(context, pair, options);
    FT_TRY_VOID(test.open());
    return test.run();
}

}  // namespace antipode::control
