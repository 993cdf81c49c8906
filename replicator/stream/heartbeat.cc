#include "replicator/stream/heartbeat.h"

#include <array>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <charconv>
#include <deque>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "common/base/check.h"
#include "common/base/hex.h"
#include "common/base/log.h"
#include "replicator/stream/key_file.h"

namespace antipode::stream {
namespace {

namespace net = boost::asio;
using net::ip::udp;

constexpr int kDatagramsPerTurn = 64;
constexpr Duration kIntervalMin = std::chrono::milliseconds(1);

Result<udp::endpoint> parse_address(const std::string& text, const char* what) {
    const size_t colon = text.rfind(':');
    std::string_view host = std::string_view(text).substr(0, std::min(colon, text.size()));
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    boost::system::error_code error;
    const auto address = net::ip::make_address(host, error);
    uint16_t port = 0;
    const char* begin = text.data() + (colon == std::string::npos ? text.size() : colon + 1);
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(begin, end, port);
    if (error || begin == end || parsed.ec != std::errc() || parsed.ptr != end) {
        return fail(Errc::invalid_argument,
                    "heartbeat: {} address '{}' is not ADDRESS:PORT with a numeric address", what,
                    text);
    }
    return udp::endpoint(address, port);
}

std::string show(const udp::endpoint& endpoint) {
    const std::string host = endpoint.address().to_string();
    return endpoint.address().is_v6() ? fmt::format("[{}]:{}", host, endpoint.port())
                                      : fmt::format("{}:{}", host, endpoint.port());
}

struct PathMetrics {
    Gauge* rtt;
    Gauge* jitter;
    Gauge* loss;
    Counter* sent;
    Counter* received;
    Counter* dropped;
};

}  // namespace

class Heartbeat::Impl : public std::enable_shared_from_this<Heartbeat::Impl> {
  public:
    Impl(net::io_context& context, const HeartbeatConfig& config, HeartbeatCallback on_heartbeat)
        : tracker(config.key, config.pair, config.self, config.peer_site, config.paths.size()),
          interval_(std::max(config.interval, kIntervalMin)),
          on_heartbeat_(std::move(on_heartbeat)),
          timer_(context) {
        tracker.go_on_after(config.sequence_before);
    }

    Result<> open(net::io_context& context, const HeartbeatConfig& config);
    void begin();
    void close();

    HeartbeatTracker tracker;
    struct Path {
        udp::socket socket;
        udp::endpoint peer;
        std::optional<PathMetrics> metrics;
    };
    std::deque<Path> paths;
    Line line = Line::open;

  private:
    void wait(size_t path);
    void read(size_t path);
    void beat();
    void arm();
    void show_metrics(size_t path, const HeartbeatStats& before);

    const Duration interval_;
    HeartbeatCallback on_heartbeat_;
    net::steady_timer timer_;
    bool closed_ = false;
};

Result<> Heartbeat::Impl::open(net::io_context& context, const HeartbeatConfig& config) {
    for (const auto& wanted : config.paths) {
        FT_TRY(const udp::endpoint listen, parse_address(wanted.listen, "listen"));
        FT_TRY(const udp::endpoint peer, parse_address(wanted.peer, "peer"));
        udp::socket socket(context);
        boost::system::error_code error;
        socket.open(listen.protocol(), error);
        if (!error) socket.bind(listen, error);
        if (!error) socket.non_blocking(true, error);
        if (error) {
            return fail_errno(error.value(), "heartbeat: cannot listen on {}", wanted.listen);
        }
        paths.push_back({std::move(socket), peer, std::nullopt});
        if (config.metrics == nullptr) continue;
        const Registry::Labels labels{{"path", std::to_string(paths.size() - 1)}};
        Registry& r = *config.metrics;
        paths.back().metrics = PathMetrics{
            &r.gauge("antipode_heartbeat_round_trip_seconds", "Smoothed round trip", labels),
            &r.gauge("antipode_heartbeat_jitter_seconds", "Mean deviation of the round trip",
                     labels),
            &r.gauge("antipode_heartbeat_loss_ratio", "Of the last 256 heartbeats", labels),
            &r.counter("antipode_heartbeats_sent_total", "Heartbeats sent", labels),
            &r.counter("antipode_heartbeats_received_total", "Heartbeats that count", labels),
            &r.counter("antipode_heartbeats_dropped_total",
                       "Datagrams that are replayed, forged, or make no sense", labels)};
    }
    return {};
}

void Heartbeat::Impl::begin() {
    for (size_t i = 0; i < paths.size(); ++i) wait(i);
    timer_.expires_after(Duration::zero());
    arm();
}

void Heartbeat::Impl::close() {
    closed_ = true;
    timer_.cancel();
    boost::system::error_code ignored;
    for (auto& path : paths) path.socket.close(ignored);
}

void Heartbeat::Impl::arm() {
    timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        if (error || self->closed_) return;
        self->beat();
        // A loop that was held up does not make up for it with a burst.
        const auto now = net::steady_timer::clock_type::now();
        const auto next = self->timer_.expiry() + self->interval_;
        self->timer_.expires_at(next > now ? next : now + self->interval_);
        self->arm();
    });
}

void Heartbeat::Impl::beat() {
    tracker.next_sequence();
    if (line == Line::cut) return;
    for (size_t i = 0; i < paths.size(); ++i) {
        const auto bytes = tracker.packet(i, MonotonicClock::now());
        boost::system::error_code error;
        paths[i].socket.send_to(net::buffer(bytes.data(), bytes.size()), paths[i].peer, 0, error);
        if (error) tracker.send_failed(i);
        if (paths[i].metrics) paths[i].metrics->sent->add();
    }
}

