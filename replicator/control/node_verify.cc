// Comparing the disks of both sites while the VM runs (disk_verifier.h): asking for it, taking part
// in it as the backup, and what people are told.
#include <algorithm>

#include "common/base/hex.h"
#include "common/base/log.h"
#include "disksync/disk_metadata.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

// At each site; beside it the guest has its disk, and the log its line.
constexpr uint64_t kRateBytes = uint64_t{32} << 20;
// With more log than this under way, or a backup further behind, nothing is begun.
constexpr uint64_t kLogUnsentMax = 256 << 10;
constexpr Duration kLagMax = std::chrono::milliseconds(500);
// Beyond them differences are only counted.
constexpr uint64_t kEventsMax = 64;

wire::MessageClass class_of(const VerifyMessage& message) {
    if (std::holds_alternative<VerifyAsk>(message)) return wire::MessageClass::log;
    if (std::holds_alternative<VerifyBytes>(message)) return wire::MessageClass::resync;
    return wire::MessageClass::control;
}

}  // namespace

// ---- Acting

std::optional<Result<ActionReply>> Node::act_on_verify(Method method,
                                                       const ActionRequest& request) {
    using Answer = Result<ActionReply>;
    if (method == Method::verify || method == Method::resync) return begin_verify(method, request);
    ActionReply reply;
    if (method == Method::verify_acknowledge) {
        reply.consequence = fmt::format("{} places that differ raise no alert any more",
                                        verify_record_.unresolved());
        if (request.check) return Answer(std::move(reply));
        event(EventCode::operator_action,
              fmt::format("{}, by {}", reply.consequence, request.actor));
        verify_record_.acknowledge();
        return Answer(std::move(reply));
    }
    if (method != Method::cancel || !verifier_ || request.operation != verify_status_.operation) {
        return std::nullopt;
    }
    reply.consequence = "the disks are compared no further";
    if (!request.check) verify_ended(OperationState::cancelled, "cancelled by " + request.actor);
    return Answer(std::move(reply));
}

Result<void> Node::may_verify() const {
    if (core_.state() == wire::SiteState::paired_backup) {
        return fail(Errc::busy, "the disks are compared from the primary: ask {}", peer_site());
    }
    if (core_.state() != wire::SiteState::paired_primary || !recording_ || !engine_) {
        return fail(Errc::busy, "the VM has no backup in step to compare with: {}", core_.reason());
    }
    if (config_.vm.mode == vmm::ProtectionMode::checkpoint) {
        return fail(Errc::unsupported,
                    "a VM in checkpoint mode: its sites do not write their disks at the same "
                    "points of its execution");
    }
    if (const auto stretch = engine_->stretch_status(); stretch && stretch->now) {
        return fail(Errc::busy,
                    "the VM goes by deltas for now: its sites do not write their disks at the same "
                    "points of its execution");
    }
    if (!peer_) return fail(Errc::busy, "{} cannot be reached", peer_site());
    if (!speaks(peer_formats_, kVerifyFormat)) {
        return fail(Errc::unsupported,
                    "{} (software {}) cannot compare disks: bring both sites to one release",
                    peer_site(), channel_->session().software);
    }
    if (diverged_) {
        return fail(Errc::busy, "the backup differs and is being put right: {}", digest_trouble_);
    }
    if (verifier_) return fail(Errc::busy, "the disks are being compared");
    return {};
}

// Of the drives that are meant; 0: it is left out.
Result<std::vector<uint64_t>> Node::verify_sizes(const std::string& disk) const {
    std::vector<uint64_t> sizes = disks_->sizes();
    bool known = disk.empty();
    for (size_t i = 0; i < sizes.size(); ++i) {
        if (disk.empty()) continue;
        if (config_.vm.drives[i].drive_id == disk) {
            known = true;
        } else {
            sizes[i] = 0;
        }
    }
    if (!known) return fail(Errc::not_found, "disk: the VM has no drive '{}'", disk);
    if (sizes.empty()) return fail(Errc::not_found, "the VM has no disks");
    return sizes;
}

