#include "replicator/control/arbiter_client.h"

#include <algorithm>
#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <charconv>
#include <map>
#include <openssl/rand.h>

#include "common/base/log.h"
#include "common/base/random.h"
#include "common/env/posix/tls_stream.h"
#include "common/wire/arbiter_frames.h"

namespace antipode::control {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using env::TlsStream;
using wire::ArbiterFrame;

constexpr const char* kCutReason = "cut, as a rehearsal";
constexpr size_t kReadBytes = 4096;
constexpr std::chrono::milliseconds kWatchInterval(250);
constexpr std::chrono::seconds kFilesInterval(60);

struct HostPort {
    std::string host;
    std::string port;
};

Result<HostPort> split_address(std::string_view address) {
    const auto bad = [&](const char* why) {
        return fail(Errc::invalid_argument, "tiebreaker.address {}: {}", address, why);
    };
    const size_t colon = address.rfind(':');
    if (colon == std::string_view::npos) return bad("has no port, expected HOST:PORT");
    std::string_view host = address.substr(0, colon);
    const std::string_view port = address.substr(colon + 1);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return bad("an IPv6 address stands in brackets, [ADDRESS]:PORT");
    }
    uint16_t number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() || number == 0) {
        return bad("the port is no number from 1 to 65535");
    }
    if (host.empty()) return bad("has no host");
    return HostPort{std::string(host), std::string(port)};
}

uint64_t seed() {
    uint64_t value = 0;
    (void)RAND_bytes(reinterpret_cast<unsigned char*>(&value), sizeof(value));
    return value;
}

// What a peer says goes into logs and onto pages.
std::string printable(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c < ' ' || c == 0x7f; }, '?');
    return text;
}

}  // namespace

class ArbiterClient::Impl : public std::enable_shared_from_this<ArbiterClient::Impl> {
  public:
    Impl(asio::io_context& context, ArbiterClientSettings settings, HostPort target,
         Registry& registry, ArbiterClientEvents events)
        : settings_(std::move(settings)),
          target_(std::move(target)),
          events_(std::move(events)),
          context_(context),
          resolver_(context),
          socket_(context),
          pause_timer_(context),
          attempt_timer_(context),
          watch_timer_(context),
          random_(seed()),
          latency_(registry.histogram("antipode_tiebreaker_request_seconds",
                                      "Time from a request to its answer by the tiebreaker",
                                      delay_bounds_seconds())),
          reconnects_(registry.counter("antipode_tiebreaker_connections_total",
                                       "Connections made to the tiebreaker")) {}

    Result<> load_files();
    Result<> look_at_expiry();
    void start();
    void stop();
    void ask(const wire::Request& request, Handler handler);
    void set_line(Line line) {
        line_ = line;
        if (!running_) return;
        if (line == Line::cut) drop(kCutReason);
        if (line == Line::open) reconnect();
    }
    void reconnect() {
        if (!running_) return;
        pause_ = settings_.pause_min;
        drop("asked to connect again");
    }

    ArbiterClientSettings settings_;
    bool up_ = false;
    std::string last_error_ = "not started";
    wire::StoreIdentity store_;
    std::optional<Duration> round_trip_;
    std::optional<Instant> last_heard_;
    std::chrono::sys_seconds not_after_;

  private:
    struct Waiting {
        wire::Request request;
        Handler handler;  // empty: the answer is an event
        Instant asked;
        std::optional<Instant> sent;  // on this connection
    };

    // Connecting. Every handler of a connection carries the number of its attempt.
    void pause_then_connect();
    void connect();
    void on_resolved(const error_code& error, const tcp::resolver::results_type& endpoints);
    void on_connected(const error_code& error);
    void shake_hands();
    void greet();
    void drop(const std::string& reason);
    void watch();
    auto still(void (Impl::*next)()) {
        return [self = shared_from_this(), next, attempt = attempt_](const error_code& error) {
            if (attempt != self->attempt_ || error == asio::error::operation_aborted) return;
            ((*self).*next)();
        };
    }

