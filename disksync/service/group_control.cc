// Group: what an operator asks and orders, over the control socket. A line of words in, JSON out.
#include <boost/json.hpp>
#include <charconv>

#include "disksync/service/group.h"

namespace antipode::disksync {

namespace json = boost::json;

namespace {

constexpr std::chrono::seconds kRoleLimit(60);

std::vector<std::string> words_of(const std::string& line) {
    std::vector<std::string> words;
    for (size_t at = 0; at < line.size();) {
        const size_t end = std::min(line.find(' ', at), line.size());
        if (end > at) words.push_back(line.substr(at, end - at));
        at = end + 1;
    }
    return words;
}

std::string refusal(const Error& error) {
    return json::serialize(
        json::object{{"error", error.context}, {"code", std::string(to_string(error.code))}});
}

std::string answer_of(const Result<>& result) {
    return result ? std::string(R"({"ok":true})") : refusal(result.error());
}

Result<uint64_t> number_of(const std::string& text) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
        return fail(Errc::invalid_argument, "\"{}\" is no whole number", text);
    }
    return value;
}

std::string hex(Generation generation) {
    return fmt::format("{:016x}", generation.value());
}

json::object preview_json(const SplitPreview& preview) {
    return {{"blocks_lost", preview.blocks_lost},
            {"bytes_of_blocks", preview.blocks_lost * kBlockBytes},
            {"lost_since", preview.lost_since_seconds},
            {"exact", preview.exact}};
}

std::string_view phase_of(SyncPhase phase) {
    switch (phase) {
        case SyncPhase::idle:
            return "idle";
        case SyncPhase::resync:
            return "resync";
        case SyncPhase::verify:
            return "verify";
        case SyncPhase::undo:
            return "undo";
    }
    return "unknown";
}

json::array kept_json(const std::vector<KeptUndo>& kept) {
    json::array made;
    for (const KeptUndo& undo : kept) {
        made.push_back(
            json::object{{"file", undo.path}, {"kept_at", undo.seconds}, {"bytes", undo.bytes}});
    }
    return made;
}

json::object disk_json(const DiskStatus& disk, const DiskPaths& paths, const StoreStatus& store) {
    json::object made{{"name", disk.name.view()},
                      {"store", paths.store},
                      {"store_health", to_string(store.health)},
                      {"store_reason", store.text},
                      {"store_reconnects", store.reconnects},
                      {"role", to_string(disk.role)},
                      {"state", to_string(disk.state)},
                      {"size_bytes", disk.size_bytes},
                      {"epoch", disk.epoch.value()},
                      {"generation", hex(disk.generations.current)},
                      {"marked_blocks", disk.marked_blocks},
                      {"phase", phase_of(disk.phase)},
                      {"paused", disk.paused},
                      {"undo_bytes", disk.undo_bytes},
                      {"undo_blocks", disk.undo_blocks},
                      {"verify_differences", disk.verify_differences},
                      {"reason", disk.reason}};
    if (disk.last_verify) {
        made["verify_ended_at"] = disk.last_verify->ended_seconds;
        made["verify_complete"] = disk.last_verify->complete;
        made["verify_blocks"] = disk.last_verify->blocks;
    }
    if (disk.peer_known) {
        made["peer_state"] = to_string(disk.peer_state);
        made["decision"] = to_string(disk.decision.kind);
        made["decision_reason"] = disk.decision.reason;
        made["if_this_site_wins"] = preview_json(disk.if_local_wins);
        made["if_the_peer_wins"] = preview_json(disk.if_peer_wins);
    }
    if (disk.phase != SyncPhase::idle) {
        made["blocks_total"] = disk.blocks_total;
        made["blocks_left"] = disk.blocks_left;
        if (disk.direction == SyncDirection::we_send) {
            made["bytes_sent"] = disk.bytes_sent;
            made["bytes_skipped"] = disk.bytes_skipped;
        }
        made["bytes_per_second"] = disk.bytes_per_second;
        if (disk.seconds_left) made["seconds_left"] = *disk.seconds_left;
    }
    return made;
}

}  // namespace

