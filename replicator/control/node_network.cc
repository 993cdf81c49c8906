// What connects the node to its peer, its tiebreaker and its operators.
#include <filesystem>

#include "common/base/log.h"
#include "common/wire/checksum.h"
#include "replicator/control/node.h"

namespace antipode::control {

Result<void> Node::open_network() {
    const auto& pair = config_.pair;
    ArbiterClientSettings arbiter;
    arbiter.address = pair.tiebreaker_address;
    arbiter.ca = pair.tiebreaker_ca;
    arbiter.certificate = pair.tiebreaker_certificate;
    arbiter.key = pair.tiebreaker_key;
    arbiter.pair = pair.pair;
    arbiter.me = me_;
    ArbiterClientEvents events;
    events.up = [this](wire::StoreIdentity store) {
        event(EventCode::tiebreaker_connected, fmt::format("store {:016x}", store.value()));
        feed(failover::TiebreakerUp{store});
    };
    events.down = [this](const std::string& reason) {
        event(EventCode::tiebreaker_lost, reason);
        feed(failover::TiebreakerDown{});
    };
    events.answered = [this](const wire::Answer& answer) {
        feed(failover::TiebreakerAnswer{answer});
    };
    FT_TRY(tiebreaker_, ArbiterClient::create(context_, arbiter, metrics_, std::move(events)));
    FT_TRY_VOID(open_channel());
    FT_TRY_VOID(open_heartbeat());

    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(pair.control_socket).parent_path(),
                                        ignored);
    ControlServerSettings control;
    control.path = pair.control_socket;
    FT_TRY(control_, ControlServer::start(context_, control, *this));
    return {};
}

Result<void> Node::open_channel() {
    const auto& pair = config_.pair;
    stream::ChannelConfig channel;
    channel.listen = pair.channel_listen;
    channel.peer = pair.channel_peer;
    FT_TRY(channel.own_keys, stream::load_curve_key_pair(pair.channel_own_key));
    FT_TRY(channel.peer_key, stream::load_curve_public_key(pair.channel_peer_key));
    channel.pair = wire::pair_id(pair.pair);
    channel.self = me_;
    channel.peer_site = pair.peer_site;
    channel.software = ANTIPODE_VERSION;
    channel.metrics = &metrics_;
    FT_TRY(channel_, stream::Channel::create(context_, std::move(channel), *this));
    // A seed's pieces can overtake the message that announces it: they wait until this site is ready.
    channel_->set_delivery(wire::MessageClass::seed, stream::Channel::Delivery::paused);
    return {};
}

Result<void> Node::open_heartbeat() {
    const auto& pair = config_.pair;
    stream::HeartbeatConfig heartbeat;
    heartbeat.paths = {{pair.heartbeat_listen, pair.heartbeat_peer}};
    FT_TRY(heartbeat.key, stream::load_heartbeat_key(pair.heartbeat_key));
    heartbeat.pair = wire::pair_id(pair.pair);
    heartbeat.self = me_;
    heartbeat.peer_site = pair.peer_site;
    heartbeat.interval = pair.heartbeat_interval;
    heartbeat.metrics = &metrics_;
    FT_TRY(heartbeat_, stream::Heartbeat::create(
                           context_, std::move(heartbeat),
                           [this](const stream::HeartbeatEvent& seen) { heartbeat_seen(seen); }));
    return {};
}

void Node::heartbeat_seen(const stream::HeartbeatEvent& seen) {
    const Instant now = MonotonicClock::now();
    if (heartbeat_from_ && *heartbeat_from_ != seen.from) detector_.peer_restarted(now);
    heartbeat_from_ = seen.from;
    if (seen.copy == stream::HeartbeatEvent::Copy::first) detector_.heartbeat(seen.sequence, now);
    if (seen.epoch > epoch_) feed(failover::EpochHeard{seen.from, seen.epoch});
}

void Node::begin_network() {
    tiebreaker_->start();
}

}  // namespace antipode::control
