// The JSON codec of control_api.h. Each type names its fields once, in fields(); Writer and Reader
// walk them, so that what is written and what is read cannot drift apart.
#include "replicator/control/control_api.h"

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cmath>
#include <concepts>
#include <type_traits>

namespace antipode::control {
namespace {

constexpr size_t kStringBytesMax = size_t{256} << 10;
constexpr size_t kArrayCountMax = 4096;

template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};

class Writer {
  public:
    template <typename T>
    using Of = const T;

    template <typename T>
    void operator()(std::string_view name, const T& value) {
        out_.emplace(name, encode(value));
    }
    template <typename T>
    static json::value encode(const T& value);
    json::object take() { return std::move(out_); }

  private:
    json::object out_;
};

class Reader {
  public:
    template <typename T>
    using Of = T;

    Reader(const json::object& in, std::string path) : in_(in), path_(std::move(path)) {}

    // An absent field keeps its default.
    template <typename T>
    void operator()(std::string_view name, T& value) {
        if (error_) return;
        const json::value* found = in_.if_contains(name);
        if (found == nullptr) return;
        if (auto read = decode(*found, value,
                               path_.empty() ? std::string(name) : path_ + "." + std::string(name));
            !read) {
            error_ = std::move(read).error();
        }
    }
    template <typename T>
    static Result<> decode(const json::value& in, T& value, const std::string& path);
    Result<> done() {
        if (error_) return fail(*std::move(error_));
        return {};
    }