    void send(uint64_t number, wire::ArbiterBody body);
    void flush();
    void read();
    bool take_frames();
    Result<> on_frame(ArbiterFrame frame);
    Result<> on_welcome(const ArbiterFrame& frame, const wire::ArbiterWelcome& welcome);
    Result<> on_answer(uint64_t number, const wire::Answer& answer);
    Result<> on_record(const ArbiterFrame& frame, const wire::ArbiterRecord& body);
    Result<> on_error(uint64_t number, const wire::ArbiterError& error);
    void finish(std::map<uint64_t, Waiting>::iterator waiting, Result<wire::Answer> result);
    bool of_pinned_store(wire::StoreIdentity store) const {
        return settings_.pinned_store == wire::StoreIdentity(0) || store == settings_.pinned_store;
    }
    // Copies: a callback may stop us, which forgets the callbacks.
    void emit_down() {
        if (const auto down = events_.down) down(std::string(last_error_));
    }
    void emit_answered(const wire::Answer& answer) {
        if (const auto answered = events_.answered) answered(answer);
    }
    void send_waiting(uint64_t number, Waiting& waiting);
    void watch_pair();
    bool make_room();

    const HostPort target_;
    ArbiterClientEvents events_;
    asio::io_context& context_;
    tcp::resolver resolver_;
    tcp::socket socket_;
    asio::steady_timer pause_timer_;
    asio::steady_timer attempt_timer_;
    asio::steady_timer watch_timer_;
    std::shared_ptr<asio::ssl::context> tls_context_;
    std::unique_ptr<TlsStream> tls_;
    wire::ArbiterFrameBuffer in_;
    std::string out_;
    bool writing_ = false;
    bool running_ = false;
    bool reported_down_ = false;
    uint64_t attempt_ = 0;
    std::chrono::milliseconds pause_{0};
    Line line_ = Line::open;
    Random random_;

    std::map<uint64_t, Waiting> waiting_;  // by number, so in the order asked
    uint64_t next_number_ = 1;
    uint64_t watch_number_ = 0;
    bool watching_ = false;     // or it is being asked for
    uint64_t ping_number_ = 0;  // 0: none is out
    Instant ping_sent_{};
    Instant looked_at_files_{};
    Histogram& latency_;
    Counter& reconnects_;
};

Result<> ArbiterClient::Impl::load_files() {
    const env::TlsFiles files{settings_.ca, settings_.crl, settings_.certificate, settings_.key};
    FT_TRY(auto made, env::make_mutual_tls(env::TlsRole::client, files));
    FT_TRY(const env::X509Pointer certificate, env::read_certificate(settings_.certificate));
    FT_TRY(const env::CertificateIdentity identity, env::identity_of(certificate.get()));
    if (identity.role != env::PeerRole::site || identity.name != settings_.me.site) {
        return fail(Errc::invalid_argument, "certificate {}: names {} {}, this is site {}",
                    settings_.certificate, to_string(identity.role), identity.name,
                    settings_.me.site);
    }
    FT_TRY_VOID(look_at_expiry());
    tls_context_ = std::move(made);
    return {};
}

// Of the files rather than of what this connection has shown: a renewed certificate is taken up by
// the next one, which is made when the tiebreaker ends this one, at the latest.
Result<> ArbiterClient::Impl::look_at_expiry() {
    looked_at_files_ = MonotonicClock::now();
    FT_TRY(const auto own, env::first_not_after(settings_.certificate));
    FT_TRY(const auto authority, env::first_not_after(settings_.ca));
    not_after_ = std::min(own, authority);
    return {};
}

void ArbiterClient::Impl::start() {
    if (running_) return;
    running_ = true;
    last_error_ = "connecting";
    pause_ = settings_.pause_min;
    asio::post(context_, [self = shared_from_this()] {
        if (self->running_) self->connect();
    });
}

void ArbiterClient::Impl::stop() {
    running_ = false;
    events_ = {};
    drop("stopped");
    pause_timer_.cancel();
    auto waiting = std::move(waiting_);
    waiting_.clear();
    for (auto& [number, one] : waiting) {
        if (one.handler) {
            one.handler(fail(Errc::closed, "tiebreaker {}: stopped", settings_.address));
        }
    }
}

