#include "tests/replay/checkpoint_pair.h"

#include <algorithm>
#include <chrono>

namespace antipode::checkpoint {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Protection = replay::VmEngine::Protection;

}  // namespace

Result<std::unique_ptr<CheckpointEngine>> CheckpointPair::make_engine(
    replay::Side& owner, std::unique_ptr<replay::MemoryDisk>& disk, uint64_t seed) {
    FT_TRY(const auto kvm, vmm::Kvm::open());
    const std::vector<uint64_t> sizes(options_.config.drives.size(), options_.disk_bytes);
    FT_TRY(auto vm, vmm::build_vm(kvm, options_.config, sizes));
    disk = std::make_unique<replay::MemoryDisk>(options_.disk_bytes, seed);
    auto engine = std::make_unique<CheckpointEngine>(std::move(vm), options_.engine, owner, *disk,
                                                     owner, metrics_);
    disk->attach(*engine);
    return engine;
}

Result<std::unique_ptr<CheckpointPair>> CheckpointPair::make(const CheckpointPairOptions& options) {
    vmm::install_kick_handler();
    auto pair = std::unique_ptr<CheckpointPair>(new CheckpointPair(options));
    FT_TRY(pair->primary_engine, pair->make_engine(pair->primary, pair->primary_disk, 1));
    FT_TRY(pair->backup_engine, pair->make_engine(pair->backup, pair->backup_disk, 2));
    return pair;
}

CheckpointPair::~CheckpointPair() {
    pump_stop_ = true;
    if (pump_.joinable()) pump_.join();
    stop_copy();
    if (primary_engine) primary_engine->stop();
    if (backup_engine) backup_engine->stop();
    if (primary_disk) primary_disk->stop();
    if (backup_disk) backup_disk->stop();
}

void CheckpointPair::start() {
    backup_engine->start_replaying();
    primary_engine->protect(Protection::on);
    primary_engine->start_recording(0);
    pump_ = std::thread([this] { pump(); });
}

bool CheckpointPair::feed(const replay::LogEntry& entry) {
    const replay::LogBatch batch{LogIndex(next_index_), OutputNumber(), 0, {entry}};
    const auto bytes = replay::encode(batch);
    log_bytes += bytes.size();
    auto decoded = replay::decode_log_batch(bytes);
    if (!decoded || !(*decoded == batch)) {
        pump_error = decoded ? "batch changed in the codec" : decoded.error().to_string();
        return false;
    }
    while (!backup_engine->feed(LogIndex(next_index_), decoded->entries.front())) {
        if (pump_stop_) return false;
        std::this_thread::yield();
    }
    ++next_index_;
    return true;
}

// One entry to the backup, and its acknowledgement back. False: there is none.
bool CheckpointPair::carry_one() {
    const std::lock_guard round(pump_mutex_);
    std::optional<replay::Recorded> next;
    {
        const std::lock_guard lock(primary.mutex);
        if (primary.log.empty()) return false;
        next = std::move(primary.log.front());
        primary.log.pop_front();
    }
    if (!feed(next->entry)) return false;
    if (next->output_number != OutputNumber()) released = next->output_number.value();
    const auto* part = std::get_if<replay::CheckpointPart>(&next->entry.body);
    if (part != nullptr && is_end(part->bytes)) primary_engine->acknowledged(next->entry.exit);
    return true;
}

void CheckpointPair::pump() {
    constexpr Duration kLook = milliseconds(1);
    while (!pump_stop_) {
        if (line_held_ || !carry_one()) std::this_thread::sleep_for(kLook);
        primary_engine->wake();
    }
}

bool CheckpointPair::end_is_next() {
    const auto* part = std::get_if<replay::CheckpointPart>(&primary.log.front().entry.body);
    return part != nullptr && is_end(part->bytes);
}

bool CheckpointPair::cut_primary(Cut cut) {
    pump_stop_ = true;
    if (pump_.joinable()) pump_.join();
    const auto is_there = [this] {
        return std::ranges::any_of(primary.log, [](const replay::Recorded& each) {
            const auto* part = std::get_if<replay::CheckpointPart>(&each.entry.body);
            return part != nullptr && is_end(part->bytes);
        });
    };
    const bool in_checkpoint = cut == Cut::in_a_checkpoint;
    if (in_checkpoint && !primary.wait_until(is_there, seconds(20))) return false;
    primary_engine->stop();
    pump_stop_ = false;
    for (;;) {
        {
            const std::lock_guard lock(primary.mutex);
            if (primary.log.empty() || (in_checkpoint && end_is_next())) return true;
        }
        if (!carry_one()) return false;
    }
}

bool CheckpointPair::fail_over() {
    backup_engine->close_log();
    if (!backup.wait_until([&] { return backup.drained_at || backup.stop_reason; }, seconds(60))) {
        return false;
    }
    if (backup.stop_reason) return false;
    backup_engine->go_live(0, primary_engine->guest_clock_ns(MonotonicClock::now()));
    return backup.wait_until([&] { return backup.is_live || backup.stop_reason; }, seconds(10)) &&
           backup.is_live;
}