json::object Group::policies_json() const {
    const NodeConfig& node = config_.node;
    return {{"congestion", node.congestion == Congestion::block ? "block" : "pull-ahead"},
            {"peer_lost", node.peer_lost == PeerLost::go_on ? "go-on" : "wait"},
            {"disk_error", node.local_error == LocalError::detach ? "detach" : "report"},
            {"split_no_primary", to_string(node.split.no_primary)},
            {"split_one_primary", to_string(node.split.one_primary)},
            {"split_two_primaries", to_string(node.split.two_primaries)},
            {"verify_repairs", node.verify_repairs}};
}

json::object Group::point_json(const PointStatus& point) const {
    uint64_t views = 0;
    for (const uint32_t each : views_open_) views += each;
    json::object made{{"exists", point.number.has_value()}, {"views_open", views}};
    if (!point.number) {
        made["reason"] = point.reason;
        return made;
    }
    if (point.seconds != 0) made["time"] = point.seconds;
    if (point.not_before_seconds != 0) made["not_before"] = point.not_before_seconds;
    return made;
}

std::string Group::status_text() {
    const NodeStatus status = node_->status();
    json::object made{{"group", config_.node.pair.view()},
                      {"link", to_string(status.link)},
                      {"link_reason", status.reason.empty() ? link_note_ : status.reason},
                      {"peer", config_.peer.view()},
                      {"peer_address", link_ ? link_->peer_address() : std::string()},
                      {"mode", to_string(status.mode)},
                      {"sending", !status.disks.empty() && status.link == LinkState::streaming &&
                                      status.disks.front().direction == SyncDirection::we_send},
                      {"backlog_bytes", status.backlog_bytes},
                      {"changes_in_flight", status.changes_in_flight},
                      {"resync_rate_max", rate_max_},
                      {"consistent_point", point_json(status.point)},
                      {"policies", policies_json()}};
    if (status.waits_for_peer > Duration::zero()) {
        made["waits_for_peer_ms"] =
            std::chrono::duration_cast<std::chrono::milliseconds>(status.waits_for_peer).count();
    }
    if (link_) {
        const SyncLink::Counts counts = link_->counts();
        made["line"] = json::object{{"sent_bytes", counts.sent_bytes},
                                    {"sent_wire_bytes", counts.sent_wire_bytes},
                                    {"received_bytes", counts.received_bytes},
                                    {"received_wire_bytes", counts.received_wire_bytes},
                                    {"compressing", counts.compressing}};
    }
    json::array disks;
    for (size_t index = 0; index < status.disks.size(); ++index) {
        const StoreSlot& slot = stores_[index];
        json::object disk =
            disk_json(status.disks[index], config_.disks[index], slot.store->status());
        disk["views_open"] = views_open_[index];
        disk["kept_undo"] = kept_json(slot.files->kept_undo());
        disks.push_back(std::move(disk));
    }
    made["disks"] = std::move(disks);
    return json::serialize(made);
}

std::string Group::events_text() const {
    std::string text = R"({"events":[)";
    for (size_t index = 0; index < recent_events_.size(); ++index) {
        text += (index == 0 ? "" : ",") + recent_events_[index];
    }
    return text + "]}";
}

Result<uint16_t> Group::disk_of(const std::string& name) const {
    const auto found = find_disk(name);
    if (!found) {
        return fail(Errc::not_found, "group {} has no disk {}", config_.node.pair, name);
    }
    return *found;
}

// verify DISK [FIRST COUNT], resize DISK
Result<std::string> Group::disk_command(const std::vector<std::string>& words) {
    FT_TRY(const uint16_t disk, disk_of(words[1]));
    Result<> done;
    if (words[0] == "resize") {
        FT_TRY(const uint64_t size, stores_[disk].store->refresh_size());
        FT_TRY_VOID(stores_[disk].files->metadata().reserve(DiskRecord::file_bytes(size)));
        input([&](Node& node) { done = node.resize(disk, size); });
        if (done) {
            const std::lock_guard lock(mutex_);
            sizes_[disk] = size;
        }
    } else {
        uint64_t first = 0;
        uint64_t count = ~uint64_t{0};
        if (words.size() == 4) {
            FT_TRY(first, number_of(words[2]));
            FT_TRY(count, number_of(words[3]));
        }
        input([&](Node& node) { done = node.verify(disk, first, count); });
    }
    return answer_of(done);
}