void ArbiterClient::Impl::pause_then_connect() {
    const auto longest = static_cast<uint64_t>(pause_.count());
    pause_timer_.expires_after(
        std::chrono::milliseconds(random_.between(longest / 2, longest + longest / 2)));
    pause_ = std::min(pause_ * 2, settings_.pause_max);
    pause_timer_.async_wait(still(&Impl::connect));
}

void ArbiterClient::Impl::connect() {
    if (line_ == Line::cut) return drop(kCutReason);
    // Renewed certificates are taken up here; while they are being replaced the old ones do.
    if (auto loaded = load_files(); !loaded) {
        logger("arbiter_client").warn("{}", loaded.error().to_string());
    }
    attempt_timer_.expires_after(settings_.attempt_limit);
    attempt_timer_.async_wait(
        [self = shared_from_this(), attempt = attempt_](const error_code& error) {
            if (!error && attempt == self->attempt_) self->drop("no answer in time");
        });
    resolver_.async_resolve(target_.host, target_.port,
                            [self = shared_from_this(), attempt = attempt_](const error_code& error,
                                                                            const auto& endpoints) {
                                if (attempt != self->attempt_) return;
                                self->on_resolved(error, endpoints);
                            });
}

void ArbiterClient::Impl::on_resolved(const error_code& error,
                                      const tcp::resolver::results_type& endpoints) {
    if (error) return drop(error.message());
    asio::async_connect(socket_, endpoints,
                        [self = shared_from_this(), attempt = attempt_](const error_code& failed,
                                                                        const tcp::endpoint&) {
                            if (attempt == self->attempt_) self->on_connected(failed);
                        });
}

void ArbiterClient::Impl::on_connected(const error_code& error) {
    if (error) return drop(error.message());
    auto made =
        TlsStream::create(std::move(socket_), tls_context_, env::TlsRole::client, target_.host);
    socket_ = tcp::socket(context_);
    if (!made) return drop(made.error().context);
    tls_ = std::move(*made);
    shake_hands();
}

void ArbiterClient::Impl::shake_hands() {
    const auto needs = tls_->handshake();
    if (!needs) return drop(needs.error().context);
    if (*needs != TlsStream::Needs::nothing) return tls_->wait(*needs, still(&Impl::shake_hands));
    greet();
}

void ArbiterClient::Impl::greet() {
    const auto identity = tls_->peer_identity();
    if (!identity) return drop(identity.error().context);
    if (identity->role != env::PeerRole::tiebreaker) {
        return drop(fmt::format("its certificate is that of {} {}, not of a tiebreaker",
                                to_string(identity->role), identity->name));
    }
    send(0, wire::ArbiterHello{settings_.me.site});
    const uint64_t attempt = attempt_;
    flush();
    if (attempt == attempt_) read();
}

void ArbiterClient::Impl::drop(const std::string& reason) {
    ++attempt_;
    resolver_.cancel();
    error_code ignored;
    socket_.close(ignored);
    attempt_timer_.cancel();
    watch_timer_.cancel();
    pause_timer_.cancel();
    if (tls_) tls_->close();
    tls_.reset();
    in_ = {};
    out_.clear();
    writing_ = false;
    ping_number_ = 0;
    store_ = {};
    for (auto& [number, one] : waiting_) one.sent.reset();
    const bool was_up = std::exchange(up_, false);
    last_error_ = fmt::format("tiebreaker {}: {}", settings_.address, printable(reason));
    if (!running_) return;
    if (was_up) pause_ = settings_.pause_min;
    pause_then_connect();
    if (was_up || !std::exchange(reported_down_, true)) {
        logger("arbiter_client").warn("{}", last_error_);
        emit_down();
    }
}

