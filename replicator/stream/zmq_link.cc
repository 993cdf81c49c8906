#include "replicator/stream/zmq_link.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/timerfd.h>
#include <zmq.h>

#include "common/base/check.h"
#include "common/wire/frame.h"

namespace antipode::stream {
namespace {

constexpr int kUrgentFramesMax = 512;
constexpr int kBulkFramesMax = 32;
constexpr int kReceivedFramesMax = 512;
constexpr int kIoThreads = 1;
constexpr Duration kFineTimeout = std::chrono::milliseconds(3);
constexpr int kReconnectMs = 50;
constexpr int kReconnectMaxMs = 1000;
constexpr int kHandshakeMs = 5000;
constexpr int kSilentFailuresMax = 6;
constexpr const char* kZapEndpoint = "inproc://zeromq.zap.01";
constexpr int kMonitored = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
                           ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

Failure zmq_failure(const std::string& what) {
    const int error = zmq_errno();
    const Errc code = error == EADDRINUSE      ? Errc::already_exists
                      : error == EADDRNOTAVAIL ? Errc::not_found
                      : error == EINVAL        ? Errc::invalid_argument
                                               : Errc::io;
    return fail(code, "{}: {}", what, zmq_strerror(error));
}

Result<> set(void* socket, int option, int value, const char* name) {
    if (zmq_setsockopt(socket, option, &value, sizeof value) == 0) return {};
    return zmq_failure(fmt::format("ZeroMQ option {} = {}", name, value));
}

Result<> set(void* socket, int option, const std::string& value, const char* name) {
    if (zmq_setsockopt(socket, option, value.data(), value.size()) == 0) return {};
    return zmq_failure(fmt::format("ZeroMQ option {}", name));
}

// A message's bytes, taken over from libzmq.
struct Message {
    zmq_msg_t message;
    Message() { zmq_msg_init(&message); }
    ~Message() { zmq_msg_close(&message); }
    Message(const Message&) = delete;
    Message& operator=(const Message&) = delete;
};

int milliseconds(Duration d) {
    return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(d).count());
}

using Frames = std::vector<std::vector<std::byte>>;

// All parts of a message; more of them, or longer ones, than the limits are cut, which no parser
// takes for good.
Frames receive_frames(void* socket) {
    Frames frames;
    for (;;) {
        Message part;
        if (zmq_msg_recv(&part.message, socket, ZMQ_DONTWAIT) < 0) return frames;
        const auto* data = static_cast<const std::byte*>(zmq_msg_data(&part.message));
        const size_t size = std::min(zmq_msg_size(&part.message), kZapFrameBytesMax + 1);
        if (frames.size() <= kZapFramesMax) frames.emplace_back(data, data + size);
        if (zmq_msg_more(&part.message) == 0) return frames;
    }
}

}  // namespace

ZmqSocket& ZmqSocket::operator=(ZmqSocket&& other) noexcept {
    if (this != &other) {
        if (socket_ != nullptr) zmq_close(socket_);
        socket_ = std::exchange(other.socket_, nullptr);
    }
    return *this;
}

ZmqSocket::~ZmqSocket() {
    if (socket_ != nullptr) zmq_close(socket_);
}

void ZmqLink::FreeContext::operator()(void* context) const {
    while (zmq_ctx_term(context) != 0 && zmq_errno() == EINTR) {
    }
}

Result<std::unique_ptr<ZmqLink>> ZmqLink::create(const ZmqLinkConfig& config) {
    auto link = std::make_unique<ZmqLink>();
    FT_TRY_VOID(link->open(config));
    return link;
}

Result<> ZmqLink::open(const ZmqLinkConfig& config) {
    if (zmq_has("curve") == 0) return fail(Errc::unsupported, "this libzmq has no CURVE");
    context_.reset(zmq_ctx_new());
    if (!context_) return zmq_failure("ZeroMQ context");
    zmq_ctx_set(context_.get(), ZMQ_IO_THREADS, kIoThreads);
    if (zmq_z85_decode(reinterpret_cast<uint8_t*>(pinned_.data()), config.peer_key.z85.c_str()) ==
        nullptr) {
        return fail(Errc::invalid_argument, "the peer's public key is not Z85 text");
    }
    if (!config.other_key.z85.empty()) {
        other_.emplace();
        if (zmq_z85_decode(reinterpret_cast<uint8_t*>(other_->data()),
                           config.other_key.z85.c_str()) == nullptr) {
            return fail(Errc::invalid_argument, "the third site's public key is not Z85 text");
        }
    }
    timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!timer_) return fail_errno(errno, "timerfd");
    FT_TRY_VOID(open_zap());  // before anything can connect
    FT_TRY_VOID(open_pull(config));
    for (const Lane lane : kLanes) FT_TRY_VOID(open_push(config, lane));
    return {};
}