Result<ActionReply> Node::begin_verify(Method method, const ActionRequest& request) {
    FT_TRY_VOID(may_verify());
    FT_TRY(auto sizes, verify_sizes(request.disk));
    const bool repairs = method == Method::resync;
    ActionReply reply;
    reply.consequence =
        fmt::format("{} of both sites {} compared while the VM runs{}",
                    request.disk.empty() ? "the disks" : "disk " + request.disk,
                    request.disk.empty() ? "are" : "is",
                    repairs ? fmt::format("; what differs at {} is written anew", peer_site())
                            : ", and what differs is told");
    if (request.check) return reply;
    FT_TRY(const uint64_t seed, disksync::random_id());
    FT_TRY(const uint64_t numbers, disksync::random_id());
    FT_TRY(const uint64_t operation,
           journal_.begin_operation(unix_ms(), method, request.actor, reply.consequence));
    verify_status_ = {};
    verify_status_.operation = operation;
    verify_status_.state = OperationState::running;
    verify_status_.repairs = repairs;
    verify_status_.started_unix_ms = unix_ms();
    verify_whole_ = request.disk.empty();
    DiskVerifier::Hooks hooks;
    hooks.send = [this](const VerifyMessage& message) { return send_verify(message); };
    hooks.on_found = [this](const VerifyFound& found) {
        verify_found(found);
        (void)send_verify(found);
    };
    hooks.on_compared = [this](const DriveChunk& first, uint32_t count) {
        verify_record_.equal(first, count, unix_ms());
    };
    hooks.on_done = [this](const Result<void>& done) { verify_over_ = done; };
    const auto repair = repairs ? VerifyPlan::Repair::yes : VerifyPlan::Repair::no;
    verifier_ = std::make_unique<DiskVerifier>(
        *disks_,
        VerifyPlan(std::move(sizes), repair, kRateBytes, numbers >> 1, MonotonicClock::now()), seed,
        std::move(hooks));
    event(EventCode::verify_started,
          fmt::format("{}, asked by {}", reply.consequence, request.actor));
    reply.operation = operation;
    return reply;
}

// ---- While it runs

// Each turn of the core loop's own clock.
void Node::verify_step(Instant now) {
    if (verify_follower_) verify_follower_->look(now);
    if (!verifier_) return;
    if (core_.state() != wire::SiteState::paired_primary || !recording_ || !engine_) {
        return verify_ended(OperationState::failed,
                            "the pair is not in step any more: " + core_.reason());
    }
    const bool room = peer_ && *peer_ == partner_ && !diverged_ &&
                      channel_->unsent_bytes(wire::MessageClass::log) <= kLogUnsentMax &&
                      execution_lag(now) <= kLagMax;
    verifier_->look(room ? DiskVerifier::Room::some : DiskVerifier::Room::none, now);
    flush_log();  // the backup waits to hear that the point is passed
    const auto& figures = verifier_->figures();
    verify_bytes_total_.add(figures.compared_bytes - verify_status_.compared_bytes);
    take_verify_figures();
    const double whole = static_cast<double>(std::max<uint64_t>(figures.total_bytes, 1));
    journal_.progress(verify_status_.operation, static_cast<double>(figures.compared_bytes) / whole,
                      fmt::format("{} of {} bytes compared, {} places differ, {} repaired",
                                  figures.compared_bytes, figures.total_bytes, figures.mismatches,
                                  figures.repaired));
    if (!verify_over_) return;
    const Result<void> done = *std::exchange(verify_over_, {});
    if (!done) return verify_ended(OperationState::failed, done.error().context);
    const bool equal = figures.mismatches == figures.repaired;
    if (equal && verify_whole_) verify_record_.all_equal(unix_ms());
    verify_ended(equal ? OperationState::succeeded : OperationState::failed,
                 equal ? "the disks are equal" : "the disks differ");
}

void Node::take_verify_figures() {
    const auto& figures = verifier_->figures();
    verify_status_.total_bytes = figures.total_bytes;
    verify_status_.compared_bytes = figures.compared_bytes;
    verify_status_.mismatches = figures.mismatches;
    verify_status_.repaired = figures.repaired;
}

void Node::verify_ended(OperationState state, const std::string& why) {
    if (!verifier_) return;
    take_verify_figures();
    const auto figures = verifier_->figures();
    verifier_.reset();
    verify_over_.reset();
    const std::string text =
        fmt::format("{}: compared_bytes={} total_bytes={} mismatches={} repaired={} put_off={}",
                    why, figures.compared_bytes, figures.total_bytes, figures.mismatches,
                    figures.repaired, figures.put_off);
    verify_status_.state = state;
    verify_status_.ended_unix_ms = unix_ms();
    journal_.end_operation(unix_ms(), verify_status_.operation, state, text);
    event(EventCode::verify_finished, text,
          state == OperationState::succeeded ? Severity::info : Severity::warning);
}

// At both sites: what is under way is let go; a verify asks for it again where it can.
void Node::interrupt_verify(const std::string& why) {
    if (verify_follower_) verify_follower_->drop_all(why);
    if (verifier_) verifier_->interrupt(why, MonotonicClock::now());
}

void Node::end_verify(const std::string& why) {
    verify_follower_.reset();
    verify_ended(OperationState::failed, why);
}

