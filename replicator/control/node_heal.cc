// Healing a backup that has diverged: asking, answering, and what people are told.
#include <boost/asio/post.hpp>
#include <filesystem>
#include <fstream>

#include "common/base/log.h"
#include "replicator/control/divergence_report.h"
#include "replicator/control/node.h"

namespace antipode::control {
namespace {

constexpr Duration kAskAgainAfter = std::chrono::seconds(3);
constexpr Duration kWindow = std::chrono::seconds(60);
constexpr size_t kHealsAWindowMax = 20;
constexpr uint64_t kReportsKept = 16;

}  // namespace

// ---- Backup ----

void Node::on_heal_wanted(VcpuBridge::HealWanted wanted) {
    diverged_ = true;
    interrupt_verify("the backup's VM is being put right");
    // Its copy may be of a VM that differed already, and the heal writes beside its overlays.
    fail_drill("the backup's VM differs from the primary's and is put right: the copy may differ");
    if (core_.state() == wire::SiteState::switching_backup) {
        heal_request_ = std::move(wanted.request);
        return refuse_hand_over();
    }
    if (consuming_) {
        event(EventCode::vm_error,
              "the VM goes on from a state that differs from the lost primary's");
        return engine_->abandon_heal();
    }
    if (wanted.request->pages.size() > replay::HealRequest::kPagesMax) {
        return feed(failover::VmFailed{
            fmt::format("cannot be healed: {} pages may differ", wanted.request->pages.size())});
    }
    heal_request_ = std::move(wanted.request);
    ask_for_heal();
}

void Node::ask_for_heal() {
    heal_asked_ = MonotonicClock::now();
    heal_progress_ = 0;
    heal_request_->attempt = ++heal_attempt_;
    HealReceiver::Hooks hooks;
    hooks.on_whole = [this](std::unique_ptr<replay::HealAnswer> answer, LogIndex position) {
        if (engine_) engine_->heal(std::move(answer), position);
    };
    hooks.on_failed = [this](const std::string& text) {
        feed(failover::VmFailed{"cannot be healed: " + text});
    };
    heal_in_ = std::make_unique<HealReceiver>(heal_attempt_, *disks_, std::move(hooks));
    heal_in_->log_is_at(core_.log_end());
    channel_->set_delivery(wire::MessageClass::seed, stream::Channel::Delivery::flowing);
    send_heal(wire::MessageClass::control, encode(HealMessage(*heal_request_)));
}

bool Node::send_heal(wire::MessageClass message_class, std::span<const std::byte> bytes) {
    return channel_->send(message_class, static_cast<uint8_t>(Message::heal), epoch_, bytes)
        .has_value();
}

// An attempt of which nothing comes any more (the session broke, the primary was busy) is followed
// by another.
void Node::ask_again_if_stalled() {
    if (!heal_request_ || !heal_in_ || heal_in_->committed() || !peer_) return;
    const Instant now = MonotonicClock::now();
    if (heal_in_->received_count() != heal_progress_) {
        heal_progress_ = heal_in_->received_count();
        heal_asked_ = now;
    }
    if (now - heal_asked_ > kAskAgainAfter) ask_for_heal();
}

void Node::on_healed(VcpuBridge::Healed healed) {
    const replay::HealResult& result = *healed.result;
    verify_base_exit_ = result.to.value();
    if (!heal_in_ || heal_in_->end() == nullptr) return;
    // From here on this site holds what the primary's VM had made and not released, in place of
    // what its own had.
    const HealEnd& end = *heal_in_->end();
    const OutputNumber released = std::max(gate_.released(), end.released);
    const auto mode = gate_.mode();
    gate_ = OutputGate();
    gate_.set_mode(mode);
    gate_.begin_after(released);
    for (const auto& held : end.held) {
        if (held.number > released) {
            gate_.hold({held.number, LogIndex(), held.output, MonotonicClock::now()});
        } else if (held.output.kind == vmm::Output::Kind::console) {
            emit(held.output);
        }
    }
    heal_in_.reset();
    heal_request_.reset();
    channel_->set_delivery(wire::MessageClass::seed, stream::Channel::Delivery::paused);
    send_heal(wire::MessageClass::control,
              encode(HealMessage(HealDone{heal_attempt_, result.page_count})));
    write_report(result);
    count_heal(result.page_count,
               fmt::format("exit {} to {}: {}", result.from, result.to, result.trouble));
}

void Node::count_heal(uint64_t page_count, const std::string& text) {
    diverged_ = false;
    ++heals_;
    healed_pages_ += page_count;
    const Instant now = MonotonicClock::now();
    heal_times_.push_back(now);
    while (heal_times_.size() > kHealsAWindowMax) heal_times_.pop_front();
    const auto line = fmt::format("{} pages put right ({})", page_count, text);
    logger("replay").warn("healed: {}", line);
    event(EventCode::digest_healed, line);
}

// True while so many heals were needed that a loss would most likely meet a VM that differs.
bool Node::replays_badly() const {
    return heal_times_.size() >= kHealsAWindowMax &&
           MonotonicClock::now() - heal_times_.front() < kWindow;
}

void Node::write_report(const replay::HealResult& result) {
    const auto folder = config_.pair.state_directory + "/divergence";
    const auto path = fmt::format("{}/{:02}.json", folder, report_count_++ % kReportsKept);
    auto text = divergence_report(result, unix_ms());
    boost::asio::post(disk_work_, [folder, path, text = std::move(text)] {
        std::error_code error;
        std::filesystem::create_directories(folder, error);
        std::ofstream file(path, std::ios::trunc);
        if (!(file << text)) logger("replay").warn("{}: cannot be written", path);
    });
}

void Node::forget_heal() {
    heal_out_.reset();
    heal_in_.reset();
    heal_request_.reset();
    hand_over_refused_ = false;
    diverged_ = false;
}

// The primary has lost its voice, or hands the VM over: everything that it logged is consumed.
void Node::consume_log() {
    const bool planned = core_.state() == wire::SiteState::switching_backup;
    if (planned && (diverged_ || heal_request_)) return refuse_hand_over();
    hand_over_refused_ = false;
    consuming_ = true;
    interrupt_verify("the log is consumed");
    if (!planned) settle_heal();  // a difference that shows up on the way is a reason to refuse
    disks_->release();            // a halted site that is forced replays what it had not
    engine_->resume();
    feed_backlog();
}

// A planned change of roles must not go on from a state that the world has not seen. The primary
// stands; when nobody takes over it asks for the VM and goes on. If it is lost instead, this site
// has to do with what it has.
void Node::refuse_hand_over() {
    hand_over_refused_ = true;
    event(EventCode::digest_mismatch,
          "this VM differs from the primary's, and does not take over from it");
}

// The log ends here: a heal that is whole takes effect, another never will.
void Node::settle_heal() {
    if (heal_in_ && heal_in_->committed()) return;
    if (heal_request_) {
        event(EventCode::vm_error,
              "the VM goes on from a state that differs from the lost primary's");
    }
    heal_in_.reset();
    heal_request_.reset();
    if (engine_) engine_->abandon_heal();
}

// ---- Primary ----

void Node::receive_heal(Epoch epoch, std::span<const std::byte> payload) {
    if (epoch != epoch_) return;
    auto message = decode_heal_message(payload);
    if (!message) {
        logger("replay").error("{}: {}", peer_site(), message.error().to_string());
        return;
    }
    if (auto* request = std::get_if<replay::HealRequest>(&*message)) {
        if (!recording_ || !engine_ || seed_out_ || !peer_ || *peer_ != partner_) return;
        if (!diverged_) {
            ++digest_mismatches_;
            digest_trouble_ = fmt::format("the backup differs at exit {}", request->exit);
            event(EventCode::digest_mismatch, digest_trouble_);
        }
        diverged_ = true;
        interrupt_verify("the backup's VM is being put right");
        heal_out_.reset();
        engine_->answer_heal(std::make_unique<replay::HealRequest>(std::move(*request)));
    } else if (const auto* done = std::get_if<HealDone>(&*message)) {
        if (!heal_out_ || heal_out_->attempt() != done->attempt) return;
        heal_out_.reset();
        count_heal(done->page_count, digest_trouble_);
    } else if (heal_in_) {
        heal_in_->receive(std::move(*message));
    }
}

void Node::on_heal_answered(VcpuBridge::HealAnswered answered) {
    if (!recording_ || !peer_ || *peer_ != partner_) return engine_->heal_answer_taken();
    if (!answered.answer->refused.empty()) ++heals_given_up_;
    flush_log();
    HealSender::Hooks hooks;
    hooks.send = [this](std::span<const std::byte> bytes) {
        return send_heal(wire::MessageClass::seed, bytes);
    };
    hooks.on_read = [this] {
        if (engine_) engine_->heal_answer_taken();
    };
    heal_out_ = std::make_unique<HealSender>(std::move(answered.answer), outbox_.last(), gate_,
                                             *disks_, std::move(hooks));
    heal_out_->pump();
}

}  // namespace antipode::control
