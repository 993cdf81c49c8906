#include "replicator/stream/channel.h"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/overloaded.h"
#include "replicator/stream/zmq_thread.h"

namespace antipode::stream {
namespace {

constexpr int kEventsPerTurn = 512;  // then timers and heartbeats get their turn

}  // namespace

// The core thread's half. Handlers of the loop hold it by shared_ptr; closed_ says that the Channel
// is gone.
class Channel::Impl : public std::enable_shared_from_this<Channel::Impl> {
  public:
    Impl(boost::asio::io_context& context, ChannelHandler& handler)
        : context_(context), handler_(handler), event_(context) {}

    Result<> open(ChannelConfig&& config);
    void close();
    Result<> admit(MessageClass message_class, size_t size);
    void send(MessageClass message_class, uint8_t type, Epoch epoch, Bytes payload);
    void set_delivery(MessageClass message_class, Delivery delivery);

    boost::asio::io_context& context_;
    ChannelHandler& handler_;
    boost::asio::posix::stream_descriptor event_;
    std::unique_ptr<ZmqThread> thread_;
    std::string listen_endpoint_;
    bool closed_ = false;
    bool up_ = false;
    SessionInfo info_;
    PerClass<uint64_t> send_bytes_max_{};
    PerClass<uint64_t> consumed_{};
    PerClass<Delivery> delivery_{Delivery::flowing, Delivery::flowing, Delivery::flowing,
                                 Delivery::flowing};
    PerClass<std::deque<MessageReceived>> held_;

  private:
    void wait();
    void drain();
    void post_drain();
    void dispatch(ThreadEvent& event);
    void deliver(MessageReceived& message);
    void flush_held();
    void drop_held();
    void give_back(const MessageReceived& message);
};

Result<> Channel::Impl::open(ChannelConfig&& config) {
    if (config.hello.size() > wire::kHelloBlobBytesMax) {
        return fail(Errc::invalid_argument, "channel: hello of {} bytes, at most {}",
                    config.hello.size(), wire::kHelloBlobBytesMax);
    }
    FT_TRY(auto link, ZmqLink::create({config.listen, config.peer, config.own_keys, config.peer_key,
                                       config.other_key, config.connection_timeout}));
    listen_endpoint_ = link->listen_endpoint();
    ZmqThread::Config thread;
    thread.session.pair = config.pair;
    thread.session.self = config.self;
    thread.session.channel = config.number;
    thread.session.peer_site = config.peer_site;
    thread.session.software = config.software;
    thread.session.hello = std::move(config.hello);
    thread.session.receive_bytes_max = config.receive_bytes_max;
    thread.session.compression = config.compression;
    thread.session.times = config.times;
    thread.send_bytes_max = send_bytes_max_ = config.send_bytes_max;
    thread.metrics = config.metrics;
    if (!config.capture_path.empty()) {
        FT_TRY(thread.capture,
               CaptureWriter::create(config.capture_path, config.capture_bytes_max));
    }
    FT_TRY(thread_, ZmqThread::start(std::move(thread), std::move(link)));
    event_.assign(::dup(thread_->event_fd()));
    wait();
    return {};
}

void Channel::Impl::close() {
    closed_ = true;
    boost::system::error_code ignored;
    event_.close(ignored);
    thread_.reset();
}

Result<> Channel::Impl::admit(MessageClass message_class, size_t size) {
    if (!up_) return fail(Errc::closed, "channel: no session with the peer");
    const uint64_t max = info_.message_bytes_max[wire::index_of(message_class)];
    if (size > max) {
        return fail(Errc::limit, "channel: a {} message of {} bytes, at most {}",
                    to_string(message_class), size, max);
    }
    if (thread_->admit(message_class, size) == ZmqThread::Admitted::no) {
        return fail(Errc::busy, "channel: {} bytes of {} wait for the peer",
                    thread_->unsent_bytes(message_class), to_string(message_class));
    }
    return {};
}

void Channel::Impl::send(MessageClass message_class, uint8_t type, Epoch epoch, Bytes payload) {
    thread_->submit({message_class, type, epoch, std::move(payload)}, info_.generation);
}

void Channel::Impl::wait() {
    event_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                          if (error || self->closed_) return;
                          self->thread_->clear_event();
                          self->drain();
                          if (!self->closed_) self->wait();
                      });
}

void Channel::Impl::post_drain() {
    boost::asio::post(context_, [self = shared_from_this()] {
        if (!self->closed_) self->drain();
    });
}

void Channel::Impl::drain() {
    const auto self = shared_from_this();  // a callback may destroy the Channel
    for (int i = 0; i < kEventsPerTurn; ++i) {
        auto event = thread_->take_event();
        if (!event) return;
        dispatch(*event);
        if (closed_) return;
    }
    post_drain();
}

