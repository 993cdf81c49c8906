#include "tests/replay/replay_pair.h"

#include <algorithm>
#include <chrono>

#include "replicator/replay/state_codec.h"

namespace antipode::replay {
namespace {

constexpr size_t kLogMax = 4096;
constexpr Duration kPumpInterval = std::chrono::milliseconds(1);

}  // namespace

void Side::note(const vmm::Output& output) {
    if (output.kind == vmm::Output::Kind::console) {
        console.append(reinterpret_cast<const char*>(output.bytes.data()), output.bytes.size());
    } else {
        frames.push_back(output.bytes);
    }
}

bool Side::record(Recorded&& step) {
    const std::lock_guard lock(mutex);
    if (log.size() >= kLogMax) return false;
    if (step.output_number != OutputNumber()) {
        output_numbers.push_back(step.output_number);
        note(step.output);
    }
    ++recorded_count;
    log.push_back(std::move(step));
    changed.notify_all();
    return true;
}

bool Side::replayed(ReplayedOutput&& output) {
    const std::lock_guard lock(mutex);
    output_numbers.push_back(output.number);
    note(output.output);
    changed.notify_all();
    return true;
}

void Side::drained(ExitNumber exit, LogIndex) {
    const std::lock_guard lock(mutex);
    drained_at = exit;
    changed.notify_all();
}

void Side::live(ExitNumber) {
    const std::lock_guard lock(mutex);
    is_live = true;
    console_replayed_bytes = console.size();
    if (!output_numbers.empty()) last_replayed = output_numbers.back();
    changed.notify_all();
}

void Side::standing(std::unique_ptr<VmState> captured) {
    const std::lock_guard lock(mutex);
    ++standing_count;
    if (captured) {
        state = std::move(captured);
        if (engine != nullptr) state_at = engine->applied();
    }
    changed.notify_all();
}

void Side::dirty_pages(std::vector<uint64_t> bitmap) {
    const std::lock_guard lock(mutex);
    dirty.push_back(std::move(bitmap));
    changed.notify_all();
}

void Side::stopped(StopReason reason, const std::string& text) {
    const std::lock_guard lock(mutex);
    stop_reason = reason;
    stop_text = text;
    changed.notify_all();
}

void Side::digest_checked(ExitNumber exit, const std::string& text) {
    const std::lock_guard lock(mutex);
    if (text.empty()) {
        ++digests_equal;
    } else if (digest_errors.size() < 10) {
        digest_errors.push_back(fmt::format("exit {}: {}", exit, text));
    }
    changed.notify_all();
}

void Side::replay_disk_error(const std::string& text) {
    const std::lock_guard lock(mutex);
    disk_errors.push_back(text);
    changed.notify_all();
}

void Side::heal_wanted(std::unique_ptr<HealRequest> wanted) {
    const std::lock_guard lock(mutex);
    heal_request = std::move(wanted);
    changed.notify_all();
}

void Side::heal_answered(std::unique_ptr<HealAnswer> answered) {
    if (on_answer) on_answer(*answered);
    const std::lock_guard lock(mutex);
    heal_answer = std::move(answered);
    answered_at = recorded_count;
    changed.notify_all();
}

void Side::healed(std::unique_ptr<HealResult> result) {
    const std::lock_guard lock(mutex);
    heals.push_back(*result);
    changed.notify_all();
}

bool Side::wait_until(const std::function<bool()>& condition, Duration deadline) {
    // Not everything a condition may look at notifies: look again now and then.
    constexpr Duration kLook = std::chrono::milliseconds(20);
    const Instant until = MonotonicClock::now() + deadline;
    std::unique_lock lock(mutex);
    while (!condition()) {
        if (MonotonicClock::now() >= until) return false;
        changed.wait_for(lock, kLook);
    }
    return true;
}

Result<std::unique_ptr<Engine>> ReplayPair::make_engine(Side& owner,
                                                        std::unique_ptr<MemoryDisk>& disk,
                                                        uint64_t seed) {
    FT_TRY(const auto kvm, vmm::Kvm::open());
    const std::vector<uint64_t> sizes(options_.config.drives.size(), options_.disk_bytes);
    EngineOptions engine_options;
    engine_options.digest_interval = std::chrono::milliseconds(100);
    engine_options.digest_exits = options_.digest_exits;
    engine_options.healing = options_.healing;
    engine_options.delta_every = options_.delta_every;
    engine_options.stretch.interval.longest = options_.stretch_interval;
    FT_TRY(auto vm, vmm::build_vm(kvm, options_.config, sizes));
    disk = std::make_unique<MemoryDisk>(options_.disk_bytes, seed);
    auto engine =
        std::make_unique<Engine>(std::move(vm), engine_options, owner, *disk, owner, metrics_);
    disk->attach(*engine);
    owner.engine = engine.get();
    if (options_.kick_seed != 0) engine->kick_randomly(options_.kick_seed + seed);
    return engine;
}

Result<std::unique_ptr<ReplayPair>> ReplayPair::make(const PairOptions& options) {
    vmm::install_kick_handler();
    auto pair = std::unique_ptr<ReplayPair>(new ReplayPair(options));
    const uint64_t seed = options.disk_seed;
    FT_TRY(pair->primary_engine, pair->make_engine(pair->primary, pair->primary_disk, seed));
    pair->primary.on_answer = [raw = pair.get()](HealAnswer& answer) { raw->copy_chunks(answer); };
    FT_TRY(pair->backup_engine, pair->make_engine(pair->backup, pair->backup_disk, seed + 1));
    return pair;
}

Result<void> ReplayPair::seed_new_backup() {
    primary_engine->pause_at_exit(Engine::Capture::yes);
    const auto stands = [this] { return primary.state != nullptr || primary.stop_reason; };
    if (!primary.wait_until(stands, std::chrono::seconds(30)) || primary.stop_reason) {
        return fail(Errc::unreachable, "the primary does not stand: {}", primary.stop_text);
    }
    const auto drained = [this] { return primary.log.empty(); };
    if (!primary.wait_until(drained, std::chrono::seconds(30))) {
        return fail(Errc::unreachable, "the log is not taken");
    }
    const std::lock_guard lock(pump_mutex_);
    backup_engine->stop();
    backup_disk->stop();
    FT_TRY(backup_engine, make_engine(backup, backup_disk, options_.disk_seed + 2));
    backup_disk->set_contents(primary_disk->contents());
    auto& from = primary_engine->vm().memory;
    auto& to = backup_engine->vm().memory;
    for (uint64_t page = 0; page < from.page_count(); ++page) {
        std::ranges::copy(from.page(page), to.mutable_page(page).begin());
    }
    FT_TRY_VOID(backup_engine->restore(*primary.state, LogIndex(next_index_ - 1)));
    {
        const std::lock_guard side_lock(backup.mutex);
        backup.console = primary.console;
        backup.frames = primary.frames;
        backup.stop_reason.reset();
        backup.digests_equal = 0;
    }
    backup_engine->start_replaying();
    primary_engine->resume();
    return {};
}

// The state as it comes out of the codec again; the VM stands.
Result<VmState> ReplayPair::take_snapshot(Engine& engine, Side& side, uint64_t& number) {
    {
        const std::lock_guard lock(side.mutex);
        side.state.reset();
    }
    number = engine.request_snapshot();
    const auto stands = [&] { return side.state != nullptr || side.stop_reason; };
    // The backup of a guest that waits for nothing but frames comes to no exit without one.
    const std::vector<std::byte> broadcast(60, std::byte{0xff});
    const Instant until = MonotonicClock::now() + std::chrono::seconds(30);
    while (!side.wait_until(stands, std::chrono::milliseconds(20))) {
        if (MonotonicClock::now() >= until) break;
        (void)primary_engine->frame_received(0, broadcast);
    }
    if (side.stop_reason || !side.state) {
        return fail(Errc::unreachable, "the VM does not stand: {}", side.stop_text);
    }
    vmm::StateWriter out;
    put_state(out, *side.state);
    vmm::StateReader in(out.bytes());
    VmState state = get_state(in);
    if (!in.ok() || !in.at_end()) return fail(Errc::corrupt, "state: {}", in.problem());
    return state;
}

Result<void> ReplayPair::snapshot_primary() {
    uint64_t number = 0;
    const auto state = take_snapshot(*primary_engine, primary, number);
    primary_engine->snapshot_taken(number);
    if (!state) return fail(state.error());
    return {};
}

Result<void> ReplayPair::move_backup() {
    uint64_t number = 0;
    FT_TRY(const VmState state, take_snapshot(*backup_engine, backup, number));
    const LogIndex position = backup.state_at;
    const std::lock_guard lock(pump_mutex_);
    auto old_disk = std::move(backup_disk);
    auto old_engine = std::move(backup_engine);
    old_engine->stop();
    old_disk->stop();
    FT_TRY(backup_engine, make_engine(backup, backup_disk, options_.disk_seed + ++moves_));
    backup_disk->set_contents(old_disk->contents());
    auto& to = backup_engine->vm().memory;
    for (uint64_t page = 0; page < to.page_count(); ++page) {
        std::ranges::copy(old_engine->vm().memory.page(page), to.mutable_page(page).begin());
    }
    FT_TRY_VOID(backup_engine->restore(state, position));
    {
        const std::lock_guard side_lock(backup.mutex);
        backup.stop_reason.reset();
    }
    backup_engine->start_replaying();
    for (const auto& [index, entry] : fed_) {
        if (index > position && !feed_backup(index, entry)) break;
    }
    return {};
}

Result<std::string> ReplayPair::compare_at_an_exit() {
    using std::chrono::seconds;
    const size_t stood = primary.standing_count;
    primary_engine->pause_at_exit(Engine::Capture::no);
    const auto stands = [&] { return primary.standing_count > stood || primary.stop_reason; };
    if (!primary.wait_until(stands, seconds(30)) || primary.stop_reason) {
        return fail(Errc::unreachable, "the primary does not stand: {}", primary.stop_text);
    }
    const ExitNumber exit = primary_engine->exit_number();
    const auto there = [&] {
        const std::lock_guard lock(pump_mutex_);
        const std::lock_guard side_lock(primary.mutex);
        return primary.log.empty() && backup_engine->applied() == LogIndex(next_index_ - 1);
    };
    const Instant until = MonotonicClock::now() + seconds(30);
    while (!there() || backup_engine->exit_number() != exit) {
        if (backup.stop_reason || MonotonicClock::now() >= until) {
            return fail(Errc::unreachable, "the backup does not come to exit {}: it is at {}. {}",
                        exit, backup_engine->exit_number(), backup.stop_text);
        }
        (void)backup.wait_until([&] { return backup.stop_reason.has_value(); },
                                std::chrono::milliseconds(5));
    }
    std::string text;
    const auto& one = primary_engine->vm().memory;
    const auto& other = backup_engine->vm().memory;
    for (uint64_t page = 0; page < one.page_count(); ++page) {
        if (!std::ranges::equal(one.page(page), other.page(page))) {
            text += fmt::format("page {} ", page);
        }
    }
    return text;
}

ReplayPair::~ReplayPair() {
    pump_stop_ = true;
    if (pump_.joinable()) pump_.join();
    if (primary_engine) primary_engine->stop();
    if (backup_engine) backup_engine->stop();
    if (primary_disk) primary_disk->stop();
    if (backup_disk) backup_disk->stop();
}

void ReplayPair::start() {
    backup_engine->start_replaying();
    primary_engine->start_recording(0);
    pump_ = std::thread([this] { pump(); });
}

bool ReplayPair::send(std::vector<LogEntry> entries, LogIndex first) {
    LogBatch batch{first, OutputNumber(), primary_engine->guest_clock_ns(MonotonicClock::now()),
                   std::move(entries)};
    const auto bytes = encode(batch);
    log_bytes += bytes.size();
    log_entries += batch.entries.size();
    auto decoded = decode_log_batch(bytes);
    if (!decoded || !(*decoded == batch)) {
        pump_error = decoded ? "batch changed in the codec" : decoded.error().to_string();
        return false;
    }
    uint64_t index = first.value();
    while (!fed_.empty() && fed_.front().first <= backup_engine->applied()) fed_.pop_front();
    for (auto& entry : decoded->entries) {
        if (!feed_backup(LogIndex(index), entry)) return false;
        const auto* piece = std::get_if<StretchState>(&entry.body);
        if (piece != nullptr && piece->piece == StretchState::Piece::last) {
            primary_engine->acknowledged(entry.exit);
        }
        if (std::holds_alternative<OutputMark>(entry.body)) ++outputs_sent;
        fed_.emplace_back(LogIndex(index), std::move(entry));
        ++index;
    }
    return true;
}

bool ReplayPair::feed_backup(LogIndex index, const LogEntry& entry) {
    while (!backup_engine->feed(index, entry)) {
        if (pump_stop_) return false;
        std::this_thread::yield();
    }
    return true;
}

// On the primary's vCPU thread: the guest stands.
void ReplayPair::copy_chunks(HealAnswer& answer) {
    const auto contents = primary_disk->contents();
    chunks_.clear();
    for (const DiskChunk& chunk : answer.chunks) {
        const auto from = std::min<size_t>(chunk.index * DiskChunk::kBytes, contents.size());
        const auto to = std::min<size_t>(from + DiskChunk::kBytes, contents.size());
        chunks_.emplace_back(contents.begin() + static_cast<ptrdiff_t>(from),
                             contents.begin() + static_cast<ptrdiff_t>(to));
    }
    primary_engine->heal_answer_taken();
}

void ReplayPair::carry_heal() {
    std::unique_ptr<HealRequest> request;
    std::unique_ptr<HealAnswer> answer;
    {
        const std::lock_guard lock(backup.mutex);
        request = std::move(backup.heal_request);
    }
    if (request) primary_engine->answer_heal(std::move(request));
    {
        const std::lock_guard lock(primary.mutex);
        if (primary.heal_answer && taken_count_ == primary.answered_at) {
            answer = std::move(primary.heal_answer);
        }
    }
    if (!answer) return;
    if (!answer->refused.empty()) {
        pump_error = "heal refused: " + answer->refused;
        return;
    }
    auto contents = backup_disk->contents();
    for (size_t i = 0; i < chunks_.size(); ++i) {
        const auto at = static_cast<ptrdiff_t>(answer->chunks[i].index * DiskChunk::kBytes);
        std::copy(chunks_[i].begin(), chunks_[i].end(), contents.begin() + at);
    }
    backup_disk->set_contents(std::move(contents));
    backup_engine->heal(std::move(answer), LogIndex(next_index_ - 1));
}

void ReplayPair::pump() {
    uint64_t passed_sent = 0;
    bool last_round = false;
    for (;;) {
        std::unique_lock round(pump_mutex_);
        // Read before the queue is drained: what it promises is then in the queue.
        const uint64_t passed = primary_engine->passed().value();
        std::vector<LogEntry> entries;
        bool emptied = false;
        {
            const std::lock_guard lock(primary.mutex);
            size_t bytes = 0;
            while (!line_held_ && !primary.log.empty() &&
                   entries.size() < LogBatch::kEntriesMax - 1) {
                if (primary.heal_answer && taken_count_ == primary.answered_at) break;
                bytes += encoded_bytes_max(primary.log.front().entry);
                if (bytes > LogBatch::kBytesMax / 2) break;
                entries.push_back(std::move(primary.log.front().entry));
                primary.log.pop_front();
                ++taken_count_;
            }
            emptied = !line_held_ && primary.log.empty();
        }
        primary_engine->wake();
        const uint64_t last = entries.empty() ? passed_sent : entries.back().exit.value();
        if (emptied && passed > last && !truncated_) {
            entries.push_back({ExitNumber(passed), Passed{}});
            passed_sent = passed;
        } else if (!entries.empty()) {
            passed_sent = last;
        }
        if (!entries.empty()) {
            const size_t count = entries.size();
            if (!send(std::move(entries), LogIndex(next_index_))) return;
            next_index_ += count;
        } else if (last_round) {
            return;
        }
        carry_heal();
        round.unlock();
        last_round = pump_stop_;
        if (!last_round) std::this_thread::sleep_for(kPumpInterval);
    }
}

void ReplayPair::cut_primary() {
    primary_engine->stop();
    pump_stop_ = true;
    if (pump_.joinable()) pump_.join();
}

void ReplayPair::cut_primary_at(double part) {
    line_held_ = true;
    primary_engine->stop();
    {
        const std::scoped_lock lock(pump_mutex_, primary.mutex);
        truncated_ = true;
        auto& log = primary.log;
        log.resize(static_cast<size_t>(static_cast<double>(log.size()) * part));
    }
    line_held_ = false;
    pump_stop_ = true;
    if (pump_.joinable()) pump_.join();
}

bool ReplayPair::fail_over() {
    using std::chrono::seconds;
    backup_engine->close_log();
    if (!backup.wait_until([&] { return backup.drained_at || backup.stop_reason; }, seconds(60))) {
        return false;
    }
    if (backup.stop_reason) return false;
    backup_engine->go_live(0);
    return backup.wait_until([&] { return backup.is_live || backup.stop_reason; }, seconds(10)) &&
           backup.is_live;
}

}  // namespace antipode::replay
