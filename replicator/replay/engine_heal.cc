// Healing, both sides of it (heal.h).
#include <algorithm>
#include <xxhash.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/replay/engine.h"
#include "replicator/vmm/cpu_state.h"

namespace antipode::replay {
namespace {

// A string instruction that was interrupted half way stops once for each of its items at most.
constexpr int kLeftoverExitsMax = 65536;
// CPU time without an exit after which a replaying guest is held to be somewhere else than the
// primary's. Where that is wrong, it costs a heal.
constexpr Duration kStallMax = std::chrono::seconds(1);

Duration thread_cpu_time() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

bool is_set(const std::vector<uint64_t>& bitmap, uint64_t page) {
    return (bitmap[page / 64] >> (page % 64) & 1) != 0;
}

HealResult::PageDifference difference(uint64_t number, std::span<const std::byte> own,
                                      std::span<const std::byte> other) {
    HealResult::PageDifference out{number, 0, 0};
    for (size_t i = own.size(); i-- > 0;) {
        const std::byte theirs = other.empty() ? std::byte{0} : other[i];
        if (own[i] == theirs) continue;
        out.first_byte = static_cast<uint32_t>(i);
        ++out.byte_count;
    }
    return out;
}

}  // namespace

// ---- Both: what is written to the disks belongs to what is compared ----

void Engine::note_block_request(const vmm::BlockRequest& request) {
    using vmm::BlockOperation;
    if (request.operation == BlockOperation::read || request.operation == BlockOperation::flush) {
        return;
    }
    interval_chunks_.add(request.device, request.offset_bytes, request.length_bytes);
    const std::array<uint64_t, 6> head{
        block_hash_,          request.device,
        request.number,       static_cast<uint64_t>(request.operation),
        request.offset_bytes, request.length_bytes};
    block_hash_ = XXH3_64bits_withSeed(request.data.data(), request.data.size(),
                                       XXH3_64bits(head.data(), sizeof head));
}

// ---- Backup ----

void Engine::heal(std::unique_ptr<HealAnswer> answer, LogIndex position) {
    {
        const std::lock_guard lock(heal_mutex_);
        heal_inbox_ = std::move(answer);
        heal_position_ = position.value();
        heal_here_.store(true);
    }
    wake();
}

void Engine::abandon_heal() {
    heal_abandoned_ = true;
    wake();
}

// Nothing more of the log is applied until the heal is there or has been given up.
Engine::Step Engine::begin_heal(Trouble trouble, const std::string& text) {
    digest_equal_ = false;
    if (options_.healing == EngineOptions::Healing::off) {
        return trouble == Trouble::differs ? Step::go_on : diverged(text);
    }
    if (trouble != Trouble::differs) owner_.digest_checked(ExitNumber(exit_), text);
    healing_.emplace();
    healing_->trouble = trouble;
    healing_->text = text;
    at_exit_ = true;
    return heal_abandoned_.load() ? give_up_heal() : Step::go_on;
}

// The guest is only entered when the primary is known to have come to its next exit. One that finds
// none is lost.
Engine::Step Engine::replay_kick() {
    kick_armed_ = false;
    if (options_.healing == EngineOptions::Healing::off) return Step::go_on;
    const Duration now = thread_cpu_time();
    if (stall_exit_ != exit_) {
        stall_exit_ = exit_;
        stall_since_ = now;
        return Step::go_on;
    }
    if (now - stall_since_ < kStallMax) return Step::go_on;
    stall_since_ = now;
    const vmm::Exit exit = vcpu_.complete_access();
    if (exit.is_counted()) return handle_exit(exit);
    if (exit.kind != vmm::Exit::Kind::kicked) return guest_ended(StopReason::failed, exit.detail);
    return begin_heal(Trouble::stuck, "the guest does not come to the primary's next exit");
}

void Engine::request_heal() {
    auto request = std::make_unique<HealRequest>();
    request->attempt = ++heal_attempt_;
    request->verified = verified_number_;
    request->disk_verified = disk_verified_number_;
    request->exit = ExitNumber(exit_);
    request->chunks.assign(interval_chunks_.chunks().begin(), interval_chunks_.chunks().end());
    // Hashes of the memory as it is here, whether a digest was taken at this exit or not.
    const auto marked = memory_digest_.marked(vm_->vm, vm_->memory);
    const auto own = digest();
    if (!marked || !own) {
        logger("replay").error("healing: {}", (!marked ? marked.error() : own.error()).to_string());
        return;
    }
    trace_.add_point(ExitNumber(exit_), last_registers_);
    for (uint64_t page = 0; page < vm_->memory.page_count(); ++page) {
        if (!is_set(*marked, page)) continue;
        request->pages.push_back({page, memory_digest_.page_hashes()[page]});
    }
    owner_.heal_wanted(std::move(request));
}

Engine::Step Engine::heal_step() {
    drain_completions();
    if (heal_abandoned_.load()) return give_up_heal();
    if (heal_here_.exchange(false)) {
        const std::lock_guard lock(heal_mutex_);
        healing_->answer = std::move(heal_inbox_);
        healing_->position = heal_position_;
    }
    const auto interrupted = [this] {
        return command_waits() || inbox_.any() || heal_here_.load() || heal_abandoned_.load();
    };
    if (healing_->answer) {
        while (fetch_entry()) {
            note_skipped(next_entry_->entry);
            applied_index_ = next_entry_->index.value();
            next_entry_.reset();
            ++healing_->skipped;
            applied_seen_.store(applied_index_, std::memory_order_relaxed);
            if (applied_index_ >= healing_->position) return apply_heal();
        }
        if (log_closed_.load()) return give_up_heal();
        wakeup_.wait(std::nullopt, [&] {
            return interrupted() || !inbox_.entries.empty() || log_closed_.load();
        });
        return Step::go_on;
    }
    // This site's own requests first: one that ends later would overwrite what the heal writes.
    if (!healing_->asked && own_completions_.size() >= retriable_.size()) {
        healing_->asked = true;
        request_heal();
    }
    wakeup_.wait(std::nullopt, interrupted);
    return Step::go_on;
}

// The primary is gone, or about to hand over. What merely differs can go on through the log; what
// cannot follow it can only go on from where it stands. Either is a VM that differs from what the
// world saw, which the owner says.
Engine::Step Engine::give_up_heal() {
    const Trouble trouble = healing_->trouble;
    const std::string text = healing_->text;
    healing_.reset();
    switch (trouble) {
        case Trouble::differs:
            return Step::go_on;
        case Trouble::stuck:
            skip_log_ = true;
            own_outputs_.clear();
            return Step::go_on;
        case Trouble::ended:
            return finish(ended_reason_, text);
    }
    return Step::go_on;
}

// The exit that this VM stands at is dropped half way: what is left of its access must not happen
// to the state that comes.
Result<void> Engine::drop_access() {
    for (int i = 0; i < kLeftoverExitsMax; ++i) {
        const vmm::Exit exit = vcpu_.complete_access();
        if (!exit.is_counted()) return {};
        std::fill(exit.data.begin(), exit.data.end(), std::byte{0});
    }
    return fail(Errc::io, "the vCPU does not come to rest");
}

void Engine::compare_pages(const HealAnswer& answer, HealResult& result) {
    for (const auto& page : answer.pages) {
        const auto found = difference(page.number, vm_->memory.page(page.number), page.bytes);
        if (found.byte_count == 0) continue;
        ++result.page_count;
        if (result.differences.size() < HealResult::kDifferencesMax) {
            result.differences.push_back(found);
        }
    }
}

Engine::Step Engine::apply_heal() {
    const auto answer = std::move(healing_->answer);
    auto result = std::make_unique<HealResult>();
    result->attempt = answer->attempt;
    result->trouble = healing_->text;
    result->entries_skipped = healing_->skipped;
    result->from = ExitNumber(exit_);
    result->to = answer->state.exit;
    result->own = trace_.evidence(ExitNumber(exit_));
    result->primary = answer->evidence;
    for (const auto& page : answer->pages) {
        if (page.number >= vm_->memory.page_count()) {
            return diverged(fmt::format("a heal names page {}", page.number));
        }
    }
    compare_pages(*answer, *result);
    if (const auto dropped = drop_access(); !dropped) return diverged(dropped.error().to_string());
    for (const auto& page : answer->pages) put_page(page);
    const LogIndex position(healing_->position);
    const auto stretch = healing_->stretch;
    healing_.reset();
    own_outputs_.clear();
    delta_pages_.clear();
    retriable_.clear();
    own_completions_.clear();
    input_error_.clear();
    if (const auto taken = take_state(answer->state, position); !taken) {
        return diverged(taken.error().to_string());
    }
    reached_ = std::max(reached_, exit_);
    for (auto& request : std::exchange(reissue_, {})) disk_.submit(std::move(request));
    const auto own = digest();
    if (!own) return finish(StopReason::failed, own.error().to_string());
    if (!(*own == answer->digest)) {
        return diverged(fmt::format("healed, and still different:{}{}{}",
                                    own->cpu == answer->digest.cpu ? "" : " registers",
                                    own->devices == answer->digest.devices ? "" : " devices",
                                    own->memory == answer->digest.memory ? "" : " memory"));
    }
    accept_verified();
    digest_equal_ = true;
    if (stretch && begin_following(*stretch) == Step::stop) return Step::stop;
    heals_total_.add();
    healed_pages_total_.add(result->page_count);
    owner_.healed(std::move(result));
    return Step::go_on;
}

void Engine::put_page(const DeltaPages::Page& page) {
    const auto target = vm_->memory.mutable_page(page.number);
    if (page.bytes.empty()) {
        std::fill(target.begin(), target.end(), std::byte{0});
    } else {
        std::copy(page.bytes.begin(), page.bytes.end(), target.begin());
    }
}

// Memory and registers here are those of the primary at its digest `digest_number_`.
void Engine::accept_verified() {
    verified_number_ = digest_number_;
    disk_verified_number_ = digest_number_;
    interval_chunks_.clear();
    if (const auto taken = memory_digest_.take_marked(vm_->vm, vm_->memory); !taken) {
        logger("replay").error("dirty pages: {}", taken.error().to_string());
    }
}

// ---- Primary ----

void Engine::answer_heal(std::unique_ptr<HealRequest> request) {
    {
        const std::lock_guard lock(heal_mutex_);
        heal_request_ = std::move(request);
        heal_taken_ = false;
        heal_asked_ = true;
    }
    vcpu_.kick();
    wake();
}

void Engine::heal_answer_taken() {
    heal_taken_ = true;
    wake();
}

// At an exit. With chunks to be read, the guest does not run until they are.
Engine::Step Engine::stand_for_heal() {
    std::unique_ptr<HealRequest> request;
    {
        const std::lock_guard lock(heal_mutex_);
        request = std::move(heal_request_);
        heal_asked_ = false;
    }
    if (!request) return Step::go_on;
    if (stretch_ && take_delta() == Step::stop) return Step::stop;
    auto answer = std::make_unique<HealAnswer>();
    answer->attempt = request->attempt;
    const auto made = make_answer(*request, *answer);
    if (!made) {
        if (finished_early_) return Step::stop;  // completing the access ended the guest
        return finish(StopReason::failed, made.error().to_string());
    }
    append(Passed{});
    passed_.store(exit_, std::memory_order_release);
    const bool stands = !answer->chunks.empty() && answer->refused.empty();
    owner_.heal_answered(std::move(answer));
    const auto leaves = [this] {
        return heal_taken_.load() || heal_asked_.load() || command_to_stop();
    };
    while (stands && !leaves()) {
        if (dirty_wanted_.exchange(false)) report_dirty_pages();
        wakeup_.wait(std::nullopt, [&] { return leaves() || dirty_wanted_.load(); });
    }
    return Step::go_on;
}

Result<void> Engine::make_answer(const HealRequest& request, HealAnswer& answer) {
    FT_TRY(auto state, capture());
    answer.state = std::move(*state);
    FT_TRY(auto wanted, memory_digest_.marked(vm_->vm, vm_->memory));
    FT_TRY(answer.digest, digest());
    answer.evidence = trace_.evidence(request.exit);
    const auto since = history_.pages_since(request.verified);
    for (size_t word = 0; word < wanted.size(); ++word) wanted[word] |= since[word];
    for (const auto& [page, hash] : request.pages) {
        if (page >= vm_->memory.page_count()) {
            answer.refused = "the backup's VM has more memory";
            return {};
        }
        const uint64_t bit = uint64_t{1} << (page % 64);
        if (memory_digest_.page_hashes()[page] == hash) {
            wanted[page / 64] &= ~bit;
        } else {
            wanted[page / 64] |= bit;
        }
    }
    ChunkSet chunks = history_.chunks_since(request.disk_verified);
    chunks.add(interval_chunks_);
    for (const DiskChunk& chunk : request.chunks) {
        chunks.add(chunk.drive, chunk.index * DiskChunk::kBytes, 1);
    }
    if (chunks.overflowed() || chunks.chunks().size() > HealAnswer::kChunksMax) {
        answer.refused = "more disk has been written than a heal carries";
        return {};
    }
    answer.chunks.assign(chunks.chunks().begin(), chunks.chunks().end());
    for (uint64_t page = 0; page < vm_->memory.page_count(); ++page) {
        if (!is_set(wanted, page)) continue;
        if (answer.pages.size() == HealAnswer::kPagesMax) {
            answer.pages.clear();
            answer.refused = "more memory has been written than a heal carries";
            return {};
        }
        answer.pages.push_back(page_of(page, vm_->memory.page(page)));
    }
    return {};
}

}  // namespace antipode::replay