Result<ZmqSocket> ZmqLink::make_socket(int type, const ZmqLinkConfig& config) {
    ZmqSocket socket(zmq_socket(context_.get(), type));
    void* s = socket.get();
    if (s == nullptr) return zmq_failure("ZeroMQ socket");
    const int timeout = milliseconds(config.connection_timeout);
    FT_TRY_VOID(set(s, ZMQ_LINGER, 0, "LINGER"));
    FT_TRY_VOID(set(s, ZMQ_HEARTBEAT_IVL, std::max(timeout / 3, 1), "HEARTBEAT_IVL"));
    FT_TRY_VOID(set(s, ZMQ_HEARTBEAT_TIMEOUT, timeout, "HEARTBEAT_TIMEOUT"));
    FT_TRY_VOID(set(s, ZMQ_HEARTBEAT_TTL, timeout, "HEARTBEAT_TTL"));
    FT_TRY_VOID(set(s, ZMQ_HANDSHAKE_IVL, kHandshakeMs, "HANDSHAKE_IVL"));
    FT_TRY_VOID(set(s, ZMQ_RECONNECT_IVL, kReconnectMs, "RECONNECT_IVL"));
    FT_TRY_VOID(set(s, ZMQ_RECONNECT_IVL_MAX, kReconnectMaxMs, "RECONNECT_IVL_MAX"));
    FT_TRY_VOID(set(s, ZMQ_IPV6, 1, "IPV6"));
    FT_TRY_VOID(set(s, ZMQ_CURVE_SECRETKEY, config.own_keys.secret_z85, "CURVE_SECRETKEY"));
    FT_TRY_VOID(set(s, ZMQ_CURVE_PUBLICKEY, config.own_keys.public_key.z85, "CURVE_PUBLICKEY"));
    return socket;
}

Result<> ZmqLink::open_zap() {
    zap_ = ZmqSocket(zmq_socket(context_.get(), ZMQ_REP));
    if (zap_.get() == nullptr) return zmq_failure("ZeroMQ socket");
    FT_TRY_VOID(set(zap_.get(), ZMQ_LINGER, 0, "LINGER"));
    if (zmq_bind(zap_.get(), kZapEndpoint) != 0) return zmq_failure(kZapEndpoint);
    return {};
}

Result<> ZmqLink::open_pull(const ZmqLinkConfig& config) {
    FT_TRY(pull_, make_socket(ZMQ_PULL, config));
    void* s = pull_.get();
    FT_TRY_VOID(set(s, ZMQ_CURVE_SERVER, 1, "CURVE_SERVER"));
    FT_TRY_VOID(set(s, ZMQ_ZAP_DOMAIN, std::string("antipode"), "ZAP_DOMAIN"));
    FT_TRY_VOID(set(s, ZMQ_RCVHWM, kReceivedFramesMax, "RCVHWM"));
    const int64_t message_bytes_max = wire::kFrameBytesMax;
    if (zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &message_bytes_max, sizeof message_bytes_max) != 0) {
        return zmq_failure("ZeroMQ option MAXMSGSIZE");
    }
    if (zmq_bind(s, config.listen.c_str()) != 0) {
        return zmq_failure(fmt::format("channel: cannot listen on {}", config.listen));
    }
    std::array<char, 256> endpoint;
    size_t length = endpoint.size();
    if (zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, endpoint.data(), &length) != 0) {
        return zmq_failure("ZeroMQ option LAST_ENDPOINT");
    }
    listen_endpoint_ = endpoint.data();
    return {};
}