void ArbiterClient::Impl::watch() {
    const Instant now = MonotonicClock::now();
    bool silent = ping_number_ != 0 && now - ping_sent_ > settings_.attempt_limit;
    for (const auto& [number, one] : waiting_) {
        silent = silent || (one.sent && now - *one.sent > settings_.attempt_limit);
    }
    if (silent) return drop("does not answer");
    // What cannot be read is being replaced: it is said with the next connection, if it stays so.
    if (now - looked_at_files_ >= kFilesInterval) (void)look_at_expiry();
    if (ping_number_ == 0 && now - ping_sent_ >= settings_.ping_interval) {
        ping_number_ = next_number_++;
        ping_sent_ = now;
        send(ping_number_, wire::ArbiterPing{});
        if (!watching_) watch_pair();
        const uint64_t attempt = attempt_;
        flush();
        if (attempt != attempt_) return;
    }
    watch_timer_.expires_after(std::min(kWatchInterval, settings_.attempt_limit / 4));
    watch_timer_.async_wait(still(&Impl::watch));
}

void ArbiterClient::Impl::send(uint64_t number, wire::ArbiterBody body) {
    wire::encode(ArbiterFrame{number, {}, std::move(body)}, out_);
}

void ArbiterClient::Impl::flush() {
    if (writing_) return;
    while (!out_.empty()) {
        const auto moved = tls_->write(out_);
        if (!moved) return drop(moved.error().context);
        if (moved->needs != TlsStream::Needs::nothing) {
            writing_ = true;
            const auto needs = moved->needs;
            tls_->wait(needs, [self = shared_from_this(), attempt = attempt_](const error_code&) {
                if (attempt != self->attempt_) return;
                self->writing_ = false;
                self->flush();
            });
            return;
        }
        out_.erase(0, moved->bytes);
    }
}

void ArbiterClient::Impl::read() {
    const uint64_t attempt = attempt_;
    while (true) {
        std::array<std::byte, kReadBytes> bytes;
        const auto moved = tls_->read(bytes);
        if (!moved) return drop(moved.error().context);
        if (moved->needs != TlsStream::Needs::nothing) {
            return tls_->wait(moved->needs, still(&Impl::read));
        }
        in_.append(std::span(bytes).first(moved->bytes));
        last_heard_ = MonotonicClock::now();
        if (!take_frames() || attempt != attempt_) return;
    }
}

// Whether the connection still stands.
bool ArbiterClient::Impl::take_frames() {
    const uint64_t attempt = attempt_;
    while (true) {
        auto next = in_.next();
        if (!next) {
            drop(next.error().context);
            return false;
        }
        if (!*next) return true;
        const auto handled = on_frame(std::move(**next));
        if (attempt != attempt_) return false;  // a callback has ended it
        if (!handled) {
            drop(handled.error().context);
            return false;
        }
    }
}

Result<> ArbiterClient::Impl::on_frame(ArbiterFrame frame) {
    if (const auto* error = std::get_if<wire::ArbiterError>(&frame.body)) {
        return on_error(frame.number, *error);
    }
    if (const auto* welcome = std::get_if<wire::ArbiterWelcome>(&frame.body)) {
        return on_welcome(frame, *welcome);
    }
    if (!up_) return fail(Errc::protocol, "{} before its welcome", to_string(frame.body));
    if (const auto* answer = std::get_if<wire::Answer>(&frame.body)) {
        return on_answer(frame.number, *answer);
    }
    if (const auto* record = std::get_if<wire::ArbiterRecord>(&frame.body)) {
        return on_record(frame, *record);
    }
    if (std::holds_alternative<wire::ArbiterPong>(frame.body)) {
        if (frame.number != ping_number_) return fail(Errc::protocol, "a pong for no ping of ours");
        ping_number_ = 0;
        round_trip_ = MonotonicClock::now() - ping_sent_;
        return {};
    }
    return fail(Errc::protocol, "{} is not for a client", to_string(frame.body));
}

