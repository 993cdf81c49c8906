#include "web/routes/metrics.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "web/exposition.h"
#include "web/headline.h"
#include "web/routes/disks.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
using control::Status;

// A number of the status, as a metric of the pair.
struct PairMetric {
    const char* name;
    const char* type;
    const char* help;
    double (*read)(const Status&);
};

double known(const std::optional<double>& value) {
    return value.value_or(std::numeric_limits<double>::quiet_NaN());
}
double known(const std::optional<uint64_t>& value) {
    return value ? static_cast<double>(*value) : std::numeric_limits<double>::quiet_NaN();
}
double seconds_of(const std::optional<int64_t>& unix_ms) {
    return unix_ms ? static_cast<double>(*unix_ms) / 1000
                   : std::numeric_limits<double>::quiet_NaN();
}
double count(uint64_t value) {
    return static_cast<double>(value);
}

#define READ(expression) [](const Status& s) -> double { return expression; }
constexpr PairMetric kPairMetrics[] = {
    {"antipode_pair_protected", "gauge",
     "1 if a loss of the primary's site now would lose nothing.",
     READ(s.protection == control::Protection::protected_ ? 1 : 0)},
    {"antipode_pair_spare", "gauge",
     "1 if this site is idle because two others of the pair's three have the VM.",
     READ(is_spare(s) ? 1 : 0)},
    {"antipode_pair_epoch", "gauge", "The pair's epoch as this site knows it.",
     READ(count(s.epoch.value()))},
    {"antipode_pair_execution_lag_seconds", "gauge", "How far the backup's execution is behind.",
     READ(known(s.execution_lag.seconds))},
    {"antipode_pair_execution_lag_entries", "gauge", "The same, in log entries.",
     READ(known(s.execution_lag.entries))},
    {"antipode_pair_execution_lag_bytes", "gauge", "The same, in bytes of log.",
     READ(known(s.execution_lag.bytes))},
    {"antipode_pair_log_bytes_per_second", "gauge", "Rate of the log before compression.",
     READ(known(s.log_rate.bytes_per_second))},
    {"antipode_pair_wire_bytes_per_second", "gauge", "Rate of the log after compression.",
     READ(known(s.log_rate.wire_bytes_per_second))},
    {"antipode_pair_log_entries_per_second", "gauge", "Rate of log entries.",
     READ(known(s.log_rate.entries_per_second))},
    {"antipode_pair_link_up", "gauge", "1 if the logging channel is connected.",
     READ(s.link.session_up ? 1 : 0)},
    {"antipode_pair_heartbeat_up", "gauge", "1 if heartbeats of the peer arrive.",
     READ(s.link.heartbeat_up ? 1 : 0)},
    {"antipode_pair_link_rtt_seconds", "gauge", "Round-trip time to the peer.",
     READ(known(s.link.rtt_seconds))},
    {"antipode_pair_link_jitter_seconds", "gauge", "Variation of the round-trip time.",
     READ(known(s.link.jitter_seconds))},
    {"antipode_pair_link_loss_ratio", "gauge", "Share of heartbeats that are lost.",
     READ(known(s.link.loss_ratio))},
    {"antipode_pair_link_sent_bytes_per_second", "gauge", "Rate of the logging channel, sent.",
     READ(known(s.link.sent_bytes_per_second))},
    {"antipode_pair_link_received_bytes_per_second", "gauge",
     "Rate of the logging channel, received.", READ(known(s.link.received_bytes_per_second))},
    {"antipode_pair_link_line_bytes_per_second", "gauge",
     "What the line carried when bulk last asked for all of it.",
     READ(known(s.link.line_bytes_per_second))},
    {"antipode_pair_link_utilisation_ratio", "gauge", "Part of that which is sent now.",
     READ(known(s.link.utilisation_ratio))},
    {"antipode_pair_link_clock_offset_seconds", "gauge",
     "The peer's monotonic clock minus this site's.", READ(known(s.link.clock_offset_seconds))},
    {"antipode_pair_link_sent_bytes_total", "counter", "Bytes sent on the logging channel.",
     READ(count(s.link.sent_bytes))},
    {"antipode_pair_link_received_bytes_total", "counter", "Bytes received on it.",
     READ(count(s.link.received_bytes))},
    {"antipode_pair_link_reconnects_total", "counter", "Times the logging channel came back.",
     READ(count(s.link.reconnects))},
    {"antipode_pair_outputs_held", "gauge", "Outputs that wait for their acknowledgement.",
     READ(count(s.output.held))},
    {"antipode_pair_outputs_released_total", "counter", "Outputs released.",
     READ(count(s.output.released))},
    {"antipode_pair_output_delay_p50_seconds", "gauge", "Median delay of outputs.",
     READ(known(s.output.delay_p50_seconds))},
    {"antipode_pair_output_delay_p99_seconds", "gauge", "99th percentile of it.",
     READ(known(s.output.delay_p99_seconds))},
    {"antipode_pair_exits_total", "counter", "Guest exits since the start of the epoch.",
     READ(count(s.execution.exits))},
    {"antipode_pair_throttle_ratio", "gauge", "Share of time the vCPU is slowed.",
     READ(known(s.execution.throttle_ratio))},
    {"antipode_pair_digests_checked_total", "counter", "Digests compared.",
     READ(count(s.digest.checked))},
    {"antipode_pair_digest_mismatches_total", "counter", "Digests that differed.",
     READ(count(s.digest.mismatches))},
    {"antipode_pair_healed_pages_total", "counter", "Pages fetched to heal a difference.",
     READ(count(s.digest.healed_pages))},
    {"antipode_pair_disk_mismatches_unresolved", "gauge",
     "Places where the disks of the two sites differ, neither repaired nor acknowledged.",
     READ(s.verify ? count(s.verify->unresolved) : 0)},
    {"antipode_pair_tiebreaker_reachable", "gauge", "1 if the tiebreaker answers this site.",
     READ(s.tiebreaker.reachable ? 1 : 0)},
    {"antipode_pair_certificate_not_after_timestamp_seconds", "gauge",
     "When this site's certificate for the tiebreaker, or its authority's, expires.",
     READ(seconds_of(s.tiebreaker.certificate_not_after_unix_ms))},
    {"antipode_pair_tiebreaker_rtt_seconds", "gauge", "Round-trip time to the tiebreaker.",
     READ(known(s.tiebreaker.rtt_seconds))},
    {"antipode_pair_vm_uptime_seconds", "gauge", "The guest's uptime, over failovers.",
     READ(known(s.vm.uptime_seconds))},
    {"antipode_pair_alerts", "gauge", "Alerts that stand.",
     READ(static_cast<double>(s.alerts.size()))},
};
#undef READ