  private:
    const json::object& in_;
    std::string path_;
    std::optional<Error> error_;
};

template <typename V>
void fields(V& v, typename V::template Of<Event>& e) {
    v("sequence", e.sequence);
    v("time_unix_ms", e.time_unix_ms);
    v("code", e.code);
    v("severity", e.severity);
    v("text", e.text);
}

template <typename V>
void fields(V& v, typename V::template Of<Alert>& a) {
    v("code", a.code);
    v("severity", a.severity);
    v("text", a.text);
    v("since_unix_ms", a.since_unix_ms);
}

template <typename V>
void fields(V& v, typename V::template Of<Lag>& lag) {
    v("seconds", lag.seconds);
    v("entries", lag.entries);
    v("bytes", lag.bytes);
}

template <typename V>
void fields(V& v, typename V::template Of<LogRate>& rate) {
    v("bytes_per_second", rate.bytes_per_second);
    v("wire_bytes_per_second", rate.wire_bytes_per_second);
    v("entries_per_second", rate.entries_per_second);
}

template <typename V>
void fields(V& v, typename V::template Of<LinkClassStatus>& c) {
    v("name", c.name);
    v("sent_bytes", c.sent_bytes);
    v("sent_compressed_bytes", c.sent_compressed_bytes);
    v("received_bytes", c.received_bytes);
    v("received_compressed_bytes", c.received_compressed_bytes);
    v("repeated_frames", c.repeated_frames);
    v("waiting_bytes", c.waiting_bytes);
}

template <typename V>
void fields(V& v, typename V::template Of<LinkPathStatus>& path) {
    v("listen", path.listen);
    v("peer_address", path.peer_address);
    v("heard", path.heard);
    v("rtt_seconds", path.rtt_seconds);
    v("jitter_seconds", path.jitter_seconds);
    v("loss_ratio", path.loss_ratio);
    v("last_heard_seconds", path.last_heard_seconds);
}

template <typename V>
void fields(V& v, typename V::template Of<LinkStatus>& link) {
    v("session_up", link.session_up);
    v("heartbeat_up", link.heartbeat_up);
    v("peer_address", link.peer_address);
    v("rtt_seconds", link.rtt_seconds);
    v("jitter_seconds", link.jitter_seconds);
    v("loss_ratio", link.loss_ratio);
    v("sent_bytes", link.sent_bytes);
    v("received_bytes", link.received_bytes);
    v("reconnects", link.reconnects);
    v("last_heard_seconds", link.last_heard_seconds);
    v("clock_offset_seconds", link.clock_offset_seconds);
    v("sent_bytes_per_second", link.sent_bytes_per_second);
    v("received_bytes_per_second", link.received_bytes_per_second);
    v("line_bytes_per_second", link.line_bytes_per_second);
    v("utilisation_ratio", link.utilisation_ratio);
    v("bulk_bytes_per_second_max", link.bulk_bytes_per_second_max);
    v("classes", link.classes);
    v("paths", link.paths);
}

template <typename V>
void fields(V& v, typename V::template Of<OutputStatus>& output) {
    v("held", output.held);
    v("released", output.released);
    v("delay_p50_seconds", output.delay_p50_seconds);
    v("delay_p99_seconds", output.delay_p99_seconds);
}

template <typename V>
void fields(V& v, typename V::template Of<ExecutionStatus>& execution) {
    v("exits", execution.exits);
    v("exits_per_second", execution.exits_per_second);
    v("throttle_ratio", execution.throttle_ratio);
    v("log_index", execution.log_index);
    v("acknowledged", execution.acknowledged);
}

template <typename V>
void fields(V& v, typename V::template Of<DigestStatus>& digest) {
    v("checked", digest.checked);
    v("mismatches", digest.mismatches);
    v("healed_pages", digest.healed_pages);
    v("last_ok_exit", digest.last_ok_exit);
}

template <typename V>
void fields(V& v, typename V::template Of<CheckpointFigures>& figures) {
    v("taken", figures.taken);
    v("acknowledged", figures.acknowledged);
    v("interval_seconds", figures.interval_seconds);
    v("bound", figures.bound);
    v("last_bytes", figures.last_bytes);
    v("last_pages", figures.last_pages);
    v("last_pause_seconds", figures.last_pause_seconds);
}

template <typename V>
void fields(V& v, typename V::template Of<AutoFigures>& figures) {
    v("by_deltas", figures.by_deltas);
    v("reason", figures.reason);
    v("since_unix_ms", figures.since_unix_ms);
    v("lockstep_after_seconds", figures.lockstep_after_seconds);
    v("deltas", figures.deltas);
    v("last_bytes", figures.last_bytes);
    v("last_pages", figures.last_pages);
    v("last_pause_seconds", figures.last_pause_seconds);
}

template <typename V>
void fields(V& v, typename V::template Of<DiskStatus>& disk) {
    v("id", disk.id);
    v("path", disk.path);
    v("size_bytes", disk.size_bytes);
    v("epoch", disk.epoch);
    v("state", disk.state);
    v("synced_ratio", disk.synced_ratio);
    v("dirty_bytes", disk.dirty_bytes);
    v("read_bytes", disk.read_bytes);
    v("written_bytes", disk.written_bytes);
    v("text", disk.text);
}

template <typename V>
void fields(V& v, typename V::template Of<MemberStatus>& member) {
    v("site", member.site);
    v("incarnation", member.incarnation);
}

template <typename V>
void fields(V& v, typename V::template Of<TiebreakerRecord>& record) {
    v("mode", record.mode);
    v("epoch", record.epoch);
    v("holder", record.holder);
    v("members", record.members);
}

template <typename V>
void fields(V& v, typename V::template Of<TiebreakerStatus>& tiebreaker) {
    v("reachable", tiebreaker.reachable);
    v("address", tiebreaker.address);
    v("text", tiebreaker.text);
    v("last_answer_seconds", tiebreaker.last_answer_seconds);
    v("rtt_seconds", tiebreaker.rtt_seconds);
    v("record", tiebreaker.record);
    v("certificate_not_after_unix_ms", tiebreaker.certificate_not_after_unix_ms);
}

template <typename V>
void fields(V& v, typename V::template Of<VmStatus>& vm) {
    v("name", vm.name);
    v("vcpu", vm.vcpu);
    v("mode", vm.mode);
    v("uptime_seconds", vm.uptime_seconds);
    v("memory_bytes", vm.memory_bytes);
    v("vcpu_count", vm.vcpu_count);
    v("console_tail", vm.console_tail);
}

template <typename V>
void fields(V& v, typename V::template Of<Operation>& operation) {
    v("id", operation.id);
    v("method", operation.method);
    v("state", operation.state);
    v("progress_ratio", operation.progress_ratio);
    v("text", operation.text);
    v("actor", operation.actor);
    v("started_unix_ms", operation.started_unix_ms);
    v("ended_unix_ms", operation.ended_unix_ms);
}

template <typename V>
void fields(V& v, typename V::template Of<DrillOptions>& options) {
    v("network", options.network);
    v("overlay_bytes_max", options.overlay_bytes_max);
}

template <typename V>
void fields(V& v, typename V::template Of<DrillDisk>& disk) {
    v("id", disk.id);
    v("size_bytes", disk.size_bytes);
    v("sha256", disk.sha256);
}

template <typename V>
void fields(V& v, typename V::template Of<DrillStatus>& drill) {
    v("id", drill.id);
    v("state", drill.state);
    v("network", drill.network);
    v("text", drill.text);
    v("actor", drill.actor);
    v("started_unix_ms", drill.started_unix_ms);
    v("ends_unix_ms", drill.ends_unix_ms);
    v("ended_unix_ms", drill.ended_unix_ms);
    v("copied_unix_ms", drill.copied_unix_ms);
    v("epoch", drill.epoch);
    v("log_index", drill.log_index);
    v("lag_seconds", drill.lag_seconds);
    v("copy_seconds", drill.copy_seconds);
    v("live_seconds", drill.live_seconds);
    v("vcpu", drill.vcpu);
    v("uptime_seconds", drill.uptime_seconds);
    v("exits", drill.exits);
    v("memory_bytes", drill.memory_bytes);
    v("overlay_bytes", drill.overlay_bytes);
    v("overlay_bytes_max", drill.overlay_bytes_max);
    v("sent_frames", drill.sent_frames);
    v("received_frames", drill.received_frames);
    v("taps", drill.taps);
    v("disks", drill.disks);
    v("console_tail", drill.console_tail);
}

template <typename V>
void fields(V& v, typename V::template Of<VerifyFinding>& finding) {
    v("disk", finding.disk);
    v("offset_bytes", finding.offset_bytes);
    v("length_bytes", finding.length_bytes);
    v("primary_digest", finding.primary_digest);
    v("backup_digest", finding.backup_digest);
    v("found_unix_ms", finding.found_unix_ms);
    v("equal_unix_ms", finding.equal_unix_ms);
    v("acknowledged", finding.acknowledged);
}

template <typename V>
void fields(V& v, typename V::template Of<VerifyStatus>& verify) {
    v("operation", verify.operation);
    v("state", verify.state);
    v("repairs", verify.repairs);
    v("started_unix_ms", verify.started_unix_ms);
    v("ended_unix_ms", verify.ended_unix_ms);
    v("total_bytes", verify.total_bytes);
    v("compared_bytes", verify.compared_bytes);
    v("mismatches", verify.mismatches);
    v("repaired", verify.repaired);
    v("unresolved", verify.unresolved);
    v("findings", verify.findings);
}

template <typename V>
void fields(V& v, typename V::template Of<Versions>& versions) {
    v("software", versions.software);
    v("api", versions.api);
    v("protocol", versions.protocol);
    v("peer_software", versions.peer_software);
}

template <typename V>
void fields(V& v, typename V::template Of<Status>& status) {
    v("pair", status.pair);
    v("site", status.site);
    v("peer_site", status.peer_site);
    v("spare_site", status.spare_site);
    v("state", status.state);
    v("reason", status.reason);
    v("state_since_unix_ms", status.state_since_unix_ms);
    v("role", status.role);
    v("protection", status.protection);
    v("protection_reason", status.protection_reason);
    v("epoch", status.epoch);
    v("incarnation", status.incarnation);
    v("rejoin", status.rejoin);
    v("reclaim", status.reclaim);
    v("members", status.members);
    v("execution_lag", status.execution_lag);
    v("log_rate", status.log_rate);
    v("link", status.link);
    v("output", status.output);
    v("execution", status.execution);
    v("digest", status.digest);
    v("checkpoint", status.checkpoint);
    v("auto", status.automatic);
    v("disks", status.disks);
    v("verify", status.verify);
    v("tiebreaker", status.tiebreaker);
    v("vm", status.vm);
    v("drill", status.drill);
    v("operations", status.operations);
    v("alerts", status.alerts);
    v("events", status.events);
    v("versions", status.versions);
    v("time_unix_ms", status.time_unix_ms);
}

template <typename V>
void fields(V& v, typename V::template Of<EventsRequest>& request) {
    v("after", request.after);
    v("limit", request.limit);
}

template <typename V>
void fields(V& v, typename V::template Of<EventsReply>& reply) {
    v("events", reply.events);
    v("oldest", reply.oldest);
    v("newest", reply.newest);
}

template <typename V>
void fields(V& v, typename V::template Of<HistoryRequest>& request) {
    v("after_unix_ms", request.after_unix_ms);
}

template <typename V>
void fields(V& v, typename V::template Of<ConsoleRequest>& request) {
    v("after", request.after);
}

template <typename V>
void fields(V& v, typename V::template Of<ConsoleReply>& reply) {
    v("begin", reply.begin);
    v("end", reply.end);
    v("text", reply.text);
}

template <typename V>
void fields(V& v, typename V::template Of<ActionRequest>& request) {
    v("check", request.check);
    v("actor", request.actor);
    v("confirm", request.confirm);
    v("note", request.note);
    v("peer_is_down", request.peer_is_down);
    v("accept_loss", request.accept_loss);
    v("disk", request.disk);
    v("keep", request.keep);
    v("fault", request.fault);
    v("duration_seconds", request.duration_seconds);
    v("to", request.to);
    v("text", request.text);
    v("operation", request.operation);
    v("options", request.options);
}

template <typename V>
void fields(V& v, typename V::template Of<Finding>& finding) {
    v("severity", finding.severity);
    v("text", finding.text);
}

template <typename V>
void fields(V& v, typename V::template Of<ActionReply>& reply) {
    v("allowed", reply.allowed);
    v("findings", reply.findings);
    v("consequence", reply.consequence);
    v("operation", reply.operation);
}

// Numbers of identity are hexadecimal text: JavaScript's numbers end at 2^53.
std::string hex(uint64_t value) {
    return fmt::format("{:016x}", value);
}

template <typename T>
json::value Writer::encode(const T& value) {
    if constexpr (std::is_same_v<T, bool> || std::is_integral_v<T>) {
        return value;
    } else if constexpr (std::is_same_v<T, double>) {
        return std::isfinite(value) ? json::value(value) : json::value(nullptr);
    } else if constexpr (std::is_same_v<T, std::string>) {
        return json::string(printable(value, kStringBytesMax));
    } else if constexpr (std::is_same_v<T, Incarnation>) {
        return json::string(hex(value.value()));
    } else if constexpr (std::is_same_v<T, Epoch> || std::is_same_v<T, LogIndex>) {
        return value.value();
    } else if constexpr (std::is_enum_v<T>) {
        return json::string(word(value));
    } else if constexpr (IsOptional<T>::value) {
        return value ? encode(*value) : json::value(nullptr);
    } else if constexpr (IsVector<T>::value) {
        json::array out;
        out.reserve(value.size());
        for (const auto& element : value) out.push_back(encode(element));
        return out;
    } else {
        Writer inner;
        fields(inner, value);
        return inner.take();
    }
}

std::string_view kind_name(const json::value& value) {
    switch (value.kind()) {
        case json::kind::null:
            return "null";
        case json::kind::bool_:
            return "a boolean";
        case json::kind::int64:
        case json::kind::uint64:
        case json::kind::double_:
            return "a number";
        case json::kind::string:
            return "a string";
        case json::kind::array:
            return "an array";
        case json::kind::object:
            return "an object";
    }
    return "nothing";
}

Failure wrong(const json::value& in, const std::string& path, std::string_view expected) {
    return fail(Errc::invalid_argument, "{}: is {}, expected {}",
                path.empty() ? std::string("value") : path, kind_name(in), expected);
}

Result<std::string_view> decode_text(const json::value& in, const std::string& path,
                                     std::string_view expected = "a string") {
    const json::string* text = in.if_string();
    if (text == nullptr) return wrong(in, path, expected);
    if (text->size() > kStringBytesMax) {
        return fail(Errc::limit, "{}: has {} bytes, at most {} are allowed", path, text->size(),
                    kStringBytesMax);
    }
    return std::string_view(text->data(), text->size());
}

template <typename T>
Result<> decode_number(const json::value& in, T& value, const std::string& path) {
    if (!in.is_number()) return wrong(in, path, "a number");
    boost::system::error_code error;
    const T read = in.to_number<T>(error);
    if (error) {
        return fail(Errc::invalid_argument, "{}: {} is not in the range of this field", path,
                    json::serialize(in));
    }
    value = read;
    return {};
}

Result<> decode_hex(const json::value& in, Incarnation& value, const std::string& path) {
    FT_TRY(const std::string_view text, decode_text(in, path, "16 hexadecimal digits"));
    uint64_t read = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read, 16);
    if (error != std::errc() || end != text.data() + text.size() || text.size() != 16) {
        return fail(Errc::invalid_argument, "{}: is not 16 hexadecimal digits", path);
    }
    value = Incarnation(read);
    return {};
}

