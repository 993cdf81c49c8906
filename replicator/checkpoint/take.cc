// Taking one checkpoint: the guest stands while it is copied aside, and runs while it is logged.
#include <algorithm>
#include <bit>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replicator/checkpoint/checkpoint_engine.h"

namespace antipode::checkpoint {
namespace {

constexpr size_t kPageBytes = vmm::layout::kPageBytes;

}  // namespace

// Not too many at once. The guest runs on meanwhile, and the next checkpoint covers more.
bool CheckpointEngine::may_take() const {
    return !standing_ && unacknowledged_.takes_more(interval_, Duration(round_trip_ns_.load()),
                                                    MonotonicClock::now());
}

Instant CheckpointEngine::due() const {
    using Waiting = replay::IntervalController::Waiting;
    const bool waits = something_waits_.load();
    return interval_.due(last_taken_, waits ? Waiting::something : Waiting::nothing);
}

CheckpointEngine::Step CheckpointEngine::take_checkpoint(Then then) {
    const Instant begin = MonotonicClock::now();
    make_stand();
    // What stopped a vCPU for good comes first.
    if (vcpu_failed_.load()) {
        const std::lock_guard lock(machine_mutex_);
        return finish(replay::StopReason::failed, vcpu_failure_);
    }
    ++number_;
    {
        const std::lock_guard lock(status_mutex_);
        on_the_way_.emplace_back(number_, begin);
    }
    part_count_ = 0;
    part_bytes_ = 0;
    const uint64_t first_output = output_number_ + 1;
    if (const auto copied = copy_aside(); !copied) {
        return finish(replay::StopReason::failed, copied.error().to_string());
    }
    output_number_ += copy_.outputs.size();
    if (copy_pages() == Step::stop) return Step::stop;
    crowded_ = false;
    if (then == Then::run && !reset_asked_.load()) let_run();
    const Duration pause = MonotonicClock::now() - begin;
    last_taken_ = begin;
    if (log_copy() == Step::stop || log_outputs(first_output) == Step::stop) return Step::stop;
    number_seen_ = number_;
    unacknowledged_.taken(number_, part_bytes_, begin);
    interval_.taken(pause, part_bytes_);
    checkpoints_total_.add();
    bytes_total_.add(part_bytes_);
    pause_seconds_.observe(std::chrono::duration<double>(pause).count());
    std::unique_lock lock(status_mutex_);
    ++status_.taken;
    status_.interval = interval_.interval();
    status_.bound = to_string(interval_.bound());
    status_.last_bytes = part_bytes_;
    status_.last_pages = copy_.page_count;
    status_.last_pause = pause;
    lock.unlock();
    if (!copy_.halted_for_good) return Step::go_on;
    // KVM would let it wait for ever.
    return announce_end(replay::StopReason::guest_halted, "HLT with interrupts off");
}

// All of it in one breath: devices, vCPUs, outputs and requests are of the same moment, as is the
// memory, for the guest stands until copy_pages() is done.
Result<void> CheckpointEngine::copy_aside() {
    const std::lock_guard lock(machine_mutex_);
    machine_.flush_console();
    copy_.outputs = std::move(made_);
    made_.clear();
    made_bytes_ = 0;
    for (auto& output : machine_.take_outputs()) copy_.outputs.push_back(std::move(output));
    copy_.machine = vmm::saved(machine_);
    copy_.guest_clock_ns = guest_clock_ns(MonotonicClock::now());
    FT_TRY(const auto cpus, capture_vcpus());
    copy_.cpus = vmm::saved(cpus);
    copy_.halted_for_good = vmm::halted_for_good(cpus);
    FT_TRY_VOID(collect_dirty());
    hold_writes();
    something_waits_ = false;
    return {};
}

uint64_t CheckpointEngine::dirty_count() {
    if (const uint64_t odd = vm_->memory.page_count() % 64; odd != 0) {
        dirty_.back() &= (uint64_t{1} << odd) - 1;
    }
    uint64_t count = 0;
    for (const uint64_t word : dirty_) count += static_cast<unsigned>(std::popcount(word));
    return count;
}

// What is more than may be copied is logged from where it lies, and the guest stands for as long as
// that takes: nothing bounds how much it writes between two checkpoints but its memory.
CheckpointEngine::Step CheckpointEngine::copy_pages() {
    const uint64_t aside_max = options_.copy_bytes_max / kPageBytes;
    uint64_t left = dirty_count();
    copy_.page_count = left;
    copy_.pages.clear();
    copy_.page_bytes.clear();
    copy_.page_bytes.reserve(std::min(left, aside_max) * kPageBytes);
    for (size_t word = 0; word < dirty_.size(); ++word) {
        for (uint64_t bits = std::exchange(dirty_[word], 0); bits != 0; bits &= bits - 1) {
            const uint64_t page = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
            const auto bytes = vm_->memory.page(page);
            if (left-- > aside_max) {
                if (log_page(page, bytes) == Step::stop) return Step::stop;
                continue;
            }
            copy_.pages.push_back(page);
            copy_.page_bytes.insert(copy_.page_bytes.end(), bytes.begin(), bytes.end());
        }
    }
    return Step::go_on;
}

// With the bytes that are in memory now: the backup takes them from the same memory.
void CheckpointEngine::hold_writes() {
    if (new_writes_.empty()) return;
    const std::set<RequestKey> wanted(new_writes_.begin(), new_writes_.end());
    HeldWrites held{number_, {}};
    for (auto& request : machine_.reissue_block_requests()) {
        if (wanted.contains(RequestKey(request.device, request.number))) {
            held.requests.push_back(std::move(request));
        }
    }
    FT_CHECK(held.requests.size() == wanted.size(), "{} of {} writes are in flight",
             held.requests.size(), wanted.size());
    held_writes_.push_back(std::move(held));
    new_writes_.clear();
}

CheckpointEngine::Step CheckpointEngine::log_copy() {
    if (log_pages() == Step::stop) return Step::stop;
    OutputsPart outputs;
    size_t bytes = 0;
    uint64_t number = output_number_ - copy_.outputs.size();
    for (const auto& output : copy_.outputs) {
        replay::ReplayedOutput next{OutputNumber(++number), output};
        if (bytes + content_bytes(next) > Part::kMachineBytesMax && !outputs.outputs.empty()) {
            if (log_part(std::exchange(outputs, {})) == Step::stop) return Step::stop;
            bytes = 0;
        }
        bytes += content_bytes(next);
        outputs.outputs.push_back(std::move(next));
    }
    if (!outputs.outputs.empty() && log_part(std::move(outputs)) == Step::stop) return Step::stop;
    std::span<const std::byte> rest(copy_.machine);
    while (!rest.empty()) {
        const auto piece = rest.first(std::min(rest.size(), Part::kMachineBytesMax));
        rest = rest.subspan(piece.size());
        if (log_part(MachinePart{{piece.begin(), piece.end()}}) == Step::stop) return Step::stop;
    }
    return log_part(EndPart{part_count_, copy_.guest_clock_ns, OutputNumber(output_number_), held_,
                            std::move(copy_.cpus)});
}

CheckpointEngine::Step CheckpointEngine::log_pages() {
    std::span<const std::byte> rest(copy_.page_bytes);
    for (const uint64_t number : copy_.pages) {
        if (log_page(number, rest.first(kPageBytes)) == Step::stop) return Step::stop;
        rest = rest.subspan(kPageBytes);
    }
    if (pages_part_.pages.empty()) return Step::go_on;
    return log_part(std::exchange(pages_part_, {}));
}

// By ascending number.
CheckpointEngine::Step CheckpointEngine::log_page(uint64_t number,
                                                  std::span<const std::byte> bytes) {
    if (!table_.changed(number, bytes)) {
        pages_unchanged_total_.add();
        return Step::go_on;
    }
    auto& pages = pages_part_.pages;
    pages.push_back(replay::page_of(number, bytes));
    pages_total_.add();
    if (pages.size() < PagesPart::kPagesMax) return Step::go_on;
    if (log_part(std::exchange(pages_part_, {})) == Step::stop) return Step::stop;
    apply_inputs();  // packing takes long enough for a frame to notice
    return Step::go_on;
}

// Behind the checkpoint: an output's mark is acknowledged after all that the output depends on.
CheckpointEngine::Step CheckpointEngine::log_outputs(uint64_t first_number) {
    uint64_t number = first_number;
    for (auto& output : std::exchange(copy_.outputs, {})) {
        if (push_output(std::move(output), OutputNumber(number++)) == Step::stop) return Step::stop;
    }
    return Step::go_on;
}

CheckpointEngine::Step CheckpointEngine::log_part(decltype(Part::body) body) {
    auto bytes = encoder_.encode({number_, std::move(body)});
    ++part_count_;
    part_bytes_ += bytes.size();
    return push(replay::CheckpointPart{std::move(bytes)});
}

}  // namespace antipode::checkpoint
