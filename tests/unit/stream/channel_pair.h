// Two channels of one pair in one process, over loopback, with everything that their handlers were
// told written down. The io_context is run by the test until a condition holds.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/wire/checksum.h"
#include "replicator/stream/channel.h"

namespace antipode::stream {

struct Recorded final : ChannelHandler {
    struct Message {
        MessageClass message_class;
        uint8_t type;
        Epoch epoch;
        std::vector<std::byte> payload;
    };
    std::vector<std::string> events;
    std::vector<Message> messages;
    std::optional<Member> peer;
    std::vector<std::byte> hello;
    uint64_t writable = 0;
    std::function<void(const Message&)> on_each;
    std::function<void()> on_up;
    bool keep_payloads = true;
    uint64_t message_count = 0;
    uint64_t payload_bytes = 0;

    void on_session_up(const Member& who, std::span<const std::byte> blob) override {
        events.push_back("up " + std::string(who.site.view()));
        peer = who;
        hello.assign(blob.begin(), blob.end());
        if (on_up) on_up();
    }
    void on_session_down(const std::string& reason) override {
        events.push_back("down " + reason);
        peer.reset();
    }
    void on_message(MessageClass message_class, uint8_t type, Epoch epoch,
                    std::span<const std::byte> payload) override {
        ++message_count;
        payload_bytes += payload.size();
        Message message{message_class, type, epoch, {}};
        if (keep_payloads) message.payload.assign(payload.begin(), payload.end());
        if (on_each) on_each(message);
        if (keep_payloads) messages.push_back(std::move(message));
    }
    void on_writable() override { ++writable; }
    void on_peer_refused(const std::string& reason) override {
        events.push_back("refused " + reason);
    }
};

inline std::vector<std::byte> bytes_of(std::string_view text) {
    const auto view = std::as_bytes(std::span(text.data(), text.size()));
    return {view.begin(), view.end()};
}

inline std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Runs handlers until the condition holds; false if that takes longer than a test may.
inline bool run_until(boost::asio::io_context& context, const std::function<bool()>& condition,
                      Duration patience = std::chrono::seconds(20)) {
    const Instant end = MonotonicClock::now() + patience;
    while (!condition()) {
        if (MonotonicClock::now() > end) return false;
        context.restart();
        context.run_one_for(std::chrono::milliseconds(10));
    }
    return true;
}

struct Side {
    explicit Side(const char* name) : site(Name::literal(name)) {}
    Name site;
    CurveKeyPair keys = *generate_curve_keys();
    Recorded handler;
    std::unique_ptr<Channel> channel;
};

class ChannelPair {
  public:
    boost::asio::io_context context;
    Side a{"site-a"};
    Side b{"site-b"};
    uint16_t base_port = 0;

    ChannelPair();

    ChannelConfig config(const Side& own, const Side& other) const {
        ChannelConfig config;
        config.listen = endpoint(own);
        config.peer = endpoint(other);
        config.own_keys = own.keys;
        config.peer_key = other.keys.public_key;
        config.pair = wire::pair_id(Name::literal("web1"));
        config.self = {own.site, next_incarnation()};
        config.peer_site = other.site;
        config.software = "test";
        config.hello = bytes_of(std::string("I am ") + std::string(own.site.view()));
        return config;
    }
    std::string endpoint(const Side& side) const {
        const int port = base_port + (&side == &a ? 0 : 1);
        return "tcp://127.0.0.1:" + std::to_string(port);
    }
    Result<> open(Side& side, ChannelConfig config) {
        FT_TRY(side.channel, Channel::create(context, std::move(config), side.handler));
        return {};
    }
    Result<> open_both() {
        FT_TRY_VOID(open(a, config(a, b)));
        FT_TRY_VOID(open(b, config(b, a)));
        return {};
    }
    bool both_up() {
        return run_until(context, [this] { return a.handler.peer && b.handler.peer; });
    }

  private:
    static Incarnation next_incarnation() {
        static uint64_t last = 0x1000;
        return Incarnation(++last);
    }
};

}  // namespace antipode::stream