Result<> ArbiterClient::Impl::on_welcome(const ArbiterFrame& frame,
                                         const wire::ArbiterWelcome& welcome) {
    if (up_) return fail(Errc::protocol, "a second welcome");
    if (frame.store == wire::StoreIdentity(0)) return fail(Errc::protocol, "a store without name");
    up_ = true;
    reported_down_ = false;
    store_ = frame.store;
    pause_ = settings_.pause_min;
    last_error_.clear();
    attempt_timer_.cancel();
    reconnects_.add();
    logger("arbiter_client")
        .info("connected to tiebreaker {} at {}, store {:016x}", welcome.tiebreaker,
              settings_.address, store_.value());
    ping_sent_ = MonotonicClock::now();
    if (!of_pinned_store(store_)) {
        last_error_ = fmt::format(
            "tiebreaker {}: its store is {:016x}, this pair is enrolled with {:016x}: it has lost "
            "its "
            "data or was restored; enrol again",
            settings_.address, store_.value(), settings_.pinned_store.value());
        logger("arbiter_client").error("{}", last_error_);
    }
    watch_pair();
    for (auto& [number, one] : waiting_) send_waiting(number, one);
    const uint64_t attempt = attempt_;
    flush();
    if (attempt != attempt_) return {};
    watch();
    if (const auto up = events_.up; up && attempt == attempt_) up(store_);
    return {};
}

Result<> ArbiterClient::Impl::on_answer(uint64_t number, const wire::Answer& answer) {
    const auto found = waiting_.find(number);
    if (found == waiting_.end()) return fail(Errc::protocol, "an answer to nothing we asked");
    if (answer.request != found->second.request) {
        return fail(Errc::protocol, "an answer to another request");
    }
    const bool enrols = answer.request.kind == wire::RequestKind::create;
    if (!of_pinned_store(answer.store) && !enrols) {
        const Errc code = Errc::denied;
        finish(found,
               fail(code, "tiebreaker {}: its store is {:016x}, this pair is enrolled with {:016x}",
                    settings_.address, answer.store.value(), settings_.pinned_store.value()));
        return {};
    }
    const Duration took = MonotonicClock::now() - found->second.asked;
    latency_.observe(std::chrono::duration<double>(took).count());
    finish(found, answer);
    return {};
}

Result<> ArbiterClient::Impl::on_record(const ArbiterFrame& frame,
                                        const wire::ArbiterRecord& body) {
    if (body.pair != settings_.pair) return fail(Errc::protocol, "a record of another pair");
    if (frame.number == watch_number_ && of_pinned_store(frame.store)) last_error_.clear();
    if (!of_pinned_store(frame.store)) return {};
    wire::Answer answer;
    answer.request.kind = wire::RequestKind::query;
    answer.request.pair = settings_.pair;
    answer.request.me = settings_.me;
    answer.store = frame.store;
    if (body.record) {
        const bool enrolled = body.record->store == frame.store;
        answer.kind = enrolled ? wire::AnswerKind::record : wire::AnswerKind::refused;
        answer.reason = enrolled ? wire::RefusalReason::none : wire::RefusalReason::wrong_store;
        answer.record = *body.record;
    } else {
        answer.kind = wire::AnswerKind::refused;
        answer.reason = wire::RefusalReason::unknown_pair;
    }
    emit_answered(answer);
    return {};
}

Result<> ArbiterClient::Impl::on_error(uint64_t number, const wire::ArbiterError& error) {
    if (number == 0) return fail(Errc::denied, "refuses the connection: {}", error.text);
    const auto found = waiting_.find(number);
    const std::string text =
        fmt::format("tiebreaker {}: {}", settings_.address, printable(error.text));
    if (found == waiting_.end()) {
        if (number != watch_number_) return fail(Errc::protocol, "an error for nothing we asked");
        // Asked for again with the next ping: the peer may not have enrolled the pair yet.
        watching_ = false;
        if (last_error_ != text) logger("arbiter_client").error("{}", text);
        last_error_ = text;
        return {};
    }
    if (!found->second.handler) {
        logger("arbiter_client").error("{}", text);
        last_error_ = text;
    }
    finish(found, fail(error.code, "{}", text));
    return {};
}

