#include "replicator/control/disk_set.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <future>
#include <thread>

#include "common/base/check.h"
#include "common/base/log.h"
#include "disksync/disk_metadata.h"

namespace antipode::control {
namespace {

disksync::StoreOperation operation_of(vmm::BlockOperation operation) {
    switch (operation) {
        case vmm::BlockOperation::read:
            return disksync::StoreOperation::read;
        case vmm::BlockOperation::write:
            return disksync::StoreOperation::write;
        case vmm::BlockOperation::flush:
            return disksync::StoreOperation::flush;
        case vmm::BlockOperation::discard:
            return disksync::StoreOperation::discard;
        case vmm::BlockOperation::write_zeroes:
            return disksync::StoreOperation::write_zeroes;
    }
    return disksync::StoreOperation::flush;
}

bool changes(const vmm::BlockRequest& request) {
    return disksync::changes_data(operation_of(request.operation));
}

DiskRange range_of(const vmm::BlockRequest& request) {
    return {request.offset_bytes, request.length_bytes};
}

}  // namespace

Result<std::unique_ptr<DiskSet>> DiskSet::open(const std::vector<vmm::DriveConfig>& drives,
                                               const Name& pair, const std::string& state_directory,
                                               boost::asio::io_context& core, Registry& metrics) {
    auto set = std::unique_ptr<DiskSet>(new DiskSet(core));
    for (const auto& config : drives) {
        auto drive = std::make_unique<Drive>();
        drive->id = config.drive_id;
        disksync::FencedStore::Options options;
        options.pair = pair;
        FT_TRY(options.disk, Name::parse(config.drive_id, "drive_id"));
        options.metadata_missing = disksync::FencedStore::Options::Missing::create;
        if (config.is_read_only) options.store.access = disksync::StoreAccess::read_only;
        if (disksync::is_nbd_uri(config.path_on_host)) {
            options.metadata_path = state_directory + "/" + config.drive_id + ".antipode";
        }
        auto opened = disksync::FencedStore::open(config.path_on_host, options);
        if (!opened) {
            return antipode::fail(std::move(opened).error().within("drive " + config.drive_id));
        }
        drive->store = std::move(*opened);
        if (!config.is_read_only) {
            drive->undo_path = disksync::undo_path_of(drive->store->metadata_path());
        }
        drive->read_bytes = &metrics.counter("antipode_disk_read_bytes_total", "Bytes read",
                                             {{"drive", drive->id}});
        drive->written_bytes = &metrics.counter("antipode_disk_written_bytes_total",
                                                "Bytes written", {{"drive", drive->id}});
        set->drives_.push_back(std::move(drive));
    }
    return set;
}

DiskSet::~DiskSet() {
    close();
}

void DiskSet::close() {
    for (auto& drive : drives_) {
        if (!drive->store) continue;
        if (const auto closed = drive->store->close(); !closed) {
            logger("disksync").error("drive {}: {}", drive->id, closed.error().to_string());
        }
    }
}

std::vector<uint64_t> DiskSet::sizes() const {
    std::vector<uint64_t> sizes;
    for (const auto& drive : drives_) sizes.push_back(drive->store->size_bytes());
    return sizes;
}

Epoch DiskSet::highest_epoch() const {
    Epoch highest;
    for (const auto& drive : drives_) highest = std::max(highest, drive->store->highest_epoch());
    return highest;
}

void DiskSet::attach(replay::VmEngine* engine) {
    {
        const std::lock_guard lock(engine_mutex_);
        engine_ = engine;
    }
    for (auto& drive : drives_) {
        const std::lock_guard lock(drive->mutex);
        drive->waiting.clear();
        drive->parked.clear();
        drive->held.clear();
        drive->fixes.restart();
        drive->first_token = drive->next_token;
    }
}

Result<void> DiskSet::fence(Epoch epoch) {
    for (auto& drive : drives_) FT_TRY_VOID(drive->store->fence(epoch));
    retry_parked();
    return {};
}

Result<void> DiskSet::flush() {
    for (auto& drive : drives_) {
        disksync::StoreRequest order;
        order.operation = disksync::StoreOperation::flush;
        FT_TRY_VOID(run_now(*drive, std::move(order)));
    }
    return {};
}

void DiskSet::set_epoch(Epoch epoch) {
    epoch_.store(epoch.value(), std::memory_order_release);
    retry_parked();
}

void DiskSet::retry_parked() {
    for (auto& drive : drives_) {
        const std::lock_guard lock(drive->mutex);
        std::deque<vmm::BlockRequest> again;
        again.swap(drive->parked);
        for (auto& request : again) start(*drive, std::move(request));
    }
}

void DiskSet::set_overlays(std::vector<std::shared_ptr<DrillOverlay>> overlays) {
    const std::lock_guard lock(overlays_mutex_);
    overlays_ = std::move(overlays);
}

// The replay waits for this: once for each chunk that changes during a drill.
void DiskSet::save_before(const vmm::BlockRequest& request) {
    std::shared_ptr<DrillOverlay> overlay;
    {
        const std::lock_guard lock(overlays_mutex_);
        if (request.device < overlays_.size()) overlay = overlays_[request.device];
    }
    if (!overlay || !changes(request)) return;
    Drive& drive = *drives_[request.device];
    overlay->save(request.offset_bytes, request.length_bytes,
                  [&](uint64_t offset_bytes, std::span<std::byte> data) {
                      disksync::StoreRequest order;
                      order.operation = disksync::StoreOperation::read;
                      order.offset_bytes = offset_bytes;
                      order.length_bytes = data.size();
                      order.buffer = data;
                      return run_now(drive, std::move(order));
                  });
}

Result<void> DiskSet::run_now(Drive& drive, disksync::StoreRequest&& order) {
    std::promise<Result<>> promise;
    order.done = [&promise](Result<> result) { promise.set_value(std::move(result)); };
    for (;;) {
        Result<> submitted;
        {
            const std::lock_guard lock(drive.mutex);
            submitted = drive.store->submit(std::move(order));  // takes it only if it succeeds
        }
        if (submitted) return promise.get_future().get();
        if (submitted.error().code != Errc::busy) return submitted;
        std::this_thread::yield();  // its requests in flight are many; they end
    }
}

void DiskSet::submit(vmm::BlockRequest&& request) {
    save_before(request);
    Drive& drive = *drives_[request.device];
    const std::lock_guard lock(drive.mutex);
    const DiskPoint place = drive.fixes.asked(exit_now());
    if (changes(request) && drive.fixes.holds(range_of(request), place)) {
        drive.held.emplace_back(place, std::move(request));
    } else {
        start(drive, std::move(request));
    }
    post_settled(drive);
}

// It has its place already, before everything that is fixed now (fixed_ranges.h).
void DiskSet::submit_again(vmm::BlockRequest&& request) {
    Drive& drive = *drives_[request.device];
    const std::lock_guard lock(drive.mutex);
    start(drive, std::move(request));
}

// Any thread.
bool DiskSet::may_change() const {
    return !held_.load(std::memory_order_acquire) &&
           (stall_guard_ == nullptr || stall_guard_->may_act(MonotonicClock::now()));
}

void DiskSet::hold() {
    held_.store(true, std::memory_order_release);
}

void DiskSet::release() {
    held_.store(false, std::memory_order_release);
    retry_parked();
}

// With the drive's mutex held.
void DiskSet::start(Drive& drive, vmm::BlockRequest&& request) {
    if (changes(request) && !may_change()) {
        drive.parked.push_back(std::move(request));
        return;
    }
    track(drive, request);
    const uint64_t token = drive.next_token++;
    vmm::BlockRequest& kept = drive.in_flight.emplace(token, std::move(request)).first->second;
    disksync::StoreRequest order;
    order.operation = operation_of(kept.operation);
    order.offset_bytes = kept.offset_bytes;
    order.length_bytes = kept.length_bytes;
    if (kept.operation == vmm::BlockOperation::read ||
        kept.operation == vmm::BlockOperation::write) {
        order.buffer = kept.data;
    }
    // The epoch of this site; one that is not recorded on the disk yet has not superseded the
    // recorded one. While it is being recorded neither may write: the store refuses the old one,
    // and the request is parked until fence() is over.
    order.epoch =
        std::min(Epoch(epoch_.load(std::memory_order_acquire)), drive.store->recorded_epoch());
    order.may_begin = [this] { return may_change(); };
    order.done = [this, &drive, token](Result<> result) { completed(drive, token, result); };
    const auto submitted = drive.store->submit(std::move(order));
    if (submitted) return;
    vmm::BlockRequest back = std::move(kept);
    drive.in_flight.erase(token);
    if (submitted.error().code == Errc::busy && !drive.in_flight.empty()) {
        drive.waiting.push_back(std::move(back));  // goes on with the next completion
        return;
    }
    if (submitted.error().code == Errc::stale_epoch) {
        drive.parked.push_back(std::move(back));
        return;
    }
    drive.error = submitted.error().to_string();
    logger("disksync").error("drive {}: {}", drive.id, drive.error);
    deliver(std::move(back), vmm::BlockStatus::io_error);
}

void DiskSet::completed(Drive& drive, uint64_t token, const Result<>& result) {
    vmm::BlockRequest request;
    bool overtaken = false;
    {
        const std::lock_guard lock(drive.mutex);
        const auto found = drive.in_flight.find(token);
        request = std::move(found->second);
        drive.in_flight.erase(found);
        overtaken = !result && result.error().code == Errc::stale_epoch;
        if (!result && !overtaken) drive.error = result.error().to_string();
        if (!overtaken) {
            const auto effect =
                changes(request) ? FixedRanges::Effect::changes : FixedRanges::Effect::none;
            drive.fixes.ended(request.number, effect, !result);
        }
        if (overtaken && token >= drive.first_token) {
            start(drive, std::move(request));  // it is parked, or its time has come again
        }
        if (!drive.waiting.empty()) {
            vmm::BlockRequest next = std::move(drive.waiting.front());
            drive.waiting.pop_front();
            start(drive, std::move(next));
        }
        start_waiting_seeds(drive);
        post_settled(drive);
    }
    if (idle_awaited_.load(std::memory_order_acquire)) {
        boost::asio::post(core_, [this] { tell_idle(); });
    }
    if (overtaken) return;
    if (result && request.operation == vmm::BlockOperation::read) {
        drive.read_bytes->add(request.length_bytes);
    } else if (result && request.operation == vmm::BlockOperation::write) {
        drive.written_bytes->add(request.length_bytes);
    } else if (!result && result.error().code != Errc::closed) {
        logger("disksync").error("drive {}: {}", drive.id, result.error().to_string());
    }
    deliver(std::move(request), result ? vmm::BlockStatus::ok : vmm::BlockStatus::io_error);
}

void DiskSet::deliver(vmm::BlockRequest&& request, vmm::BlockStatus status) {
    const std::lock_guard lock(engine_mutex_);
    if (engine_ == nullptr) return;
    engine_->block_done(request.device, request.number, status, std::move(request.data));
}

// ---- Fixing ----

// Any thread; with a drive's mutex held it is no exit before the one of its newest request.
uint64_t DiskSet::exit_now() {
    const std::lock_guard lock(engine_mutex_);
    return engine_ == nullptr ? 0 : engine_->exit_number().value();
}

// With the drive's mutex held.
void DiskSet::post_settled(Drive& drive) {
    if (drive.fixes.empty()) return;
    // What has been held for one range may belong before the point of another.
    const auto busy = [&drive](const DiskRange& range, const DiskPoint& point) {
        const auto lands = [&range](const vmm::BlockRequest& request) {
            return changes(request) && range_of(request).overlaps(range);
        };
        return std::ranges::any_of(drive.in_flight,
                                   [&](const auto& each) { return lands(each.second); }) ||
               std::ranges::any_of(drive.waiting, lands) ||
               std::ranges::any_of(drive.parked, lands) ||
               std::ranges::any_of(drive.held, [&](const auto& each) {
                   return each.first <= point && lands(each.second);
               });
    };
    for (auto& settled : drive.fixes.take_settled(exit_now(), busy)) {
        boost::asio::post(core_, std::move(settled));
    }
}

Result<FixedRanges::Fix> DiskSet::fix(uint32_t index, const DiskRange& range,
                                      const std::optional<DiskPoint>& at,
                                      std::function<void()> settled) {
    Drive& drive = *drives_[index];
    const std::lock_guard lock(drive.mutex);
    FT_TRY(const auto fixed, drive.fixes.add(range, at, exit_now(), std::move(settled)));
    post_settled(drive);
    return fixed;
}

void DiskSet::unfix(uint32_t index, uint64_t id) {
    Drive& drive = *drives_[index];
    const std::lock_guard lock(drive.mutex);
    drive.fixes.remove(id);
    // In their order: of two that overlap only one is with the disk, or here.
    for (auto& [place, request] : std::exchange(drive.held, {})) {
        if (drive.fixes.holds(range_of(request), place)) {
            drive.held.emplace_back(place, std::move(request));
        } else {
            start(drive, std::move(request));
        }
    }
    post_settled(drive);
}

void DiskSet::look_at_fixes() {
    for (auto& drive : drives_) {
        const std::lock_guard lock(drive->mutex);
        post_settled(*drive);
    }
}

void DiskSet::restart_exits() {
    for (auto& drive : drives_) {
        const std::lock_guard lock(drive->mutex);
        drive->fixes.restart();
    }
}

// ---- Seeding ----

void DiskSet::track(Drive& drive, const vmm::BlockRequest& request) {
    if (!drive.tracking || !changes(request) || request.length_bytes == 0) return;
    const uint64_t last = (request.offset_bytes + request.length_bytes - 1) / kTrackBytes;
    for (uint64_t i = request.offset_bytes / kTrackBytes; i <= last; ++i) drive.written.insert(i);
}

void DiskSet::start_tracking() {
    for (auto& drive : drives_) {
        const std::lock_guard lock(drive->mutex);
        drive->tracking = true;
        drive->written.clear();
        // What is with the disk already may land after its chunk is read.
        for (const auto& [token, request] : drive->in_flight) track(*drive, request);
    }
}

void DiskSet::stop_tracking() {
    for (auto& drive : drives_) {
        const std::lock_guard lock(drive->mutex);
        drive->tracking = false;
        drive->written.clear();
    }
}

std::vector<std::pair<uint32_t, uint64_t>> DiskSet::take_written(uint64_t chunk_bytes) {
    std::vector<std::pair<uint32_t, uint64_t>> all;
    for (uint32_t i = 0; i < drives_.size(); ++i) {
        Drive& drive = *drives_[i];
        const std::lock_guard lock(drive.mutex);
        for (const uint64_t chunk : drive.written)
            all.emplace_back(i, chunk * kTrackBytes / chunk_bytes);
        drive.written.clear();
        // A write that is with the disk may land after the chunk is read: it counts as new.
        for (const auto& [token, request] : drive.in_flight) track(drive, request);
    }
    return all;
}

void DiskSet::start_seed(Drive& drive, disksync::StoreRequest&& order) {
    const std::lock_guard lock(drive.mutex);
    drive.seed_waiting.push_back(std::move(order));
    start_waiting_seeds(drive);
}

// Seeding yields to the guest: it takes at most a few of the store's places. A store ends what
// overlaps in any order; so of two for the same bytes the later one waits for the earlier one, or
// an old chunk would stand where a new one belongs. With the drive's mutex held.
void DiskSet::start_waiting_seeds(Drive& drive) {
    constexpr size_t kSeedInFlightMax = 16;
    while (!drive.seed_waiting.empty() && drive.seeds_in_flight.size() < kSeedInFlightMax) {
        const disksync::StoreRequest& first = drive.seed_waiting.front();
        const DiskRange range{first.offset_bytes, first.length_bytes};
        const auto overlaps = [&range](const DiskRange& other) { return other.overlaps(range); };
        if (std::ranges::any_of(drive.seeds_in_flight, overlaps)) return;
        disksync::StoreRequest next = std::move(drive.seed_waiting.front());
        drive.seed_waiting.pop_front();
        const auto submitted = drive.store->submit(std::move(next));
        if (!submitted && submitted.error().code == Errc::busy &&
            drive.in_flight.size() + drive.seeds_in_flight.size() > 0) {
            drive.seed_waiting.push_front(std::move(next));  // goes on with the next completion
            return;
        }
        drive.seeds_in_flight.push_back(range);
        if (!submitted) next.done(antipode::fail(submitted.error()));  // posts
    }
}

void DiskSet::seed_done(Drive& drive, const DiskRange& range) {
    {
        const std::lock_guard lock(drive.mutex);
        const auto found = std::ranges::find(drive.seeds_in_flight, range);
        FT_CHECK(found != drive.seeds_in_flight.end(), "a chunk at {} ended that had not begun",
                 range.offset_bytes);
        drive.seeds_in_flight.erase(found);
        start_waiting_seeds(drive);
    }
    if (idle_awaited_.load(std::memory_order_acquire)) {
        boost::asio::post(core_, [this] { tell_idle(); });
    }
}

bool DiskSet::guest_waits() const {
    return std::any_of(drives_.begin(), drives_.end(), [](const auto& drive) {
        const std::lock_guard lock(drive->mutex);
        return !drive->in_flight.empty();
    });
}

bool DiskSet::idle() const {
    return std::all_of(drives_.begin(), drives_.end(), [](const auto& drive) {
        const std::lock_guard lock(drive->mutex);
        return drive->in_flight.empty() && drive->waiting.empty() && drive->held.empty() &&
               drive->seeds_in_flight.empty() && drive->seed_waiting.empty();
    });
}

void DiskSet::when_idle(std::function<void()> done) {
    idle_waiters_.push_back(std::move(done));
    idle_awaited_.store(true, std::memory_order_release);
    // After the store: a request that ends from here on tells.
    boost::asio::post(core_, [this] { tell_idle(); });
}

void DiskSet::tell_idle() {
    if (idle_waiters_.empty() || !idle()) return;
    idle_awaited_.store(false, std::memory_order_release);
    for (const auto& done : std::exchange(idle_waiters_, {})) done();
}

void DiskSet::read_chunk(uint32_t index, uint64_t offset_bytes, uint64_t length_bytes,
                         std::function<void(Result<std::vector<std::byte>>)> done) {
    Drive& drive = *drives_[index];
    auto bytes = std::make_shared<std::vector<std::byte>>(
        std::min(length_bytes, drive.store->size_bytes() - offset_bytes));
    disksync::StoreRequest order;
    order.operation = disksync::StoreOperation::read;
    order.offset_bytes = offset_bytes;
    order.length_bytes = bytes->size();
    order.buffer = *bytes;
    const DiskRange range{order.offset_bytes, order.length_bytes};
    order.done = [this, &drive, range, bytes, done = std::move(done)](Result<> result) {
        boost::asio::post(core_, [this, &drive, range, bytes, done, result] {
            seed_done(drive, range);
            if (!result) return done(antipode::fail(result.error()));
            done(std::move(*bytes));
        });
    };
    start_seed(drive, std::move(order));
}

void DiskSet::write_chunk(uint32_t index, uint64_t offset_bytes, uint64_t length_bytes,
                          std::vector<std::byte> data, std::function<void(Result<void>)> done) {
    Drive& drive = *drives_[index];
    auto bytes = std::make_shared<std::vector<std::byte>>(std::move(data));
    disksync::StoreRequest order;
    order.operation =
        bytes->empty() ? disksync::StoreOperation::write_zeroes : disksync::StoreOperation::write;
    order.offset_bytes = offset_bytes;
    order.length_bytes = length_bytes;
    order.buffer = *bytes;
    order.epoch =
        std::min(Epoch(epoch_.load(std::memory_order_acquire)), drive.store->highest_epoch());
    const DiskRange range{offset_bytes, length_bytes};
    order.done = [this, &drive, range, bytes, done = std::move(done)](Result<> result) {
        boost::asio::post(core_, [this, &drive, range, done, result] {
            seed_done(drive, range);
            done(result);
        });
    };
    start_seed(drive, std::move(order));
}

std::vector<DriveStatus> DiskSet::status() const {
    std::vector<DriveStatus> all;
    for (const auto& drive : drives_) {
        const std::lock_guard lock(drive->mutex);
        DriveStatus status;
        status.id = drive->id;
        status.path = drive->store->name();
        status.size_bytes = drive->store->size_bytes();
        status.epoch = drive->store->highest_epoch();
        status.error = drive->error;
        status.read_bytes = drive->read_bytes->value();
        status.written_bytes = drive->written_bytes->value();
        all.push_back(std::move(status));
    }
    return all;
}

}  // namespace antipode::control