void Node::verify_found(const VerifyFound& found) {
    const auto& drives = config_.vm.drives;
    if (found.drive >= drives.size()) return;
    const uint64_t size = disks_->size_bytes(found.drive);
    if (found.chunk >= SeedChunk::count_of(size)) return;
    const DiskRange range = chunk_range(found.chunk, 1, size);
    const DriveChunk chunk{found.drive, found.chunk};
    VerifyFinding finding;
    finding.disk = drives[found.drive].drive_id;
    finding.offset_bytes = range.offset_bytes;
    finding.length_bytes = range.length_bytes;
    finding.primary_digest = to_hex(std::as_bytes(std::span(found.primary.bytes)));
    finding.backup_digest = to_hex(std::as_bytes(std::span(found.backup.bytes)));
    finding.found_unix_ms = unix_ms();
    const auto place = fmt::format(
        "disk {} at byte {}, {} bytes: {}", finding.disk, range.offset_bytes, range.length_bytes,
        found.what == VerifyFound::What::repaired
            ? "the backup's are the primary's again, digest " + finding.primary_digest
            : fmt::format("digest {} at the primary, {} at the backup", finding.primary_digest,
                          finding.backup_digest));
    if (found.what == VerifyFound::What::repaired) {
        verify_repaired_total_.add();
        verify_record_.equal(chunk, 1, unix_ms());
        if (++verify_events_ <= kEventsMax) event(EventCode::disk_repaired, place);
        return;
    }
    verify_mismatches_total_.add();
    if (verify_record_.unresolved() == 0) {
        verify_since_unix_ms_ = unix_ms();
        verify_events_ = 0;
    }
    verify_record_.differs(chunk, finding);
    if (++verify_events_ <= kEventsMax) {
        logger("disksync").error("the sites' disks differ: {}", place);
        event(EventCode::disk_mismatch, place);
    }
}

// ---- The channel

bool Node::send_verify(const VerifyMessage& message) {
    if (!peer_ || *peer_ != partner_) return false;
    const auto bytes = encode(message);
    const auto message_class = class_of(message);
    if (message_class == wire::MessageClass::log) {
        return send_as_log(Message::verify, epoch_, bytes);
    }
    return channel_->send(message_class, static_cast<uint8_t>(Message::verify), epoch_, bytes)
        .has_value();
}

// Why this backup cannot take part now.
std::optional<std::string> Node::verify_trouble(const VerifyAsk& ask) const {
    if (core_.state() != wire::SiteState::paired_backup || recording_ || !engine_ ||
        engine_stopped_ || consuming_) {
        return fmt::format("{} does not follow the primary", config_.pair.site);
    }
    if (config_.vm.mode == vmm::ProtectionMode::checkpoint) return "it is in checkpoint mode";
    if (diverged_ || heal_request_) return "the backup's VM is being put right";
    // It came into this exit half way, and cannot count what was asked there.
    if (verify_base_exit_ && ask.point.exit <= *verify_base_exit_) {
        return "the VM has not left the exit where its backup began";
    }
    if (ask.purpose == VerifyPurpose::repair && drill_ &&
        drill_->status().state < DrillState::ended) {
        return fmt::format("a drill runs at {}, on these disks", config_.pair.site);
    }
    return std::nullopt;
}

void Node::receive_verify(Epoch epoch, std::span<const std::byte> payload) {
    if (epoch != epoch_ || *peer_ != partner_) return;
    auto message = decode_verify_message(payload);
    if (!message) {
        logger("disksync").error("{}: {}", peer_site(), message.error().to_string());
        return;
    }
    if (const auto* found = std::get_if<VerifyFound>(&*message)) {
        if (!recording_) verify_found(*found);
        return;
    }
    const auto* ask = std::get_if<VerifyAsk>(&*message);
    if (ask != nullptr) {
        if (const auto trouble = verify_trouble(*ask)) {
            (void)send_verify(VerifyLater{ask->number, VerifyLater::Again::yes, *trouble});
            return;
        }
        if (!verify_follower_) {
            verify_follower_ = std::make_unique<VerifyFollower>(
                *disks_, [this](const VerifyMessage& answer) { (void)send_verify(answer); });
        }
    }
    if (verifier_) {
        verifier_->receive(*message, MonotonicClock::now());
    } else if (verify_follower_) {
        verify_follower_->receive(std::move(*message));
    }
}

// ---- For people

void Node::fill_verify(Status& status) const {
    if (!verify_status_.state && verify_record_.empty()) return;
    status.verify = verify_status_;
    status.verify->unresolved = verify_record_.unresolved();
    status.verify->findings = verify_record_.findings();
}

}  // namespace antipode::control