Result<> ZmqLink::open_push(const ZmqLinkConfig& config, Lane lane) {
    Watched& watched = push_[static_cast<size_t>(lane)];
    FT_TRY(watched.socket, make_socket(ZMQ_PUSH, config));
    void* s = watched.socket.get();
    FT_TRY_VOID(set(s, ZMQ_CURVE_SERVERKEY, config.peer_key.z85, "CURVE_SERVERKEY"));
    // Nothing is queued for a peer that is not there.
    FT_TRY_VOID(set(s, ZMQ_IMMEDIATE, 1, "IMMEDIATE"));
    const int frames_max = lane == Lane::urgent ? kUrgentFramesMax : kBulkFramesMax;
    FT_TRY_VOID(set(s, ZMQ_SNDHWM, frames_max, "SNDHWM"));
    FT_TRY_VOID(watch(watched, lane == Lane::urgent ? "urgent" : "bulk"));
    peer_endpoint_ = config.peer;
    if (zmq_connect(s, config.peer.c_str()) != 0) {
        return zmq_failure(fmt::format("channel: cannot connect to {}", config.peer));
    }
    return {};
}

Result<> ZmqLink::watch(Watched& watched, const std::string& name) {
    const std::string endpoint = "inproc://monitor-" + name;
    if (zmq_socket_monitor(watched.socket.get(), endpoint.c_str(), kMonitored) != 0) {
        return zmq_failure(endpoint);
    }
    watched.monitor = ZmqSocket(zmq_socket(context_.get(), ZMQ_PAIR));
    if (watched.monitor.get() == nullptr) return zmq_failure("ZeroMQ socket");
    FT_TRY_VOID(set(watched.monitor.get(), ZMQ_LINGER, 0, "LINGER"));
    if (zmq_connect(watched.monitor.get(), endpoint.c_str()) != 0) return zmq_failure(endpoint);
    return {};
}

void ZmqLink::wait(int wake_fd, std::array<bool, kLaneCount> want_to_send, Duration timeout) {
    std::array<zmq_pollitem_t, 8> items{{
        {nullptr, wake_fd, ZMQ_POLLIN, 0},
        {pull_.get(), 0, static_cast<short>(line_ == Line::open ? ZMQ_POLLIN : 0), 0},
        {zap_.get(), 0, ZMQ_POLLIN, 0},
        {push_[0].monitor.get(), 0, ZMQ_POLLIN, 0},
        {push_[1].monitor.get(), 0, ZMQ_POLLIN, 0},
    }};
    size_t count = 5;
    for (const Lane lane : kLanes) {
        const auto index = static_cast<size_t>(lane);
        if (want_to_send[index] && line_ == Line::open) {
            items[count++] = {push_[index].socket.get(), 0, ZMQ_POLLOUT, 0};
        }
    }
    const auto up = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
    const long wait_ms = static_cast<long>(std::clamp<int64_t>(up, 0, 60'000));
    // zmq_poll() counts in milliseconds; bulk is paced finer than that.
    if (timeout > Duration::zero() && timeout < kFineTimeout) {
        itimerspec when{};
        when.it_value.tv_nsec = timeout.count();
        ::timerfd_settime(timer_.get(), 0, &when, nullptr);
        items[count++] = {nullptr, timer_.get(), ZMQ_POLLIN, 0};
    }
    if (zmq_poll(items.data(), static_cast<int>(count), wait_ms) <= 0) return;
    if ((items[2].revents & ZMQ_POLLIN) != 0) answer_zap();
    for (const Lane lane : kLanes) {
        if ((items[3 + static_cast<size_t>(lane)].revents & ZMQ_POLLIN) != 0) read_monitor(lane);
    }
}

std::optional<LinkEvent> ZmqLink::next_event() {
    if (events_.empty()) return std::nullopt;
    LinkEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
}

void ZmqLink::read_monitor(Lane lane) {
    Watched& watched = push_[static_cast<size_t>(lane)];
    for (;;) {
        const Frames frames = receive_frames(watched.monitor.get());
        if (frames.empty()) return;
        if (frames[0].size() < 6) continue;
        uint16_t event = 0;
        uint32_t value = 0;
        std::memcpy(&event, frames[0].data(), sizeof event);
        std::memcpy(&value, frames[0].data() + sizeof event, sizeof value);
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            last_failure_.clear();
            silent_failures_ = 0;
            if (std::exchange(watched.connected, true)) {
                events_.push_back(LaneLost{lane, "connected again"});
            }
            events_.push_back(LaneConnected{lane});
            continue;
        }
        if (event == ZMQ_EVENT_DISCONNECTED) {
            if (!std::exchange(watched.connected, false)) continue;
            events_.push_back(
                LaneLost{lane, fmt::format("the connection to {} is lost", peer_endpoint_)});
            continue;
        }
        note_failure(lane, event, value);
    }
}

// A handshake that ends without a word is a broken line, or, when that goes on, a server that does
// not hold the key we pinned: it cannot read our greeting, and hangs up.
void ZmqLink::note_failure(Lane lane, uint16_t event, uint32_t value) {
    std::string text;
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
        text = fmt::format("{} does not let us in (code {}): our key is not the one it pins",
                           peer_endpoint_, value);
    } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) {
        text = fmt::format("{} does not speak CURVE with the key that is pinned for it ({:#x})",
                           peer_endpoint_, value);
    } else {
        if (++silent_failures_ < kSilentFailuresMax) return;
        if (other_) return;  // it may be turned to another site, where nobody lets us in
        text = fmt::format(
            "{} hangs up on every greeting: does it hold the key that is pinned for "
            "it?",
            peer_endpoint_);
    }
    if (std::exchange(last_failure_, text) != text) events_.push_back(HandshakeFailed{lane, text});
}

