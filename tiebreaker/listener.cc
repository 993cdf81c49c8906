#include "tiebreaker/listener.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <charconv>
#include <map>
#include <thread>
#include <utility>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "tiebreaker/rate_limit.h"

namespace antipode::tiebreaker {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using env::TlsStream;

constexpr std::chrono::milliseconds kSweepInterval(250);
constexpr std::chrono::milliseconds kAcceptPause(100);

}  // namespace

Result<tcp::endpoint> listen_endpoint(std::string_view listen) {
    const auto bad = [&](const char* why) {
        return fail(Errc::invalid_argument, "listen {}: {}", listen, why);
    };
    const size_t colon = listen.rfind(':');
    if (colon == std::string_view::npos) return bad("has no port, expected ADDRESS:PORT");
    std::string_view host = listen.substr(0, colon);
    const std::string_view port = listen.substr(colon + 1);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    error_code error;
    const auto address = asio::ip::make_address(std::string(host), error);
    if (error) return bad("is no address (0.0.0.0 stands for all of them)");
    uint16_t number = 0;
    const auto [end, failed] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (failed != std::errc() || end != port.data() + port.size()) {
        return bad("the port is no number up to 65535");
    }
    return tcp::endpoint(address, number);
}

std::string handshake_origin(const asio::ip::address& address) {
    if (address.is_v4()) return address.to_string();
    const asio::ip::address_v6 six = address.to_v6();
    if (six.is_v4_mapped()) {
        return asio::ip::make_address_v4(asio::ip::v4_mapped, six).to_string();
    }
    asio::ip::address_v6::bytes_type bytes = six.to_bytes();
    std::fill(bytes.begin() + 8, bytes.end(), static_cast<unsigned char>(0));
    return asio::ip::address_v6(bytes).to_string();
}

class Listener::Impl : public std::enable_shared_from_this<Listener::Impl> {
  public:
    Impl(asio::io_context& core, std::shared_ptr<asio::ssl::context> tls,
         const ListenerSettings& settings, Registry& registry, std::function<bool()> full,
         Ready ready)
        : settings_(settings),
          core_(core),
          acceptor_(loop_),
          sweep_timer_(loop_),
          pause_timer_(loop_),
          tls_(std::move(tls)),
          full_(std::move(full)),
          ready_(std::move(ready)),
          done_(registry.counter("antipode_tiebreaker_handshakes_total", "TLS handshakes by result",
                                 {{"result", "done"}})),
          failed_(registry.counter("antipode_tiebreaker_handshakes_total",
                                   "TLS handshakes by result", {{"result", "failed"}})),
          cut_(registry.counter("antipode_tiebreaker_handshakes_total", "TLS handshakes by result",
                                {{"result", "cut"}})) {}

    Result<> open();
    void run();
    void stop();

    const ListenerSettings settings_;
    asio::io_context loop_{1};
    asio::io_context& core_;
    tcp::acceptor acceptor_;
    asio::steady_timer sweep_timer_;
    asio::steady_timer pause_timer_;
    std::shared_ptr<asio::ssl::context> tls_;
    std::thread thread_;

  private:
    struct Handshake {
        std::unique_ptr<TlsStream> stream;
        std::string origin;  // handshake_origin()
        Instant since;
    };

    void accept();
    void on_accepted(tcp::socket socket);
    void go_on(uint64_t number);
    void finish(uint64_t number);
    void cut(uint64_t number, const std::string& reason, Counter& counter);
    void say_why(const std::string& address, const std::string& reason);
    void make_room();
    void sweep();

    std::function<bool()> full_;
    Ready ready_;
    std::map<uint64_t, Handshake> handshakes_;  // by number, in the order of their beginning
    std::map<std::string, size_t> by_origin_;
    uint64_t next_number_ = 1;
    TokenBucket lines_{1, 20,
                       MonotonicClock::now()};  // anybody may fail here, as often as he likes
    uint64_t lines_left_out_ = 0;
    Counter& done_;
    Counter& failed_;
    Counter& cut_;
};

Result<> Listener::Impl::open() {
    FT_TRY(const tcp::endpoint endpoint, listen_endpoint(settings_.listen));
    error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(4096, error);
    if (error) return fail_errno(error.value(), "listen {}", settings_.listen);
    return {};
}

void Listener::Impl::run() {
    accept();
    sweep();
    loop_.run();
}

void Listener::Impl::accept() {
    acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
        if (error == asio::error::operation_aborted) return;
        if (error) {  // most likely out of descriptors: what ends frees some
            logger("tiebreaker").error("accepting a connection: {}", error.message());
            pause_timer_.expires_after(kAcceptPause);
            pause_timer_.async_wait([this](const error_code& ended) {
                if (!ended) accept();
            });
            return;
        }
        on_accepted(std::move(socket));
        accept();
    });
}

