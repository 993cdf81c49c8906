// Group: the connection to the peer.
#include <boost/asio/connect.hpp>
#include <boost/asio/post.hpp>

#include "common/base/log.h"
#include "disksync/service/group.h"

namespace antipode::disksync {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds kDialAtOnce(20);
constexpr std::chrono::milliseconds kDialAgain(500);
constexpr std::chrono::seconds kDialAgainHalted(5);
constexpr std::chrono::seconds kDialLimit(10);
constexpr size_t kGreetingMax = 8;

}  // namespace

Result<> Group::open_link() {
    dial_timer_ = std::make_unique<asio::steady_timer>(context_);
    resolver_ = std::make_unique<tcp::resolver>(context_);
    if (!config_.listens) {
        dial_later(Duration::zero());
        return {};
    }
    error_code error;
    const auto found = resolver_->resolve(config_.address.host, config_.address.port,
                                          tcp::resolver::passive, error);
    if (error || found.empty()) {
        return fail(Errc::invalid_argument, "{}: link.listen {}:{}: {}", config_.path,
                    config_.address.host, config_.address.port, error.message());
    }
    acceptor_ = std::make_unique<tcp::acceptor>(context_);
    const tcp::endpoint endpoint = *found.begin();
    acceptor_->open(endpoint.protocol(), error);
    if (!error) acceptor_->set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_->bind(endpoint, error);
    if (!error) acceptor_->listen(16, error);
    if (error) {
        return fail(Errc::already_exists, "{}: link.listen {}:{}: {}", config_.path,
                    config_.address.host, config_.address.port, error.message());
    }
    accept();
    return {};
}

void Group::accept() {
    acceptor_->async_accept([this](const error_code& error, tcp::socket socket) {
        if (error == asio::error::operation_aborted) return;
        const std::lock_guard core(core_);
        if (!error && !detached_by_operator_ && greeting_.size() < kGreetingMax) {
            adopt(std::move(socket), env::TlsRole::server);
        }
        accept();
    });
}

void Group::dial_later(Duration delay) {
    if (config_.listens || dial_pending_ || detached_by_operator_) return;
    dial_pending_ = true;
    dial_timer_->expires_after(delay);
    dial_timer_->async_wait([this](const error_code& error) {
        const std::lock_guard core(core_);
        dial_pending_ = false;
        if (!error && !link_ && !detached_by_operator_) dial();
    });
}

void Group::dial() {
    dial_pending_ = true;
    dialling_ = std::make_unique<tcp::socket>(context_);
    dial_timer_->expires_after(kDialLimit);
    dial_timer_->async_wait([this](const error_code& error) {
        const std::lock_guard core(core_);
        error_code ignored;
        if (!error && dialling_) dialling_->close(ignored);
        if (!error) resolver_->cancel();
    });
    const auto over = [this](const error_code& error) {
        const std::lock_guard core(core_);
        dial_pending_ = false;
        dial_timer_->cancel();
        if (!error && !link_) return adopt(std::move(*dialling_), env::TlsRole::client);
        link_note_ =
            fmt::format("{}:{}: {}", config_.address.host, config_.address.port, error.message());
        dial_later(kDialAgain);
    };
    resolver_->async_resolve(
        config_.address.host, config_.address.port,
        [this, over](const error_code& error, const tcp::resolver::results_type& found) {
            if (error) return over(error);
            const std::lock_guard core(core_);
            asio::async_connect(
                *dialling_, found,
                [over](const error_code& failed, const tcp::endpoint&) { over(failed); });
        });
}

// The certificates are read anew: they may have been renewed, or the peer's revoked.
void Group::adopt(tcp::socket socket, env::TlsRole role) {
    auto tls = env::make_mutual_tls(role, config_.tls);
    if (!tls) {
        link_note_ = tls.error().context;
        logger("disksync").error("the connection's certificates: {}", link_note_);
        return dial_later(kDialAgainHalted);
    }
    tls_ = *tls;
    const std::string host = role == env::TlsRole::client ? config_.address.host : std::string();
    auto stream = env::TlsStream::create(std::move(socket), tls_, role, host);
    if (!stream) {
        link_note_ = stream.error().context;
        return dial_later(kDialAgain);
    }
    const auto link = std::make_shared<std::weak_ptr<SyncLink>>();
    SyncLink::Owner owner;
    owner.ready = with_core([this, link] { link_ready(link->lock()); });
    owner.received = [this, link](SyncFrame&& frame) {
        const std::lock_guard core(core_);
        if (link->lock() != link_) return;
        input([&](Node& node) { node.received(std::move(frame)); });
    };
    owner.wants_frames = [this] { return wants_frames_.load(); };
    owner.queued = [this, link](uint64_t bytes) {
        const std::lock_guard core(core_);
        if (link->lock() != link_) return;
        input([&](Node& node) { node.link_queue(bytes); });
    };
    owner.closed = [this, link](const std::string& reason) {
        const std::lock_guard core(core_);
        link_closed(link->lock(), reason);
    };
    const auto made = std::make_shared<SyncLink>(std::move(*stream), config_.peer,
                                                 config_.compression, std::move(owner));
    *link = made;
    greeting_.push_back(made);
    // A peer that never ends its handshake holds one of a few places, and not for ever.
    const auto timer = std::make_shared<asio::steady_timer>(context_, kDialLimit);
    timer->async_wait([this, timer, weak = std::weak_ptr(made)](const error_code&) {
        const std::lock_guard core(core_);
        const auto late = weak.lock();
        if (!late || late->is_ready()) return;
        late->close();
        link_closed(late, "the TLS handshake takes too long");
    });
    // It calls us, and this thread has the core's lock.
    asio::post(context_, [made] { made->start(); });
}

void Group::link_ready(const std::shared_ptr<SyncLink>& link) {
    std::erase(greeting_, link);
    if (const auto old = std::exchange(link_, nullptr)) {
        old->close();
        input([](Node& node) { node.disconnected("the peer has connected anew"); });
    }
    link_ = link;
    link_note_.clear();
    input([](Node& node) { node.connected(); });
}

void Group::link_closed(const std::shared_ptr<SyncLink>& link, const std::string& reason) {
    std::erase(greeting_, link);
    if (link_ && link != link_) return;
    link_note_ = reason;
    if (link == link_ && link_) {
        link_.reset();
        input([&](Node& node) { node.disconnected(reason); });
        return dial_later(kDialAtOnce);  // most often it was ended to be made anew
    }
    logger("disksync").warn("no connection to the peer: {}", reason);
    dial_later(kDialAgain);
}

// The node wants to.
void Group::disconnect() {
    const auto link = std::exchange(link_, nullptr);
    if (!link) return;
    link->close();
    const bool halted = node_->status().link == LinkState::halted;
    dial_later(halted ? Duration(kDialAgainHalted) : Duration(kDialAtOnce));
}

}  // namespace antipode::disksync