template <typename T>
Result<> Reader::decode(const json::value& in, T& value, const std::string& path) {
    if constexpr (std::is_same_v<T, bool>) {
        if (!in.is_bool()) return wrong(in, path, "true or false");
        value = in.get_bool();
        return {};
    } else if constexpr (std::is_arithmetic_v<T>) {
        return decode_number(in, value, path);
    } else if constexpr (std::is_same_v<T, std::string>) {
        FT_TRY(const std::string_view text, decode_text(in, path));
        value = text;
        return {};
    } else if constexpr (std::is_same_v<T, Incarnation>) {
        return decode_hex(in, value, path);
    } else if constexpr (std::is_same_v<T, Epoch> || std::is_same_v<T, LogIndex>) {
        uint64_t number = 0;
        FT_TRY_VOID(decode_number(in, number, path));
        value = T(number);
        return {};
    } else if constexpr (std::is_enum_v<T>) {
        FT_TRY(const std::string_view text, decode_text(in, path));
        const auto found = from_word<T>(text);
        if (!found) {
            return fail(Errc::invalid_argument, "{}: unknown word '{}'", path,
                        printable(text.substr(0, 64), 64));
        }
        value = *found;
        return {};
    } else if constexpr (IsOptional<T>::value) {
        if (in.is_null()) {
            value.reset();
            return {};
        }
        return decode(in, value.emplace(), path);
    } else if constexpr (IsVector<T>::value) {
        const json::array* array = in.if_array();
        if (array == nullptr) return wrong(in, path, "an array");
        if (array->size() > kArrayCountMax) {
            return fail(Errc::limit, "{}: has {} elements, at most {} are allowed", path,
                        array->size(), kArrayCountMax);
        }
        value.clear();
        value.reserve(array->size());
        for (const json::value& element : *array) {
            const std::string at = fmt::format("{}[{}]", path, value.size());
            FT_TRY_VOID(decode(element, value.emplace_back(), at));
        }
        return {};
    } else {
        const json::object* object = in.if_object();
        if (object == nullptr) return wrong(in, path, "an object");
        Reader inner(*object, path);
        fields(inner, value);
        return inner.done();
    }
}