constexpr control::State kStates[] = {
    control::State::starting, control::State::primary,   control::State::backup,
    control::State::joining,  control::State::pairing,   control::State::solo,
    control::State::asking,   control::State::waiting,   control::State::going_live,
    control::State::halted,   control::State::switching, control::State::stopped,
    control::State::failed,
};

void add_disks(Exposition& out, const Status& status, std::string_view pair,
               std::string_view site) {
    for (const control::DiskStatus& disk : status.disks) {
        const Exposition::Labels labels{{"pair", pair}, {"site", site}, {"disk", disk.id}};
        out.sample("antipode_pair_disk_up_to_date", labels,
                   disk.state == control::DiskState::up_to_date ? 1 : 0);
        out.sample("antipode_pair_disk_size_bytes", labels, count(disk.size_bytes));
        out.sample("antipode_pair_disk_epoch", labels, count(disk.epoch.value()));
        out.sample("antipode_pair_disk_synced_ratio", labels, known(disk.synced_ratio));
        out.sample("antipode_pair_disk_dirty_bytes", labels, known(disk.dirty_bytes));
        out.sample("antipode_pair_disk_read_bytes_total", labels, count(disk.read_bytes));
        out.sample("antipode_pair_disk_written_bytes_total", labels, count(disk.written_bytes));
    }
}

void declare(Exposition& out) {
    out.family("antipode_pair_up", "gauge", "1 if the pair's replicator at this site answers.");
    out.family("antipode_pair_state", "gauge", "1 for the state that the site is in.");
    out.family("antipode_pair_peer", "gauge", "1 for the site that this one is turned to.");
    for (const PairMetric& metric : kPairMetrics) {
        out.family(metric.name, metric.type, metric.help);
    }
    out.family("antipode_pair_disk_up_to_date", "gauge", "1 if the disk's copy here is complete.");
    out.family("antipode_pair_disk_size_bytes", "gauge", "Size of the disk.");
    out.family("antipode_pair_disk_epoch", "gauge", "Epoch in the disk's metadata.");
    out.family("antipode_pair_disk_synced_ratio", "gauge", "How far a resynchronisation is.");
    out.family("antipode_pair_disk_dirty_bytes", "gauge", "Bytes that the peer's copy lacks.");
    out.family("antipode_pair_disk_read_bytes_total", "counter", "Bytes read.");
    out.family("antipode_pair_disk_written_bytes_total", "counter", "Bytes written.");
}

