// Opening everything in order, the loop around the failover core, and closing.
#include "replicator/control/node.h"

#include <boost/asio/post.hpp>
#include <chrono>
#include <openssl/rand.h>

#include "common/base/check.h"
#include "common/base/log.h"

namespace antipode::control {
namespace {

constexpr size_t kBridgeEntries = 1 << 16;
constexpr Duration kDetectorInterval = std::chrono::milliseconds(10);

Incarnation new_incarnation() {
    uint64_t value = 0;
    while (value == 0) {
        FT_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&value), sizeof value) == 1,
                 "no randomness");
    }
    return Incarnation(value);
}

failover::Policy core_policy(SelfHelp self_help) {
    return self_help == SelfHelp::automatic ? failover::Policy::automatic
                                            : failover::Policy::operator_decides;
}

failover::Config core_config(const PairConfig& pair) {
    failover::Config config;
    config.pair = pair.pair;
    config.site = pair.site;
    config.peer_site = pair.peer_site;
    config.sites = pair.sites();
    config.first_role = pair.first_role == PairConfig::FirstRole::primary ? wire::FirstRole::primary
                                                                          : wire::FirstRole::backup;
    config.rejoin = core_policy(pair.rejoin);
    config.reclaim = core_policy(pair.reclaim);
    return config;
}

failover::FaultDetectorConfig detector_config(const PairConfig& pair) {
    failover::FaultDetectorConfig config;
    config.interval = pair.heartbeat_interval;
    return config;
}

}  // namespace

