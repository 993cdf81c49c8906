// The point of the charts that a status is.
#include "replicator/control/control_api.h"

namespace antipode::control {
namespace {

std::optional<double> as_double(std::optional<uint64_t> value) {
    if (!value) return std::nullopt;
    return static_cast<double>(*value);
}

}  // namespace

Sample sample_of(const Status& status) {
    Sample sample;
    sample.time_unix_ms = status.time_unix_ms;
    sample.lag_seconds = status.execution_lag.seconds;
    sample.lag_entries = as_double(status.execution_lag.entries);
    sample.lag_bytes = as_double(status.execution_lag.bytes);
    sample.log_bytes_per_second = status.log_rate.bytes_per_second;
    sample.wire_bytes_per_second = status.log_rate.wire_bytes_per_second;
    sample.log_entries_per_second = status.log_rate.entries_per_second;
    sample.rtt_seconds = status.link.rtt_seconds;
    sample.jitter_seconds = status.link.jitter_seconds;
    sample.loss_ratio = status.link.loss_ratio;
    sample.output_delay_p50_seconds = status.output.delay_p50_seconds;
    sample.output_delay_p99_seconds = status.output.delay_p99_seconds;
    sample.outputs_held = static_cast<double>(status.output.held);
    sample.exits_per_second = status.execution.exits_per_second;
    sample.throttle_ratio = status.execution.throttle_ratio;
    return sample;
}

}  // namespace antipode::control