void Listener::Impl::on_accepted(tcp::socket socket) {
    if (full_()) {
        cut_.add();
        return;
    }
    error_code gone;
    std::string origin = handshake_origin(socket.remote_endpoint(gone).address());
    auto stream = TlsStream::create(std::move(socket), tls_, env::TlsRole::server);
    if (gone || !stream) return failed_.add();
    if (handshakes_.size() >= settings_.handshakes_max) make_room();
    ++by_origin_[origin];
    const uint64_t number = next_number_++;
    handshakes_.emplace(number,
                        Handshake{std::move(*stream), std::move(origin), MonotonicClock::now()});
    go_on(number);
}

void Listener::Impl::go_on(uint64_t number) {
    const auto found = handshakes_.find(number);
    if (found == handshakes_.end()) return;  // cut while it waited
    const auto needs = found->second.stream->handshake();
    if (!needs) return cut(number, needs.error().context, failed_);
    if (*needs == TlsStream::Needs::nothing) return finish(number);
    found->second.stream->wait(*needs, [this, number](const error_code& error) {
        if (!error) go_on(number);
    });
}

void Listener::Impl::finish(uint64_t number) {
    auto node = handshakes_.extract(number);
    Handshake& handshake = node.mapped();
    if (--by_origin_[handshake.origin] == 0) by_origin_.erase(handshake.origin);
    done_.add();
    if (auto moved = handshake.stream->move_to(core_); !moved) return;
    // std::function wants what can be copied; the stream has one owner.
    auto stream = std::make_shared<std::unique_ptr<TlsStream>>(std::move(handshake.stream));
    asio::post(core_, [self = shared_from_this(), stream] {
        if (self->ready_) self->ready_(std::move(*stream));
    });
}

void Listener::Impl::cut(uint64_t number, const std::string& reason, Counter& counter) {
    auto node = handshakes_.extract(number);
    Handshake& handshake = node.mapped();
    if (--by_origin_[handshake.origin] == 0) by_origin_.erase(handshake.origin);
    counter.add();
    say_why(handshake.stream->peer_address(), reason);
    handshake.stream->close();
}

void Listener::Impl::say_why(const std::string& address, const std::string& reason) {
    if (!lines_.take(MonotonicClock::now())) {
        ++lines_left_out_;
        return;
    }
    const uint64_t left_out = std::exchange(lines_left_out_, 0);
    logger("tiebreaker")
        .info("{}: no session: {}{}", address, reason,
              left_out == 0 ? "" : fmt::format(" (and {} more before it)", left_out));
}

void Listener::Impl::make_room() {
    size_t most = 0;
    for (const auto& [origin, count] : by_origin_) most = std::max(most, count);
    for (const auto& [number, handshake] : handshakes_) {
        if (by_origin_.at(handshake.origin) != most) continue;
        return cut(number, "too many handshakes at once, it was the oldest", cut_);
    }
}

void Listener::Impl::sweep() {
    const Instant now = MonotonicClock::now();
    while (!handshakes_.empty() &&
           now - handshakes_.begin()->second.since > settings_.handshake_limit) {
        cut(handshakes_.begin()->first, "the handshake took too long", cut_);
    }
    sweep_timer_.expires_after(kSweepInterval);
    sweep_timer_.async_wait([this](const error_code& error) {
        if (!error) sweep();
    });
}

void Listener::Impl::stop() {
    if (!thread_.joinable()) return;
    ready_ = {};
    loop_.stop();
    thread_.join();
    handshakes_.clear();
    error_code ignored;
    acceptor_.close(ignored);
}

Listener::Listener(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Listener::~Listener() {
    stop();
}

Result<std::unique_ptr<Listener>> Listener::start(asio::io_context& core,
                                                  std::shared_ptr<asio::ssl::context> tls,
                                                  const ListenerSettings& settings,
                                                  Registry& registry, std::function<bool()> full,
                                                  Ready ready) {
    auto impl = std::make_shared<Impl>(core, std::move(tls), settings, registry, std::move(full),
                                       std::move(ready));
    FT_TRY_VOID(impl->open());
    impl->thread_ = std::thread([raw = impl.get()] { raw->run(); });
    return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

void Listener::set_context(std::shared_ptr<asio::ssl::context> tls) {
    asio::post(impl_->loop_, [impl = impl_.get(), tls = std::move(tls)]() mutable {
        impl->tls_ = std::move(tls);
    });
}

uint16_t Listener::port() const {
    error_code error;
    return impl_->acceptor_.local_endpoint(error).port();
}

void Listener::probe(std::function<void()> alive) {
    asio::post(impl_->loop_, [impl = impl_.get(), alive = std::move(alive)]() mutable {
        asio::post(impl->core_, std::move(alive));
    });
}

void Listener::stop() {
    impl_->stop();
}

}  // namespace antipode::tiebreaker
