// What connects the node to its peer, its tiebreaker and its operators.
#include <boost/asio/post.hpp>
#include <ctime>
#include <filesystem>
#include <sstream>

#include "common/base/log.h"
#include "common/wire/checksum.h"
#include "replicator/control/format_versions.h"
#include "replicator/control/node.h"
#include "replicator/control/tsc_greeting.h"

namespace antipode::control {

Result<void> Node::open_network() {
    const auto& pair = config_.pair;
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
    FT_TRY(tiebreaker_, ArbiterClient::create(context_, arbiter_settings(pair, me_), metrics_,
                                              std::move(events)));
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
    const PeerConfig peer = pair.peer(peer_site());
    channel.peer = peer.channel;
    FT_TRY(channel.own_keys, stream::load_curve_key_pair(pair.channel_own_key));
    FT_TRY(channel.peer_key, stream::load_curve_public_key(peer.channel_key));
    if (const auto other = pair.beside(peer.site)) {
        FT_TRY(channel.other_key, stream::load_curve_public_key(other->channel_key));
    }
    channel.pair = wire::pair_id(pair.pair);
    channel.self = me_;
    channel.number = ++channels_opened_;
    channel.peer_site = peer.site;
    channel.software = ANTIPODE_VERSION;
    channel.metrics = &metrics_;
    if (pair.long_window) {
        for (const auto c : {wire::MessageClass::resync, wire::MessageClass::seed}) {
            channel.compression[wire::index_of(c)].settings = wire::kLongWindow;
        }
    }
    channel.capture_path = pair.capture_path;
    channel.capture_bytes_max = pair.capture_bytes_max;
    const std::string text = to_lines(own_formats()) + shape();
    const auto hello = std::as_bytes(std::span(text));
    channel.hello.assign(hello.begin(), hello.end());
    FT_TRY(channel_, stream::Channel::create(context_, std::move(channel), *this));
    // A seed's pieces can overtake the message that announces it: they wait until this site is
    // ready.
    channel_->set_delivery(wire::MessageClass::seed, stream::Channel::Delivery::paused);
    return {};
}

// The cap of this minute, by the site's own clock and time zone.
void Node::apply_bulk_schedule() {
    if (config_.pair.bulk_schedule.empty() || !channel_) return;
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    if (localtime_r(&now, &local) == nullptr) return;
    const int weekday = (local.tm_wday + 6) % 7;  // from Monday on
    const uint64_t cap =
        config_.pair.bulk_schedule.cap_at(weekday, local.tm_hour * 60 + local.tm_min);
    if (bulk_cap_ == cap) return;
    bulk_cap_ = cap;
    channel_->set_bulk_cap(cap);
    logger("stream").info("resync and seeding may use {}",
                          cap == 0 ? "all of the line" : fmt::format("{} bytes a second", cap));
}

Result<void> Node::open_heartbeat() {
    const auto& pair = config_.pair;
    stream::HeartbeatConfig heartbeat;
    const PeerConfig peer = pair.peer(peer_site());
    heartbeat.paths = {{pair.heartbeat_listen, peer.heartbeat}};
    if (!pair.second_heartbeat_listen.empty()) {
        heartbeat.paths.push_back({pair.second_heartbeat_listen, peer.second_heartbeat});
    }
    FT_TRY(heartbeat.key, stream::load_heartbeat_key(peer.heartbeat_key));
    heartbeat.pair = wire::pair_id(pair.pair);
    heartbeat.self = me_;
    heartbeat.sequence_before = heartbeats_sent_;
    heartbeat.peer_site = peer.site;
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
    epoch_echoed(seen);
}

// What the two sites must have alike for one to replay the other, a line each.
std::string Node::shape() const {
    std::string text = fmt::format("memory {} MiB\n", config_.vm.mem_size_mib);
    if (config_.vm.mode == vmm::ProtectionMode::checkpoint) {
        text += fmt::format("mode checkpoint, {} vCPUs\n", config_.vm.vcpu_count);
    }
    if (is_automatic()) text += "mode auto\n";
    const auto sizes = disks_->sizes();
    for (size_t i = 0; i < sizes.size(); ++i) {
        const auto& drive = config_.vm.drives[i];
        text += fmt::format("drive {} {} bytes{}\n", drive.drive_id, sizes[i],
                            drive.is_read_only ? ", read only" : "");
    }
    for (const auto& network : config_.vm.networks) {
        text +=
            fmt::format("interface {} {}\n", network.iface_id, vmm::format_mac(network.guest_mac));
    }
    text += fmt::format("boot image {:016x}\n", boot_digest_);
    if (tsc_) text += tsc_line(*tsc_, boot_id_);
    return text;
}

bool Node::understood(std::span<const std::byte> hello) {
    const auto greeting =
        read_greeting({reinterpret_cast<const char*>(hello.data()), hello.size()});
    const std::string_view site = config_.pair.site.view();
    const std::string_view there = peer_site().view();
    auto trouble = format_trouble({site, ANTIPODE_VERSION, own_formats()},
                                  {there, channel_->session().software, greeting.formats});
    if (!trouble && is_automatic()) {
        trouble = stretch_trouble({there, channel_->session().software, greeting.formats});
    }
    if (!trouble) trouble = shape_trouble(greeting.shape);
    peer_formats_ = greeting.formats;
    if (!trouble) return true;
    logger("control").error("{}", *trouble);
    event(EventCode::vm_error, *trouble);
    // Where the VM runs it goes on; the other site is of no use until its files, or its software,
    // are right.
    if (!recording_) {
        failure_ = Error{Errc::invalid_argument, *trouble};
        end_soon(1, *trouble);
    }
    return false;
}

std::optional<std::string> Node::shape_trouble(const std::string& peer) const {
    std::string own = shape();
    std::string other = peer;
    if (own == other) return std::nullopt;
    const auto own_tsc = take_tsc_line(own);
    const auto other_tsc = take_tsc_line(other);
    if (own_tsc && other_tsc) {
        auto trouble =
            tsc_trouble({config_.pair.site.view(), *own_tsc}, {peer_site().view(), *other_tsc});
        if (trouble || own == other) return trouble;
    } else if (own_tsc || other_tsc) {
        return fmt::format(
            "the two sites do not describe the same VM: machine-config.tsc is {} at {}, {} at {}",
            own_tsc ? "live" : "hidden", config_.pair.site, other_tsc ? "live" : "hidden",
            peer_site());
    }
    std::istringstream own_lines(own);
    std::istringstream peer_lines(other);
    std::string own_line;
    std::string peer_line;
    while (own_line == peer_line) {
        const bool more_own = static_cast<bool>(std::getline(own_lines, own_line));
        const bool more_peer = static_cast<bool>(std::getline(peer_lines, peer_line));
        if (!more_own) own_line = "nothing more";
        if (!more_peer) peer_line = "nothing more";
    }
    return fmt::format("the two sites do not describe the same VM: {} has \"{}\", {} has \"{}\"",
                       config_.pair.site, own_line, peer_site(), peer_line);
}

// Not from within: a shutdown takes away what the caller may be using.
void Node::end_soon(int exit_code, std::string reason) {
    exit_code_ = exit_code;
    boost::asio::post(context_, [this, reason = std::move(reason)] { shutdown(reason); });
}

void Node::begin_network() {
    tiebreaker_->start();
}

}  // namespace antipode::control