void ZmqLink::answer_zap() {
    for (;;) {
        const Frames frames = receive_frames(zap_.get());
        if (frames.empty()) return;
        const auto request = parse_zap_request(frames);
        auto verdict = ZapVerdict::denied;
        std::vector<std::byte> id;
        if (request) {
            id = request->request_id;
            verdict = judge(*request, pinned_);
            const bool other = other_ && judge(*request, *other_) == ZapVerdict::allowed;
            if (verdict == ZapVerdict::denied && other) verdict = ZapVerdict::later;
        } else if (frames.size() > 1) {
            id = frames[1];
        }
        if (verdict == ZapVerdict::denied) {
            std::array<char, kCurveKeyCharacters + 1> key{};
            if (request) {
                zmq_z85_encode(key.data(), reinterpret_cast<const uint8_t*>(request->key.data()),
                               request->key.size());
            }
            events_.push_back(
                KeyRefused{request ? fmt::format("refused {}: its key {} is not the pinned one",
                                                 request->address, key.data())
                                   : request.error().to_string()});
        }
        const auto answer = zap_answer(id, verdict);
        for (size_t i = 0; i < answer.size(); ++i) {
            const int more = i + 1 < answer.size() ? ZMQ_SNDMORE : 0;
            // A REP socket that has a request takes its answer at once.
            (void)zmq_send(zap_.get(), answer[i].data(), answer[i].size(), ZMQ_DONTWAIT | more);
        }
    }
}

std::optional<Bytes> ZmqLink::receive() {
    if (line_ == Line::cut) return std::nullopt;
    auto message = std::make_shared<Message>();
    if (zmq_msg_recv(&message->message, pull_.get(), ZMQ_DONTWAIT) < 0) return std::nullopt;
    const auto* data = static_cast<const std::byte*>(zmq_msg_data(&message->message));
    const size_t size = zmq_msg_size(&message->message);
    return Bytes(std::move(message), {data, size});
}

ZmqLink::Sent ZmqLink::send(Lane lane, const OutgoingFrame& frame) {
    if (line_ == Line::cut) return Sent::no;
    constexpr size_t kCopyBytesMax = 512;  // a copy is cheaper than two allocations
    void* socket = push_[static_cast<size_t>(lane)].socket.get();
    if (frame.size <= kCopyBytesMax) {
        const int sent = zmq_send(socket, frame.bytes.get(), frame.size, ZMQ_DONTWAIT);
        return sent < 0 ? Sent::no : Sent::yes;
    }
    using Owner = std::shared_ptr<const std::byte[]>;
    auto owner = std::make_unique<Owner>(frame.bytes);
    // libzmq reads the bytes, on its I/O thread, and gives the owner back when it is done.
    void* bytes = const_cast<std::byte*>(frame.bytes.get());
    zmq_msg_t message;
    const auto free_owner = [](void*, void* hint) { delete static_cast<Owner*>(hint); };
    if (zmq_msg_init_data(&message, bytes, frame.size, free_owner, owner.get()) != 0) {
        return Sent::no;
    }
    (void)owner.release();
    if (zmq_msg_send(&message, socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&message);
        return Sent::no;
    }
    return Sent::yes;
}

void ZmqLink::set_linger(Duration linger) {
    const int value = milliseconds(linger);
    for (auto& watched : push_) {
        (void)zmq_setsockopt(watched.socket.get(), ZMQ_LINGER, &value, sizeof value);
    }
}

}  // namespace antipode::stream