int64_t unix_ms() {
    using namespace std::chrono;
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

Result<NodeConfig> load_node_config(const std::string& directory) {
    NodeConfig config;
    FT_TRY(config.pair, load_pair_config(directory + "/pair.toml"));
    FT_TRY(config.vm, vmm::load_vm_config(directory + "/vm.json"));
    return config;
}

ArbiterClientSettings arbiter_settings(const PairConfig& pair, const Member& me) {
    ArbiterClientSettings settings;
    settings.address = pair.tiebreaker_address;
    settings.ca = pair.tiebreaker_ca;
    settings.crl = pair.tiebreaker_crl;
    settings.certificate = pair.tiebreaker_certificate;
    settings.key = pair.tiebreaker_key;
    settings.pair = pair.pair;
    settings.me = me;
    return settings;
}

// Opens what can be opened without touching the network or starting anything.
Result<void> check_files(const NodeConfig& config) {
    const auto& pair = config.pair;
    FT_TRY_VOID(stream::load_curve_key_pair(pair.channel_own_key));
    FT_TRY_VOID(stream::load_curve_public_key(pair.channel_peer_key));
    FT_TRY_VOID(stream::load_heartbeat_key(pair.heartbeat_key));
    if (pair.next_site) {
        FT_TRY_VOID(stream::load_curve_public_key(pair.next_site->channel_key));
        FT_TRY_VOID(stream::load_heartbeat_key(pair.next_site->heartbeat_key));
    }
    boost::asio::io_context context;
    Registry metrics;
    FT_TRY_VOID(ArbiterClient::create(
        context, arbiter_settings(pair, Member{pair.site, Incarnation(1)}), metrics, {}));
    FT_TRY(const auto disks,
           DiskSet::open(config.vm.drives, pair.pair, pair.state_directory, context, metrics));
    FT_TRY(const auto kvm, vmm::Kvm::open());
    FT_TRY_VOID(vmm::build_vm(kvm, config.vm, disks->sizes(), pair.state_directory));
    return {};
}

Node::Node(boost::asio::io_context& context, NodeConfig config)
    : context_(context),
      config_(std::move(config)),
      me_{config_.pair.site, new_incarnation()},
      core_(core_config(config_.pair)),
      site_choice_(core_.config(), config_.pair.spare_after),
      detector_(detector_config(config_.pair), MonotonicClock::now()),
      core_timer_(context),
      detector_timer_(context),
      second_timer_(context),
      stall_guard_(MonotonicClock::now()),
      bridge_(kBridgeEntries),
      bridge_event_(context),
      flush_timer_(context),
      lag_controller_(config_.vm.mode == vmm::ProtectionMode::checkpoint
                          ? LagController::kShareMinCheckpoint
                          : LagController::kShareMin),
      backlog_timer_(context),
      fault_timer_(context),
      degrade_timer_(context),
      switch_timer_(context),
      last_words_timer_(context),
      mode_policy_(config_.pair.lockstep_after),
      log_bytes_total_(metrics_.counter("antipode_log_bytes_total",
                                        "Encoded log batches handed to the channel, bytes")),
      log_repeated_bytes_total_(
          metrics_.counter("antipode_log_repeated_bytes_total",
                           "Encoded log batches handed to the channel once more, bytes")),
      log_entries_total_(metrics_.counter("antipode_log_entries_total", "Log entries recorded")),
      batches_dropped_total_(metrics_.counter("antipode_log_batches_dropped_total",
                                              "Received log batches that were not accepted")),
      stale_epoch_messages_total_(metrics_.counter("antipode_channel_stale_epoch_messages_total",
                                                   "Messages of an epoch that is over, refused")),
      stalls_total_(metrics_.counter(
          "antipode_core_stalls_total",
          "How often the core loop had stood still, and asked whether its epoch stands")),
      verify_bytes_total_(metrics_.counter("antipode_disk_verify_bytes_total",
                                           "Bytes of disks compared with the backup's")),
      verify_mismatches_total_(
          metrics_.counter("antipode_disk_mismatches_total",
                           "Places of 64 KiB where the sites' disks were found to differ")),
      verify_repaired_total_(
          metrics_.counter("antipode_disk_repairs_total", "Of those, written anew at the backup")),
      output_delay_(metrics_.histogram("antipode_output_delay_seconds",
                                       "From when the guest made an output to when it left",
                                       delay_bounds_seconds())),
      started_(MonotonicClock::now()),
      state_since_unix_ms_(unix_ms()) {}

Result<std::unique_ptr<Node>> Node::start(boost::asio::io_context& context, NodeConfig config) {
    vmm::install_kick_handler();
    auto node = std::unique_ptr<Node>(new Node(context, std::move(config)));
    if (auto opened = node->open_local(); !opened) {
        node->shutdown("");
        return fail(std::move(opened).error());
    }
    if (auto opened = node->open_network(); !opened) {
        node->shutdown("");
        return fail(std::move(opened).error());
    }
    node->begin();
    return node;
}

// What is this site's own: state, disks, KVM, the VM, its interfaces. The VM is built before
// anything is said to anybody, so that a missing kernel is this start's error and not a failed
// failover.
Result<void> Node::open_local() {
    const auto& pair = config_.pair;
    FT_TRY(auto durable, DurableFile::open(pair.state_directory));
    durable_.emplace(std::move(durable));
    FT_TRY(boot_id_, read_boot_id());
    Drill::clean(drill_directory());  // of a life before this one
    FT_TRY_VOID(console_log_.open(pair.state_directory + "/console.log"));
    FT_TRY(disks_,
           DiskSet::open(config_.vm.drives, pair.pair, pair.state_directory, context_, metrics_));
    disks_->set_stall_guard(stall_guard_);
    FT_TRY_VOID(open_seed_undo());
    FT_TRY(auto kvm, vmm::Kvm::open());
    kvm_.emplace(std::move(kvm));
    FT_TRY_VOID(build_vm());
    if (tsc_ && tsc_->source == vmm::TscSource::hosts) {
        logger("control").warn(
            "machine-config.tsc: KVM here shows the guest the host's counter, so it goes on only "
            "at a site on this machine");
    }
    for (size_t i = 0; i < config_.vm.networks.size(); ++i) {
        const auto on_frame = [this, i](std::span<const std::byte> frame) {
            if (!recording_ || !engine_) return;
            (void)engine_->frame_received(static_cast<uint32_t>(i), {frame.begin(), frame.end()});
        };
        FT_TRY(auto port,
               NetPort::open(context_, config_.vm.networks[i].host_dev_name, on_frame, metrics_));
        ports_.push_back(std::move(port));
    }
    bridge_event_.assign(dup(bridge_.event_fd()));
    wait_for_vcpu();
    return {};
}

void Node::begin() {
    failover::Start start;
    start.me = me_;
    start.disk_epoch = disks_->highest_epoch();
    if (durable_->loaded()) {
        start.stored = durable_->loaded()->state;
        start.host = durable_->loaded()->boot_id == boot_id_ ? failover::Host::same_boot
                                                             : failover::Host::rebooted;
    }
    logger("control").info("pair {} site {} incarnation {:016x}", config_.pair.pair, me_.site,
                           me_.incarnation.value());
    event(EventCode::service_started, fmt::format("incarnation {:016x}", me_.incarnation.value()));
    stall_guard_.restart(MonotonicClock::now());
    feed(start);
    begin_network();
    detect_faults();
    every_second();
}

void Node::feed(failover::Input input) {
    inputs_.push_back(std::move(input));
    if (stepping_) return;
    stepping_ = true;
    while (!inputs_.empty() && !shut_down_) {
        const failover::Input next = std::move(inputs_.front());
        inputs_.pop_front();
        for (const auto& output : core_.step(next, MonotonicClock::now())) {
            if (!shut_down_) carry_out(output);
        }
    }
    stepping_ = false;
    if (!shut_down_) arm_timer();
}

void Node::arm_timer() {
    const Instant deadline = core_.deadline();
    if (deadline == Instant::max()) {
        core_timer_.cancel();
        return;
    }
    core_timer_.expires_at(std::chrono::steady_clock::time_point(deadline.time_since_epoch()));
    core_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error && !shut_down_) feed(failover::Tick{});
    });
}