template <typename T>
Result<T> parse_value(const json::value& in) {
    T value;
    FT_TRY_VOID(Reader::decode(in, value, ""));
    return value;
}

struct Column {
    std::string_view name;
    std::optional<double> Sample::*member;
};
constexpr auto kColumns = std::to_array<Column>({
    {"lag_seconds", &Sample::lag_seconds},
    {"lag_entries", &Sample::lag_entries},
    {"lag_bytes", &Sample::lag_bytes},
    {"log_bytes_per_second", &Sample::log_bytes_per_second},
    {"wire_bytes_per_second", &Sample::wire_bytes_per_second},
    {"log_entries_per_second", &Sample::log_entries_per_second},
    {"rtt_seconds", &Sample::rtt_seconds},
    {"jitter_seconds", &Sample::jitter_seconds},
    {"loss_ratio", &Sample::loss_ratio},
    {"output_delay_p50_seconds", &Sample::output_delay_p50_seconds},
    {"output_delay_p99_seconds", &Sample::output_delay_p99_seconds},
    {"outputs_held", &Sample::outputs_held},
    {"exits_per_second", &Sample::exits_per_second},
    {"throttle_ratio", &Sample::throttle_ratio},
});
constexpr std::string_view kTimeColumn = "time_unix_ms";

// Columns that this version does not know are nullptr.
Result<std::vector<const Column*>> decode_columns(const json::value* in) {
    const json::array* names = in == nullptr ? nullptr : in->if_array();
    if (names == nullptr || names->empty() || names->size() > 64 || !names->front().is_string() ||
        names->front().get_string() != kTimeColumn) {
        return fail(Errc::invalid_argument, "columns: expected an array that starts with '{}'",
                    kTimeColumn);
    }
    std::vector<const Column*> columns;
    for (size_t i = 1; i < names->size(); ++i) {
        const json::string* name = (*names)[i].if_string();
        if (name == nullptr) return wrong((*names)[i], fmt::format("columns[{}]", i), "a string");
        columns.push_back(nullptr);
        for (const Column& column : kColumns) {
            if (column.name == std::string_view(*name)) columns.back() = &column;
        }
    }
    return columns;
}