void ArbiterClient::Impl::finish(std::map<uint64_t, Waiting>::iterator waiting,
                                 Result<wire::Answer> result) {
    const Handler handler = std::move(waiting->second.handler);
    waiting_.erase(waiting);
    if (handler) {
        handler(std::move(result));
    } else if (result) {
        emit_answered(*result);
    }
}

void ArbiterClient::Impl::send_waiting(uint64_t number, Waiting& waiting) {
    waiting.sent = MonotonicClock::now();
    send(number, waiting.request);
}

void ArbiterClient::Impl::watch_pair() {
    watching_ = true;
    watch_number_ = next_number_++;
    send(watch_number_, wire::ArbiterWatch{settings_.pair, settings_.me});
}

// Drops the oldest request that nobody has a handler for.
bool ArbiterClient::Impl::make_room() {
    if (waiting_.size() < settings_.in_flight_max) return true;
    const auto oldest = std::find_if(waiting_.begin(), waiting_.end(), [](const auto& entry) {
        return !entry.second.handler && !entry.second.sent;
    });
    if (oldest == waiting_.end()) return false;
    waiting_.erase(oldest);
    return true;
}

void ArbiterClient::Impl::ask(const wire::Request& request, Handler handler) {
    if (!handler) {
        const bool waits = std::any_of(waiting_.begin(), waiting_.end(), [&](const auto& entry) {
            return !entry.second.handler && entry.second.request == request;
        });
        if (waits) return;
    }
    if (!make_room()) {
        if (!handler) return;  // the core asks again
        asio::post(context_, [handler = std::move(handler), max = settings_.in_flight_max] {
            handler(fail(Errc::limit, "tiebreaker: {} requests wait already", max));
        });
        return;
    }
    const uint64_t number = next_number_++;
    auto& waiting =
        waiting_.emplace(number, Waiting{request, std::move(handler), MonotonicClock::now(), {}})
            .first->second;
    if (!up_) return;
    send_waiting(number, waiting);
    if (writing_) return;
    // From the loop: a write that fails calls back.
    asio::post(context_, [self = shared_from_this(), attempt = attempt_] {
        if (attempt == self->attempt_) self->flush();
    });
}

ArbiterClient::ArbiterClient(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

ArbiterClient::~ArbiterClient() {
    impl_->stop();
}

Result<std::unique_ptr<ArbiterClient>> ArbiterClient::create(asio::io_context& context,
                                                             ArbiterClientSettings settings,
                                                             Registry& registry,
                                                             ArbiterClientEvents events) {
    FT_TRY(HostPort target, split_address(settings.address));
    auto impl = std::make_shared<Impl>(context, std::move(settings), std::move(target), registry,
                                       std::move(events));
    FT_TRY_VOID(impl->load_files());
    return std::unique_ptr<ArbiterClient>(new ArbiterClient(std::move(impl)));
}

void ArbiterClient::start() {
    impl_->start();
}
void ArbiterClient::stop() {
    impl_->stop();
}
void ArbiterClient::ask(const wire::Request& request) {
    impl_->ask(request, {});
}
void ArbiterClient::ask(const wire::Request& request, Handler handler) {
    impl_->ask(request, std::move(handler));
}
void ArbiterClient::pin(wire::StoreIdentity store) {
    impl_->settings_.pinned_store = store;
}
void ArbiterClient::set_line(Line line) {
    impl_->set_line(line);
}
void ArbiterClient::reconnect() {
    impl_->reconnect();
}
bool ArbiterClient::connected() const {
    return impl_->up_;
}
const std::string& ArbiterClient::last_error() const {
    return impl_->last_error_;
}
wire::StoreIdentity ArbiterClient::store() const {
    return impl_->store_;
}
std::optional<Duration> ArbiterClient::round_trip() const {
    return impl_->round_trip_;
}
std::chrono::sys_seconds ArbiterClient::certificate_not_after() const {
    return impl_->not_after_;
}
std::optional<Instant> ArbiterClient::last_heard() const {
    return impl_->last_heard_;
}

}  // namespace antipode::control