void Node::detect_faults() {
    ++turns_;
    const Instant now = MonotonicClock::now();
    look_for_stall(now);
    consider_turning(now);
    if (peer_) {
        // A long message is heard piece by piece: it may take longer than the detector waits.
        if (const auto heard = channel_->stats().data_heard) detector_.heard(*heard);
    }
    const bool suspected = detector_.check(now) == failover::Suspicion::suspected;
    if (suspected != suspected_) {
        suspected_ = suspected;
        if (suspected) {
            feed(failover::PeerSuspected{});
        } else {
            feed(failover::PeerTrusted{});
        }
    }
    send_lag_report();
    control_lag();
    resend_if_stalled();
    verify_step(now);
    detector_timer_.expires_after(kDetectorInterval);
    detector_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error && !shut_down_) detect_faults();
    });
}

// Another site of the pair is the peer from here on: the line to the one before is closed, one to
// it is opened with its keys, and nothing is known of it yet.
void Node::consider_turning(Instant now) {
    const auto chosen = site_choice_.next(core_, now);
    if (!chosen) return;
    const Name before = peer_site();
    on_session_down(fmt::format("this site turns to {}", *chosen));
    channel_->say_goodbye(fmt::format("it turns to {}", *chosen));
    channel_.reset();
    heartbeats_sent_ = heartbeat_->sequence();
    heartbeat_.reset();
    detector_ = failover::FaultDetector(detector_config(config_.pair), now);
    suspected_ = false;
    heartbeat_from_.reset();
    feed(failover::TurnTo{*chosen});
    auto opened = open_channel();
    if (opened) opened = open_heartbeat();
    if (!opened) {
        failure_ = opened.error();
        return end_soon(1, opened.error().to_string());
    }
    heartbeat_->set_epoch(epoch_);
    bulk_cap_.reset();
    apply_bulk_schedule();
    logger("control").info("turns from {} to {}", before, *chosen);
    event(EventCode::state_changed, fmt::format("turns from {} to {}", before, *chosen));
}

std::vector<Watchdog::Part> Node::watched_parts() {
    const auto vcpu_turns = [this]() -> std::optional<uint64_t> {
        if (!engine_ || engine_stopped_) return std::nullopt;
        return engine_->turns();
    };
    const auto prod_vcpu = [this] {
        if (engine_) engine_->prod();
    };
    return {{"the core loop", [this] { return std::optional(turns_); }, {}},
            {"the vCPU thread", vcpu_turns, prod_vcpu}};
}

void Node::shutdown(const std::string& reason) {
    if (shut_down_) return;
    shut_down_ = true;
    drill_.reset();
    if (!reason.empty()) {
        logger("control").info("stopping: {}", reason);
        event(EventCode::service_stopping, reason);
    }
    for (auto& port : ports_) port->set_state(NetPort::State::closed);
    seed_in_.reset();
    heal_out_.reset();
    heal_in_.reset();
    end_engine();
    disk_work_.join();
    control_.reset();
    heartbeat_.reset();
    channel_.reset();
    tiebreaker_.reset();
    core_timer_.cancel();
    detector_timer_.cancel();
    second_timer_.cancel();
    flush_timer_.cancel();
    backlog_timer_.cancel();
    fault_timer_.cancel();
    degrade_timer_.cancel();
    switch_timer_.cancel();
    last_words_timer_.cancel();
    boost::system::error_code ignored;
    bridge_event_.close(ignored);
    ports_.clear();
    if (disks_) disks_->close();
    if (shutdown_hook_) shutdown_hook_();
}

Node::~Node() {
    shutdown("");
}

}  // namespace antipode::control