Result<Sample> decode_sample(const json::value& in, std::span<const Column* const> columns,
                             const std::string& path) {
    const json::array* row = in.if_array();
    if (row == nullptr || row->size() != columns.size() + 1) {
        return fail(Errc::invalid_argument, "{}: expected an array of {} numbers", path,
                    columns.size() + 1);
    }
    Sample sample;
    FT_TRY_VOID(Reader::decode((*row)[0], sample.time_unix_ms, path + "[0]"));
    for (size_t i = 0; i < columns.size(); ++i) {
        if (columns[i] == nullptr) continue;
        FT_TRY_VOID(Reader::decode((*row)[i + 1], sample.*(columns[i]->member),
                                   fmt::format("{}[{}]", path, i + 1)));
    }
    return sample;
}

}  // namespace

#define ANTIPODE_WRITTEN(Type)               \
    json::value to_json(const Type& value) { \
        return Writer::encode(value);        \
    }
ANTIPODE_WRITTEN(Status)
ANTIPODE_WRITTEN(Operation)
ANTIPODE_WRITTEN(DrillStatus)
ANTIPODE_WRITTEN(DrillOptions)
ANTIPODE_WRITTEN(EventsReply)
ANTIPODE_WRITTEN(EventsRequest)
ANTIPODE_WRITTEN(HistoryRequest)
ANTIPODE_WRITTEN(ConsoleReply)
ANTIPODE_WRITTEN(ConsoleRequest)
ANTIPODE_WRITTEN(ActionRequest)
ANTIPODE_WRITTEN(ActionReply)
ANTIPODE_WRITTEN(Event)
#undef ANTIPODE_WRITTEN