void Channel::Impl::dispatch(ThreadEvent& event) {
    std::visit(Overloaded{
                   [this](SessionUp& up) {
                       info_ = std::move(up.info);
                       up_ = true;
                       logger("stream").info(
                           "session {:016x} with {} incarnation {:016x} {}: version {}, {}",
                           info_.id, info_.peer.site, info_.peer.incarnation.value(),
                           info_.start == SessionStart::fresh ? "is up" : "goes on", info_.version,
                           info_.software);
                       if (info_.start == SessionStart::fresh) drop_held();
                       handler_.on_session_up(info_.peer, info_.hello);
                       flush_held();
                   },
                   [this](SessionDown& down) {
                       up_ = false;
                       logger("stream").info("session {:016x} is down: {}", info_.id, down.reason);
                       handler_.on_session_down(down.reason);
                   },
                   [this](MessageReceived& message) {
                       const size_t index = wire::index_of(message.message_class);
                       if (!up_ || delivery_[index] == Delivery::paused || !held_[index].empty()) {
                           held_[index].push_back(std::move(message));
                       } else {
                           deliver(message);
                       }
                   },
                   [this](PeerRefused& refused) {
                       logger("stream").error("{}", refused.reason);
                       handler_.on_peer_refused(refused.reason);
                   },
                   [this](Writable&) { handler_.on_writable(); },
               },
               event);
}

void Channel::Impl::deliver(MessageReceived& message) {
    handler_.on_message(message.message_class, message.type, message.epoch, message.payload.view());
    if (!closed_) give_back(message);
}

void Channel::Impl::set_delivery(MessageClass message_class, Delivery delivery) {
    delivery_[wire::index_of(message_class)] = delivery;
    if (delivery == Delivery::paused || held_[wire::index_of(message_class)].empty()) return;
    // No callback from within a call: later.
    boost::asio::post(context_, [self = shared_from_this()] {
        if (!self->closed_) self->flush_held();
    });
}

// Delivers what had to wait: for the session to come up again, or for its class to flow.
void Channel::Impl::flush_held() {
    const auto self = shared_from_this();
    for (const MessageClass c : wire::kMessageClasses) {
        auto& held = held_[wire::index_of(c)];
        while (!closed_ && up_ && !held.empty() &&
               delivery_[wire::index_of(c)] == Delivery::flowing) {
            MessageReceived message = std::move(held.front());
            held.pop_front();
            deliver(message);
        }
    }
}

// Of a session that nobody goes on with.
void Channel::Impl::drop_held() {
    for (auto& held : held_) {
        for (const auto& message : held) give_back(message);
        held.clear();
    }
}

void Channel::Impl::give_back(const MessageReceived& message) {
    const size_t index = wire::index_of(message.message_class);
    consumed_[index] += message.cost;
    thread_->consumed(message.message_class, consumed_[index]);
}

// ---- Channel ----

Channel::Channel(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Channel::~Channel() {
    impl_->close();
}

Result<std::unique_ptr<Channel>> Channel::create(boost::asio::io_context& context,
                                                 ChannelConfig config, ChannelHandler& handler) {
    auto impl = std::make_shared<Impl>(context, handler);
    if (auto opened = impl->open(std::move(config)); !opened) {
        impl->close();
        return fail(std::move(opened).error());
    }
    return std::unique_ptr<Channel>(new Channel(std::move(impl)));
}

Result<> Channel::send(MessageClass message_class, uint8_t type, Epoch epoch,
                       std::span<const std::byte> payload) {
    FT_TRY_VOID(impl_->admit(message_class, payload.size()));
    impl_->send(message_class, type, epoch, Bytes::copy(payload));
    return {};
}

Result<> Channel::send(MessageClass message_class, uint8_t type, Epoch epoch,
                       std::vector<std::byte>&& payload) {
    FT_TRY_VOID(impl_->admit(message_class, payload.size()));
    impl_->send(message_class, type, epoch, Bytes::own(std::move(payload)));
    return {};
}

size_t Channel::message_bytes_max(MessageClass message_class) const {
    return impl_->info_.message_bytes_max[wire::index_of(message_class)];
}

uint64_t Channel::unsent_bytes(MessageClass message_class) const {
    return impl_->thread_->unsent_bytes(message_class);
}

void Channel::set_delivery(MessageClass message_class, Delivery delivery) {
    impl_->set_delivery(message_class, delivery);
}

void Channel::set_hello(std::vector<std::byte> hello) {
    FT_CHECK(hello.size() <= wire::kHelloBlobBytesMax, "hello of {} bytes", hello.size());
    (void)impl_->thread_->order(
        [hello = std::move(hello)](Session& session, Instant) { session.set_hello(hello); });
}

void Channel::set_bulk_cap(uint64_t bytes_per_second) {
    (void)impl_->thread_->order([bytes_per_second](Session& session, Instant now) {
        session.set_bulk_cap(bytes_per_second, now);
    });
}

void Channel::say_goodbye(std::string reason) {
    (void)impl_->thread_->order(
        [reason = std::move(reason)](Session& session, Instant) { session.say_goodbye(reason); });
}

void Channel::set_line(Line line) {
    impl_->thread_->set_line(line);
}

const SessionInfo& Channel::session() const {
    return impl_->info_;
}

ChannelStats Channel::stats() const {
    return impl_->thread_->stats();
}

const std::string& Channel::listen_endpoint() const {
    return impl_->listen_endpoint_;
}

}  // namespace antipode::stream