void add_view(Exposition& out, const View& view) {
    const std::string pair = pair_of(view);
    const std::string site = view.status ? view.status->site : "";
    const Exposition::Labels labels{{"pair", pair}, {"site", site}};
    out.sample("antipode_pair_up", labels, view.reachable ? 1 : 0);
    if (!view.reachable || !view.status) return;  // old numbers would look like the present
    for (const control::State state : kStates) {
        out.sample("antipode_pair_state",
                   {{"pair", pair}, {"site", site}, {"state", control::word(state)}},
                   view.status->state == state ? 1 : 0);
    }
    out.sample("antipode_pair_peer",
               {{"pair", pair}, {"site", site}, {"peer", view.status->peer_site}}, 1);
    for (const PairMetric& metric : kPairMetrics) {
        out.sample(metric.name, labels, metric.read(*view.status));
    }
    add_disks(out, *view.status, pair, site);
}

void add_own(Exposition& out, const Services& services) {
    const ServerCounts counts = services.server->counts();
    const auto add = [&](std::string_view name, std::string_view type, std::string_view help,
                         uint64_t value) {
        out.family(name, type, help);
        out.sample(name, {}, count(value));
    };
    add("antipode_web_connections_total", "counter", "Connections accepted.", counts.connections);
    add("antipode_web_connections_open", "gauge", "Connections open.", counts.open);
    add("antipode_web_connections_refused_total", "counter", "Connections over a limit.",
        counts.refused);
    add("antipode_web_requests_total", "counter", "Requests read.", counts.requests);
    add("antipode_web_bad_requests_total", "counter", "Requests that could not be read.",
        counts.bad_requests);
    add("antipode_web_sent_bytes_total", "counter", "Bytes sent.", counts.sent_bytes);
    add("antipode_web_live_subscribers", "gauge", "Live subscribers.",
        services.hub.subscriber_count());
    add("antipode_web_live_subscribers_cut_total", "counter", "Subscribers that were too slow.",
        services.hub.cut_count());
}

void add_drills(Exposition& out, const Services& services) {
    const auto each = [&](std::string_view name, std::string_view help, auto value) {
        out.family(name, "gauge", help);
        for (const std::string& pair : services.fleet.pairs()) {
            const auto last = services.drills.last_of(pair);
            if (!last || !last->verdict) continue;
            out.sample(name, {{"pair", pair}, {"kind", word(last->kind)}}, value(*last));
        }
    };
    each("antipode_web_drill_passed", "1 if the pair's last drill passed.",
         [](const DrillEntry& last) { return *last.verdict == Verdict::passed ? 1.0 : 0.0; });
    each("antipode_web_drill_ended_timestamp_seconds", "When the pair's last drill ended.",
         [](const DrillEntry& last) {
             return static_cast<double>(last.ended_unix_ms.value_or(0)) / 1000;
         });
}

// Every replicator's own registry, asked at the same time.
asio::awaitable<void> add_registries(Exposition& out, Services& services) {
    struct Gathering {
        explicit Gathering(asio::any_io_executor executor) : done(std::move(executor)) {}
        asio::steady_timer done;
        size_t open = 0;
        std::map<std::string, std::string> texts;  // by view
    };
    const auto executor = co_await asio::this_coro::executor;
    const auto gathering = std::make_shared<Gathering>(executor);
    gathering->done.expires_at(asio::steady_timer::time_point::max());
    for (const View* view : services.fleet.all_views()) {
        if (!view->reachable) continue;
        ++gathering->open;
        auto question = services.fleet.ask(view->socket, control::Method::metrics, json::object());
        auto finish = [gathering, id = view->id](const std::exception_ptr& thrown,
                                                 Result<json::value> answer) {
            if (!thrown && answer && answer->is_string()) {
                gathering->texts[id] = std::string(answer->get_string());
            }
            if (--gathering->open == 0) gathering->done.cancel();
        };
        asio::co_spawn(executor, std::move(question), std::move(finish));
    }
    if (gathering->open != 0) {
        co_await gathering->done.async_wait(asio::as_tuple(asio::use_awaitable));
    }
    for (const auto& [id, text] : gathering->texts) {
        const View* view = services.fleet.find_view(id);
        if (view == nullptr || !view->status) continue;
        const std::string pair = pair_of(*view);
        const Exposition::Labels labels{{"pair", pair}, {"site", view->status->site}};
        out.merge(text, labels);
    }
}

asio::awaitable<Response> get_metrics(Services& services) {
    Exposition out;
    declare(out);
    for (const View* view : services.fleet.all_views()) add_view(out, *view);
    add_own(out, services);
    add_drills(out, services);
    co_await add_registries(out, services);
    co_await add_disk_metrics(out, services);
    Response response = Response::from_text(out.text());
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    co_return response;
}

}  // namespace

void add_metrics_routes(Router& router, Services& services) {
    router.add(http::verb::get, "/metrics", Need::read,
               [&services](const Call&) { return get_metrics(services); });
}

}  // namespace antipode::web