json::value to_json(const HistoryReply& value) {
    json::array columns{json::string(kTimeColumn)};
    for (const Column& column : kColumns) columns.emplace_back(column.name);
    json::array rows;
    rows.reserve(value.samples.size());
    for (const Sample& sample : value.samples) {
        json::array row;
        row.reserve(kColumns.size() + 1);
        row.emplace_back(sample.time_unix_ms);
        for (const Column& column : kColumns) {
            row.push_back(Writer::encode(sample.*(column.member)));
        }
        rows.push_back(std::move(row));
    }
    json::object out;
    out["step_ms"] = value.step_ms;
    out["columns"] = std::move(columns);
    out["rows"] = std::move(rows);
    return out;
}

Result<Status> parse_status(const json::value& value) {
    return parse_value<Status>(value);
}
Result<Operation> parse_operation(const json::value& value) {
    return parse_value<Operation>(value);
}
Result<EventsReply> parse_events_reply(const json::value& value) {
    return parse_value<EventsReply>(value);
}
Result<EventsRequest> parse_events_request(const json::value& value) {
    return parse_value<EventsRequest>(value);
}
Result<HistoryRequest> parse_history_request(const json::value& value) {
    return parse_value<HistoryRequest>(value);
}
Result<ConsoleReply> parse_console_reply(const json::value& value) {
    return parse_value<ConsoleReply>(value);
}
Result<ConsoleRequest> parse_console_request(const json::value& value) {
    return parse_value<ConsoleRequest>(value);
}
Result<DrillStatus> parse_drill_status(const json::value& value) {
    return parse_value<DrillStatus>(value);
}
Result<DrillOptions> parse_drill_options(std::string_view text) {
    if (text.empty()) return DrillOptions{};
    auto value = parse_json(text);
    if (!value) return fail(std::move(value).error().within("options"));
    auto options = parse_value<DrillOptions>(*value);
    if (!options) return fail(std::move(options).error().within("options"));
    return options;
}
Result<ActionRequest> parse_action_request(const json::value& value) {
    return parse_value<ActionRequest>(value);
}
Result<ActionReply> parse_action_reply(const json::value& value) {
    return parse_value<ActionReply>(value);
}