Result<std::string> Group::simple_command(const std::vector<std::string>& words) {
    const std::string& verb = words[0];
    if (verb == "status") return status_text();
    if (verb == "events") return events_text();
    if ((verb == "verify" && (words.size() == 2 || words.size() == 4)) ||
        (verb == "resize" && words.size() == 2)) {
        return disk_command(words);
    }
    Result<> done;
    if (verb == "rate" && words.size() == 2) {
        FT_TRY(const uint64_t rate, number_of(words[1]));
        set_rate(rate);
    } else if (verb == "mode" && words.size() == 2) {
        const auto mode = parse_mode(words[1]);
        if (!mode) return fail(Errc::invalid_argument, "mode is async, semi-sync or sync");
        input([&](Node& node) { node.set_mode(*mode); });
    } else if (verb == "pause" || verb == "resume") {
        input([&](Node& node) { done = node.pause_resync(verb == "pause"); });
    } else if (verb == "invalidate") {
        input([&](Node& node) { done = node.invalidate(); });
    } else if (verb == "outdate") {
        input([&](Node& node) { done = node.outdate(); });
    } else if (verb == "resync") {
        input([&](Node& node) { done = node.resync_everything(); });
    } else if (verb == "discard-mine") {
        input([&](Node& node) { done = node.discard_mine(); });
        if (done) dial_later(Duration::zero());
    } else if (verb == "disconnect") {
        detached_by_operator_ = true;
        if (const auto link = std::exchange(link_, nullptr)) {
            link->close();
            input([](Node& node) { node.disconnected("an operator disconnected"); });
        }
    } else if (verb == "connect") {
        detached_by_operator_ = false;
        if (!link_) dial_later(Duration::zero());
    } else {
        return fail(Errc::invalid_argument, "\"{}\" is no command, or lacks its words", verb);
    }
    return answer_of(done);
}

// Answered when the copying may begin.
void Group::carry_command(const env::LineSocket::Reply& reply) {
    Result<std::vector<Generation>> names = fail(Errc::busy, "not asked");
    input([&](Node& node) { names = node.carry(); });
    if (!names) return reply(refusal(names.error()));
    json::object copies;
    for (size_t index = 0; index < names->size(); ++index) {
        copies[config_.disks[index].name.view()] = hex((*names)[index]);
    }
    const std::string text = json::serialize(json::object{{"carried", std::move(copies)}});
    wait_until(
        [this]() -> std::optional<Result<>> {
            if (!node_->records_durable()) return std::nullopt;
            return Result<>();
        },
        [reply, text](const Result<>& result) { reply(result ? text : refusal(result.error())); },
        kRoleLimit);
}

// promote [force | at-point], demote: answered when it is so.
void Group::role_command(const std::vector<std::string>& words,
                         const env::LineSocket::Reply& reply) {
    const bool promote = words[0] == "promote";
    const bool force = promote && words.size() == 2 && words[1] == "force";
    const bool at_point = promote && words.size() == 2 && words[1] == "at-point";
    if (words.size() != (force || at_point ? 2u : 1u)) {
        return reply(refusal({Errc::invalid_argument,
                              "the words are: promote, promote force, promote at-point, demote"}));
    }
    Result<> begun;
    input([&](Node& node) {
        begun = at_point  ? node.promote_at_point()
                : promote ? node.promote(force ? Node::Force::yes : Node::Force::no)
                          : node.demote();
    });
    if (!begun) return reply(refusal(begun.error()));
    wait_until(
        [this, promote, at_point]() -> std::optional<Result<>> {
            if (node_->is_primary() == promote) return Result<>();
            const bool failed =
                at_point && !node_->is_returning() && !node_->why_not_returned().empty();
            if (failed) return fail(Errc::io, "{}", node_->why_not_returned());
            return std::nullopt;
        },
        [reply](const Result<>& result) { reply(answer_of(result)); }, kRoleLimit);
}

void Group::command(const std::string& line, env::LineSocket::Reply reply) {
    const std::vector<std::string> words = words_of(line);
    if (words.empty()) return reply(R"({"error":"no command"})");
    if (words[0] == "promote" || words[0] == "demote") return role_command(words, reply);
    if (words[0] == "carry" && words.size() == 1) return carry_command(reply);
    auto answered = simple_command(words);
    reply(answered ? *answered : refusal(answered.error()));
}

}  // namespace antipode::disksync