void Heartbeat::Impl::wait(size_t path) {
    paths[path].socket.async_wait(
        udp::socket::wait_read,
        [self = shared_from_this(), path](const boost::system::error_code& error) {
            if (self->closed_ || error == net::error::operation_aborted) return;
            self->read(path);
            if (!self->closed_) self->wait(path);
        });
}

void Heartbeat::Impl::read(size_t path) {
    std::array<std::byte, wire::kHeartbeatBytes + 1> buffer;  // one more shows what is too long
    for (int i = 0; i < kDatagramsPerTurn && !closed_; ++i) {
        udp::endpoint from;
        boost::system::error_code error;
        const size_t size = paths[path].socket.receive_from(
            net::buffer(buffer.data(), buffer.size()), from, 0, error);
        if (error == net::error::would_block) return;
        if (line == Line::cut) continue;
        if (error) continue;  // for example a port unreachable that the peer's host has answered
        const HeartbeatStats before = tracker.path_stats(path);
        const auto event =
            tracker.received(path, std::span(buffer).first(size), MonotonicClock::now());
        show_metrics(path, before);
        if (event) on_heartbeat_(*event);
    }
}

void Heartbeat::Impl::show_metrics(size_t path, const HeartbeatStats& before) {
    if (!paths[path].metrics) return;
    const PathMetrics& metrics = *paths[path].metrics;
    const HeartbeatStats& now = tracker.path_stats(path);
    const auto seconds = [](Duration d) { return std::chrono::duration<double>(d).count(); };
    if (now.rtt) metrics.rtt->set(seconds(*now.rtt));
    if (now.jitter) metrics.jitter->set(seconds(*now.jitter));
    if (now.loss_ratio) metrics.loss->set(*now.loss_ratio);
    metrics.received->add(now.received - before.received);
    metrics.dropped->add(now.replayed + now.forged + now.garbage - before.replayed - before.forged -
                         before.garbage);
}

Heartbeat::Heartbeat(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

void Heartbeat::set_line(Line line) {
    impl_->line = line;
}

Heartbeat::~Heartbeat() {
    impl_->close();
}

Result<std::unique_ptr<Heartbeat>> Heartbeat::create(net::io_context& context,
                                                     HeartbeatConfig config,
                                                     HeartbeatCallback on_heartbeat) {
    if (config.paths.empty() || config.paths.size() > wire::kHeartbeatPathsMax) {
        return fail(Errc::invalid_argument, "heartbeat: {} paths, expected 1 to {}",
                    config.paths.size(), wire::kHeartbeatPathsMax);
    }
    auto impl = std::make_shared<Impl>(context, config, std::move(on_heartbeat));
    FT_TRY_VOID(impl->open(context, config));
    impl->begin();
    return std::unique_ptr<Heartbeat>(new Heartbeat(std::move(impl)));
}

void Heartbeat::set_epoch(Epoch epoch) {
    impl_->tracker.set_epoch(epoch);
}

uint64_t Heartbeat::sequence() const {
    return impl_->tracker.sequence();
}

HeartbeatStats Heartbeat::stats() const {
    return impl_->tracker.stats();
}

HeartbeatStats Heartbeat::path_stats(size_t path) const {
    return impl_->tracker.path_stats(path);
}

std::string Heartbeat::listen_address(size_t path) const {
    boost::system::error_code ignored;
    return show(impl_->paths[path].socket.local_endpoint(ignored));
}

Result<> Heartbeat::set_peer_address(size_t path, const std::string& address) {
    FT_TRY(impl_->paths[path].peer, parse_address(address, "peer"));
    return {};
}

// ---- Key files ----

Result<wire::HeartbeatKey> parse_heartbeat_key(std::string_view text, const std::string& origin) {
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
    wire::HeartbeatKey key;
    if (text.size() != 2 * key.size()) {
        return fail(Errc::invalid_argument, "{}: {} characters, expected {} hexadecimal digits",
                    origin, text.size(), 2 * key.size());
    }
    for (size_t i = 0; i < key.size(); ++i) {
        uint8_t value = 0;
        const char* begin = text.data() + 2 * i;
        const auto parsed = std::from_chars(begin, begin + 2, value, 16);
        if (parsed.ec != std::errc() || parsed.ptr != begin + 2) {
            return fail(Errc::invalid_argument, "{}: character {} is no hexadecimal digit", origin,
                        2 * i + 1 + static_cast<size_t>(parsed.ptr - begin));
        }
        key[i] = std::byte{value};
    }
    return key;
}

Result<wire::HeartbeatKey> load_heartbeat_key(const std::string& path) {
    FT_TRY(const std::string text, read_key_file(path, "heartbeat key", KeySecrecy::secret));
    return parse_heartbeat_key(text, path);
}

Result<wire::HeartbeatKey> write_new_heartbeat_key(const std::string& path) {
    wire::HeartbeatKey key;
    if (RAND_bytes(reinterpret_cast<unsigned char*>(key.data()), static_cast<int>(key.size())) !=
        1) {
        return fail(Errc::io, "heartbeat key {}: OpenSSL gives no random bytes", path);
    }
    FT_TRY_VOID(write_new_key_file(path, to_hex(key) + '\n', "heartbeat key", KeySecrecy::secret));
    return key;
}

}  // namespace antipode::stream