bool CheckpointPair::stand_still() {
    if (!primary_engine->control(replay::VmControl::Kind::pause)) return false;
    // It stands when both say so; then the backup has the checkpoint that says it.
    return backup.wait_until([&] { return primary_engine->held() && backup_engine->held(); },
                             seconds(20));
}

Result<void> CheckpointPair::seed_new_backup() {
    primary_engine->pause_at_exit(replay::VmEngine::Capture::yes);
    const auto stands = [this] { return primary.state != nullptr || primary.stop_reason; };
    if (!primary.wait_until(stands, seconds(30)) || primary.stop_reason) {
        return fail(Errc::unreachable, "the primary does not stand: {}", primary.stop_text);
    }
    if (!primary.wait_until([this] { return primary_disk->idle(); }, seconds(30))) {
        return fail(Errc::unreachable, "the disk does not come to rest");
    }
    const std::lock_guard lock(pump_mutex_);
    backup_engine->stop();
    backup_disk->stop();
    FT_TRY(backup_engine, make_engine(backup, backup_disk, 3));
    backup_disk->set_contents(primary_disk->contents());
    auto& from = primary_engine->vm().memory;
    auto& to = backup_engine->vm().memory;
    for (uint64_t page = 0; page < from.page_count(); ++page) {
        std::ranges::copy(from.page(page), to.mutable_page(page).begin());
    }
    // What is dirty by now is in the copy.
    primary_engine->request_dirty_pages(replay::VmEngine::Since::last_call);
    if (!primary.wait_until([this] { return !primary.dirty.empty(); }, seconds(30))) {
        return fail(Errc::unreachable, "no dirty pages come");
    }
    {
        const std::lock_guard side_lock(primary.mutex);
        primary.log.clear();  // nobody needs it from before the cut
    }
    FT_TRY_VOID(backup_engine->restore(*primary.state, LogIndex(next_index_ - 1)));
    {
        const std::lock_guard side_lock(backup.mutex);
        backup.console = primary.console;
        backup.frames = primary.frames;
        backup.stop_reason.reset();
    }
    backup_engine->start_replaying();
    primary_engine->resume();
    return {};
}

void CheckpointPair::stop_copy() {
    if (copy_engine) copy_engine->stop();
    if (copy_disk) copy_disk->stop();
    copy_engine.reset();
}

Result<std::vector<uint64_t>> CheckpointPair::dirty_pages(CheckpointEngine& engine,
                                                          replay::Side& side,
                                                          replay::VmEngine::Since since) {
    {
        const std::lock_guard lock(side.mutex);
        side.dirty.clear();
    }
    engine.request_dirty_pages(since);
    if (!side.wait_until([&side] { return !side.dirty.empty(); }, seconds(30))) {
        return fail(Errc::unreachable, "no dirty pages come");
    }
    const std::lock_guard lock(side.mutex);
    return side.dirty.back();
}

Result<void> CheckpointPair::start_copy(Of of) {
    auto& engine = of == Of::primary ? *primary_engine : *backup_engine;
    auto& side = of == Of::primary ? primary : backup;
    auto& disk = of == Of::primary ? *primary_disk : *backup_disk;
    stop_copy();
    FT_TRY(copy_engine, make_engine(copy, copy_disk, 4));
    const auto take = [&](const std::vector<uint64_t>& bitmap) {
        const auto& from = engine.vm().memory;
        auto& to = copy_engine->vm().memory;
        for (uint64_t page = 0; page < from.page_count(); ++page) {
            if ((bitmap[page / 64] >> (page % 64) & 1) == 0) continue;
            std::ranges::copy(from.page(page), to.mutable_page(page).begin());
        }
    };
    // Once while it runs: what is written meanwhile is dirty again.
    FT_TRY(const auto all, dirty_pages(engine, side, replay::VmEngine::Since::ever));
    take(all);
    const uint64_t number = engine.request_snapshot();
    const auto stands = [&] {
        return (side.state && side.state->snapshot == number) || side.stop_reason;
    };
    if (!side.wait_until(stands, seconds(30)) || side.stop_reason) {
        return fail(Errc::unreachable, "it does not stand: {}", side.stop_text);
    }
    if (!side.wait_until([&disk] { return disk.idle(); }, seconds(30))) {
        return fail(Errc::unreachable, "the disk does not come to rest");
    }
    FT_TRY(const auto last, dirty_pages(engine, side, replay::VmEngine::Since::last_call));
    take(last);
    copy_disk->set_contents(disk.contents());
    const replay::VmState state = *side.state;
    {
        const std::scoped_lock lock(side.mutex, copy.mutex);
        copy.console = side.console;
        copy.stop_reason.reset();
    }
    engine.snapshot_taken(number);
    FT_TRY_VOID(copy_engine->restore(state, LogIndex()));
    copy_engine->start_recording(state.guest_clock_ns);
    return {};
}

}  // namespace antipode::checkpoint