Result<HistoryReply> parse_history_reply(const json::value& value) {
    const json::object* object = value.if_object();
    if (object == nullptr) return wrong(value, "", "an object");
    HistoryReply reply;
    if (const json::value* step = object->if_contains("step_ms")) {
        FT_TRY_VOID(decode_number(*step, reply.step_ms, "step_ms"));
    }
    FT_TRY(const auto columns, decode_columns(object->if_contains("columns")));
    const json::value* rows = object->if_contains("rows");
    if (rows == nullptr || !rows->is_array() || rows->get_array().size() > kArrayCountMax) {
        return fail(Errc::invalid_argument, "rows: expected an array of at most {} rows",
                    kArrayCountMax);
    }
    for (const json::value& row : rows->get_array()) {
        FT_TRY(Sample sample,
               decode_sample(row, columns, fmt::format("rows[{}]", reply.samples.size())));
        reply.samples.push_back(sample);
    }
    return reply;
}

Result<Request> parse_request(std::string_view line, std::optional<uint64_t>& id) {
    FT_TRY(const json::value value, parse_json(line));
    const json::object* object = value.if_object();
    if (object == nullptr) return wrong(value, "request", "an object");
    Request request;
    const json::value* number = object->if_contains("id");
    if (number == nullptr) return fail(Errc::invalid_argument, "id: is missing");
    FT_TRY_VOID(decode_number(*number, request.id, "id"));
    id = request.id;
    const json::value* method = object->if_contains("method");
    if (method == nullptr) return fail(Errc::invalid_argument, "method: is missing");
    FT_TRY_VOID(Reader::decode(*method, request.method, "method"));
    if (const json::value* params = object->if_contains("params"); params && !params->is_null()) {
        if (!params->is_object()) return wrong(*params, "params", "an object");
        request.params = params->get_object();
    }
    return request;
}

Result<Reply> parse_reply(std::string_view line) {
    FT_TRY(json::value value, parse_json(line));
    json::object* object = value.if_object();
    if (object == nullptr) return wrong(value, "reply", "an object");
    std::optional<uint64_t> id;
    if (const json::value* found = object->if_contains("id"); found && !found->is_null()) {
        FT_TRY_VOID(decode_number(*found, id.emplace(), "id"));
    }
    if (json::value* result = object->if_contains("result")) return Reply{id, std::move(*result)};
    const json::value* error = object->if_contains("error");
    if (error == nullptr || !error->is_object()) {
        return fail(Errc::protocol, "reply: has neither result nor error");
    }
    Errc code = Errc::protocol;
    std::string message;
    if (const json::value* found = error->get_object().if_contains("code")) {
        FT_TRY_VOID(Reader::decode(*found, code, "error.code"));
    }
    if (const json::value* found = error->get_object().if_contains("message")) {
        FT_TRY_VOID(Reader::decode(*found, message, "error.message"));
    }
    return Reply{id, fail(code, "{}", message)};
}

}  // namespace antipode::control
