// Group: its life, the stores and side files under the node, and the requests from above.
#include "disksync/service/group.h"

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <ctime>
#include <fcntl.h>
#include <future>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "disksync/disk_metadata.h"
#include "disksync/service/control_socket.h"

namespace antipode::disksync {

namespace json = boost::json;

namespace {

constexpr std::chrono::milliseconds kBeat(10);
constexpr std::chrono::microseconds kTickAtMost(200);
constexpr std::chrono::seconds kDemoteLimit(20);
constexpr std::chrono::seconds kPeerLimit(4);
constexpr std::time_t kFollowSeconds = 5;
constexpr int kMallocKeepsBytes = 32 << 20;
constexpr uint64_t kHereBytesMax = 65536;  // what a submitting thread reads or writes itself
constexpr size_t kEventsKept = 256;
constexpr off_t kJournalBytesMax = off_t{16} << 20;

StoreOptions options_of(const GroupConfig& config) {
    StoreOptions options;
    options.thread_count = config.store_threads;
    options.reconnect_timeout = config.store_reconnect;
    return options;
}

StoreRequest request_of(LocalIo& io) {
    StoreRequest request;
    request.operation = io.operation;
    request.offset_bytes = io.offset_bytes;
    request.length_bytes = io.length_bytes;
    request.buffer = io.data.writable();
    request.fua = io.fua;
    request.keep_allocated = io.keep_allocated;
    return request;
}

}  // namespace

// ---- life

Result<std::unique_ptr<Group>> Group::start(const GroupConfig& config) {
    // Blocks come and go by the megabyte: memory that is given back is faulted in again, page by
    // page, for each of them.
    ::mallopt(M_MMAP_THRESHOLD, kMallocKeepsBytes);
    ::mallopt(M_TRIM_THRESHOLD, 4 * kMallocKeepsBytes);
    std::unique_ptr<Group> group(new Group(config));
    FT_TRY_VOID(group->open());
    group->thread_ = std::thread([raw = group.get()] { raw->main(); });
    return group;
}

Result<Node::DiskConfig> Group::open_disk(uint16_t index) {
    const DiskPaths& paths = config_.disks[index];
    StoreSlot& slot = stores_[index];
    auto file = env::StorageFile::open(paths.metadata);
    if (!file && file.error().code == Errc::not_found) {
        return fail(Errc::not_found,
                    "disk {}: has no metadata at {}; make it with: disksync create {}", paths.name,
                    paths.metadata, config_.path);
    }
    if (!file) return fail(file.error());
    slot.files = std::make_unique<SideFiles>(std::move(*file), paths.undo);
    FT_TRY(DiskRecord record, DiskRecord::load(slot.files->metadata()));
    const Superblock& superblock = record.superblock();
    if (superblock.pair != config_.node.pair || superblock.disk != paths.name) {
        return fail(Errc::invalid_argument, "{}: is of disk {} of group {}, expected {} of {}",
                    paths.metadata, superblock.disk, superblock.pair, paths.name,
                    config_.node.pair);
    }
    FT_TRY(slot.store, open_store(paths.store, options_of(config_)));
    if (slot.store->size_bytes() < superblock.size_bytes) {
        return fail(Errc::invalid_argument, "disk {}: {} has {} bytes, its metadata says {}",
                    paths.name, paths.store, slot.store->size_bytes(), superblock.size_bytes);
    }
    // Of a file that was made sparse, or copied so.
    FT_TRY_VOID(slot.files->metadata().reserve(DiskRecord::file_bytes(superblock.size_bytes)));
    sizes_[index] = superblock.size_bytes;
    Node::DiskConfig disk{std::move(record), std::nullopt};
    if (!disk.record.superblock().undo_kept) return disk;
    const auto opened = slot.files->open_undo();
    if (!opened) {
        logger("disksync")
            .warn("disk {}: there is no way back from its resync: {}", paths.name,
                  opened.error().context);
        return disk;
    }
    FT_TRY(UndoLog undo, UndoLog::load(slot.files->undo(), disk.record.superblock().id));
    disk.undo = std::move(undo);
    return disk;
}

Result<> Group::open() {
    stores_.resize(config_.disks.size());
    sizes_.resize(config_.disks.size());
    views_open_.resize(config_.disks.size());
    FT_TRY(tls_, env::make_mutual_tls(config_.listens ? env::TlsRole::server : env::TlsRole::client,
                                      config_.tls));
    std::vector<Node::DiskConfig> disks;
    for (uint16_t index = 0; index < config_.disks.size(); ++index) {
        FT_TRY(Node::DiskConfig disk, open_disk(index));
        disks.push_back(std::move(disk));
    }
    journal_ =
        UniqueFd(::open(config_.journal.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!journal_) return fail_errno(errno, "journal {}", config_.journal);
    FT_TRY(control_, env::LineSocket::start(context_, kControlSocket, config_.control_socket,
                                            [this](const std::string& line, auto reply) {
                                                const std::lock_guard core(core_);
                                                command(line, [reply](const std::string& text) {
                                                    reply(text + "\n");
                                                });
                                            }));
    FT_TRY_VOID(open_link());
    FT_TRY(const uint64_t seed, random_id());
    node_ = std::make_unique<Node>(config_.node, std::move(disks), seed);
    rate_max_ = config_.node.resync_rate_max;
    return {};
}

void Group::main() {
    beat_timer_ = std::make_unique<boost::asio::steady_timer>(context_);
    post([this] { beat(); });
    context_.run();
}

Group::~Group() {
    stop();
}

void Group::stop() {
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
        stopping_ = true;
    }
    if (thread_.joinable()) {
        // A clean end: everything durable at both sites, nothing open.
        post([this] {
            input([](Node& node) { (void)node.demote(); });
            wait_until(
                [this]() -> std::optional<Result<>> {
                    if (node_->is_primary()) return std::nullopt;
                    return Result<>();
                },
                [this](const Result<>&) { drain(); }, kDemoteLimit);
        });
        thread_.join();
    }
    for (StoreSlot& slot : stores_) {
        if (slot.store) (void)slot.store->close();
        slot.files.reset();
    }
    const std::lock_guard core(core_);
    shut_ = true;
    for (auto& [id, done] : completions_) done(fail(Errc::closed, "the disk is shut down"), {});
    completions_.clear();
}

// What has been received may count as safe at the peer: it is applied before this ends.
void Group::drain() {
    if (const auto link = std::exchange(link_, nullptr)) {
        link->close();
        input([](Node& node) { node.disconnected("this site is shut down"); });
    }
    detached_by_operator_ = true;
    wait_until(
        [this]() -> std::optional<Result<>> {
            if (!node_->idle()) return std::nullopt;
            return Result<>();
        },
        // Behind what the link has still to do.
        [this](const Result<>&) { post([this] { context_.stop(); }); }, kDemoteLimit);
}

// ---- the node

std::function<void()> Group::with_core(std::function<void()> task) {
    return [this, task = std::move(task)] {
        const std::lock_guard core(core_);
        task();
    };
}

void Group::post(std::function<void()> task) {
    boost::asio::post(context_, with_core(std::move(task)));
}

void Group::tick_node() {
    const Instant now = MonotonicClock::now();
    if (now - last_tick_ < kTickAtMost) return;
    last_tick_ = now;
    node_->tick(now, std::time(nullptr));
}

void Group::input(const std::function<void(Node&)>& act) {
    tick_node();
    act(*node_);
    run_outputs();
}

void Group::beat() {
    beat_timer_->expires_after(kBeat);
    beat_timer_->async_wait([this](const boost::system::error_code& error) {
        if (error) return;
        const std::lock_guard core(core_);
        follow_schedule();
        input([](Node&) {});
        beat();
    });
}

// An operator's word holds until the schedule says something new.
void Group::follow_schedule() {
    const std::time_t now = std::time(nullptr);
    if (config_.schedule.empty() || now - schedule_followed_ < kFollowSeconds) return;
    schedule_followed_ = now;
    std::tm local{};
    ::localtime_r(&now, &local);
    const int weekday = (local.tm_wday + 6) % 7;  // from Monday
    const uint64_t rate = config_.schedule.rule_at(weekday, local.tm_hour * 60 + local.tm_min)
                              .value_or(config_.node.resync_rate_max);
    if (scheduled_rate_ == rate) return;
    scheduled_rate_ = rate;
    set_rate(rate);
}

void Group::set_rate(uint64_t bytes_per_second) {
    rate_max_ = bytes_per_second;
    input([&](Node& node) { node.set_resync_rate_max(bytes_per_second); });
}

// Executing an output may lead to another input; its outputs are executed after these.
void Group::run_outputs() {
    if (std::exchange(running_outputs_, true)) {
        outputs_again_ = true;
        return;
    }
    do {
        outputs_again_ = false;
        NodeOutputs outputs = node_->take_outputs();
        for (const NodeEvent& event : outputs.events) record(event);
        for (const VerifyFinding& finding : outputs.findings) record(finding);
        for (LocalIo& io : outputs.local) run_local(std::move(io));
        for (FileIo& io : outputs.files) run_file(std::move(io));
        if (const auto link = link_) {
            for (SyncFrame& frame : outputs.frames) link->send(std::move(frame));
        }
        if (outputs.disconnect) disconnect();
        for (NodeAnswer& answer : outputs.answers) {
            const auto found = completions_.find(answer.id);
            if (found == completions_.end()) continue;
            const Completion done = std::move(found->second);
            completions_.erase(found);
            done(std::move(answer.result), answer.data);
        }
        outputs_again_ |= take_done();
    } while (outputs_again_);
    running_outputs_ = false;
    settle_waiters();
    tell_views();
    wants_frames_ = node_->wants_frames();
    if (const auto link = link_; link && wants_frames_) link->resume();
}

void Group::wait_until(std::function<std::optional<Result<>>()> settled,
                       std::function<void(Result<>)> done, Duration limit) {
    waiters_.push_back({std::move(settled), std::move(done), MonotonicClock::now() + limit});
    settle_waiters();
}

void Group::settle_waiters() {
    for (size_t index = 0; index < waiters_.size();) {
        std::optional<Result<>> result = waiters_[index].settled();
        if (!result && MonotonicClock::now() >= waiters_[index].limit) {
            result = fail(Errc::busy, "it has begun, and has not ended in time; see the status");
        }
        if (!result) {
            ++index;
            continue;
        }
        const auto done = std::move(waiters_[index].done);
        waiters_.erase(waiters_.begin() + static_cast<ptrdiff_t>(index));
        done(std::move(*result));
    }
}

// ---- stores

void Group::run_local(LocalIo&& io) {
    StoreSlot& slot = stores_[io.disk];
    const uint16_t disk = io.disk;
    const Ticket ticket = io.ticket;
    if (io.what == LocalIo::What::extents) {
        slot.files->run([this, disk, ticket, io] {
            LocalDone done;
            done.ticket = ticket;
            auto extents = stores_[disk].store->extents(io.offset_bytes, io.length_bytes);
            if (extents) {
                done.extents = std::move(*extents);
            } else {
                done.result = fail(extents.error());
            }
            local_done(std::move(done), disk);
        });
        return;
    }
    const bool moves =
        io.operation == StoreOperation::read || io.operation == StoreOperation::write;
    if (collected_ != nullptr && collected_->empty() && moves && io.fua == Fua::no &&
        io.length_bytes <= kHereBytesMax && slot.store->runs_here()) {
        collected_->push_back(std::move(io));
        return;
    }
    if (!slot.waiting.empty() ||
        slot.store->status().requests_in_flight >= slot.store->requests_in_flight_max()) {
        slot.waiting.push_back(std::move(io));
        return;
    }
    StoreRequest request = request_of(io);
    request.done = [this, disk, ticket, data = io.data](Result<> result) {
        local_done({ticket, std::move(result), {}}, disk);
    };
    auto submitted = slot.store->submit(std::move(request));
    if (!submitted) keep_done({ticket, std::move(submitted), {}}, disk);
}

// Without the core's lock, in the thread that submitted.
void Group::run_here(LocalIo&& io) {
    StoreRequest request = request_of(io);
    request.done = [](const Result<>&) {};
    LocalDone done{io.ticket, stores_[io.disk].store->run_here(request), {}};
    const std::lock_guard core(core_);
    tick_node();
    node_->local_done(std::move(done));
    run_outputs();
}

void Group::keep_done(LocalDone&& done, uint16_t disk) {
    const std::lock_guard lock(mutex_);
    done_.emplace_back(std::move(done), disk);
}

// A store's thread. Of several that are done at once, the first one brings all to the core.
void Group::local_done(LocalDone&& done, uint16_t disk) {
    {
        const std::lock_guard lock(mutex_);
        done_.emplace_back(std::move(done), disk);
        if (std::exchange(done_cared_for_, true)) return;
    }
    const std::lock_guard core(core_);
    tick_node();
    run_outputs();
}

// True: there was something.
bool Group::take_done() {
    std::vector<std::pair<LocalDone, uint16_t>> taken;
    {
        const std::lock_guard lock(mutex_);
        done_cared_for_ = false;
        taken.swap(done_);
    }
    for (auto& [done, disk] : taken) node_->local_done(std::move(done));
    for (auto& [done, disk] : taken) {
        std::deque<LocalIo> waiting = std::exchange(stores_[disk].waiting, {});
        for (LocalIo& io : waiting) run_local(std::move(io));
    }
    return !taken.empty();
}

void Group::run_file(FileIo&& io) {
    SideFiles::Removal removal = SideFiles::Removal::remove;
    if (io.remove) {
        const NodeStatus status = node_->status();
        const std::string_view reason = status.disks[io.disk].decision.reason;
        // What a split brain was decided against stays until an operator removes it.
        if (reason == "split brain, resolved") removal = SideFiles::Removal::keep;
    }
    const Ticket ticket = io.ticket;
    SideFiles& files = *stores_[io.disk].files;
    files.submit(std::move(io), removal, [this, ticket](const Result<>& result) {
        post(
            [this, ticket, result] { input([&](Node& node) { node.file_done(ticket, result); }); });
    });
}

// ---- requests

void Group::submit(Request&& request, Completion done) {
    std::vector<LocalIo> own;
    {
        const std::lock_guard core(core_);
        if (shut_) return done(fail(Errc::closed, "the disk is shut down"), {});
        NodeRequest asked;
        asked.id = next_request_++;
        asked.disk = request.disk;
        asked.operation = request.operation;
        asked.offset_bytes = request.offset_bytes;
        asked.length_bytes = request.length_bytes;
        asked.data = std::move(request.data);
        asked.fua = request.fua;
        completions_.emplace(asked.id, std::move(done));
        collected_ = &own;
        input([&](Node& node) { node.request(std::move(asked)); });
        collected_ = nullptr;
    }
    for (LocalIo& io : own) run_here(std::move(io));
}

Result<> Group::open_for_writing() {
    const auto promise = std::make_shared<std::promise<Result<>>>();
    auto future = promise->get_future();
    post([this, promise] {
        bool asked = node_->is_primary();
        wait_until(
            [this, asked]() mutable -> std::optional<Result<>> {
                if (node_->is_primary()) return Result<>();
                if (!config_.promote_on_open) {
                    return fail(Errc::denied,
                                "this site is secondary: promote it first (disksync promote)");
                }
                if (asked || node_->status().link != LinkState::streaming) return std::nullopt;
                asked = true;
                Result<> promoted;
                post([this] { input([](Node& node) { (void)node.promote(Node::Force::no); }); });
                return std::nullopt;
            },
            [promise](Result<> result) {
                if (!result && result.error().code == Errc::busy) {
                    result = fail(Errc::denied,
                                  "this site is secondary, and the peer is away, primary, or has "
                                  "newer data: an operator has to decide (disksync promote)");
                }
                promise->set_value(std::move(result));
            },
            kPeerLimit);
    });
    return future.get();
}

std::optional<uint16_t> Group::find_disk(std::string_view name) const {
    for (uint16_t index = 0; index < config_.disks.size(); ++index) {
        if (config_.disks[index].name.view() == name) return index;
    }
    return std::nullopt;
}

uint64_t Group::size_bytes(uint16_t disk) {
    const std::lock_guard lock(mutex_);
    return sizes_[disk];
}

// ---- events

void Group::append_journal(const std::string& line) {
    recent_events_.push_back(line);
    if (recent_events_.size() > kEventsKept) recent_events_.pop_front();
    struct stat info {};
    if (::fstat(journal_.get(), &info) == 0 && info.st_size > kJournalBytesMax) {
        const std::string old = config_.journal + ".1";
        UniqueFd next;
        if (::rename(config_.journal.c_str(), old.c_str()) == 0) {
            next = UniqueFd(
                ::open(config_.journal.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
        }
        if (next) journal_ = std::move(next);
    }
    const std::string text = line + "\n";
    if (::write(journal_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        logger("disksync").warn("journal {}: cannot be written", config_.journal);
    }
}

void Group::record(const NodeEvent& event) {
    const std::string text =
        fmt::format("disk {}: {}: {}", config_.disks[event.disk].name, event.key, event.text);
    const auto level = event.weight == NodeEvent::Weight::error  ? spdlog::level::err
                       : event.weight == NodeEvent::Weight::warn ? spdlog::level::warn
                                                                 : spdlog::level::info;
    logger("disksync").log(level, text);
    append_journal(json::serialize(
        json::object{{"time", std::time(nullptr)},
                     {"weight", std::string_view(spdlog::level::to_string_view(level).data())},
                     {"disk", config_.disks[event.disk].name.view()},
                     {"event", event.key},
                     {"text", event.text}}));
}

void Group::record(const VerifyFinding& finding) {
    const auto digest = [](const BlockDigest& value) {
        return fmt::format("{:016x}{:016x}", value[1], value[0]);
    };
    append_journal(json::serialize(json::object{{"time", finding.found_seconds},
                                                {"weight", "error"},
                                                {"disk", config_.disks[finding.disk].name.view()},
                                                {"event", "finding"},
                                                {"block", finding.block},
                                                {"digest_here", digest(finding.source_digest)},
                                                {"digest_peer", digest(finding.target_digest)},
                                                {"repaired", finding.repaired}}));
}

// ---- creation

namespace {

// What is not zero would differ from the peer's for ever: nothing says that it has to be sent.
Result<> check_empty(const GroupConfig& config) {
    for (const DiskPaths& paths : config.disks) {
        FT_TRY(const auto store, open_store(paths.store, options_of(config)));
        FT_TRY(const std::optional<uint64_t> at, first_not_zero(*store));
        if (!at) continue;
        return fail(Errc::invalid_argument,
                    "disk {}: {} is not empty: its first byte that is not zero is at {}. Where one "
                    "site has the data, say --has-data there and nothing at the other",
                    paths.name, paths.store, *at);
    }
    return {};
}

}  // namespace

Result<> create_group(const GroupConfig& config, FirstContents contents,
                      const CarriedCopies& carried) {
    if (contents == FirstContents::empty) FT_TRY_VOID(check_empty(config));
    const bool empty = contents == FirstContents::empty || contents == FirstContents::called_empty;
    for (const DiskPaths& paths : config.disks) {
        FT_TRY(const auto store, open_store(paths.store, options_of(config)));
        Superblock first;
        first.pair = config.node.pair;
        first.disk = paths.name;
        first.size_bytes = store->size_bytes();
        FT_TRY(const uint64_t id, random_id());
        first.id = DiskId(id);
        if (empty || contents == FirstContents::data) {
            first.state = DiskState::up_to_date;
        }
        if (empty) {
            first.generations.current = kEmptyGeneration;
            first.generation_shared = true;
        } else if (contents == FirstContents::data) {
            FT_TRY(const uint64_t generation, random_id());
            first.generations.current = Generation(generation | 2);
            first.generation_time_seconds = std::time(nullptr);
        } else if (contents == FirstContents::carried) {
            // Made while the original was written: whole only with what is marked there.
            const auto name = carried.find(std::string(paths.name.view()));
            if (name == carried.end()) {
                return fail(Errc::invalid_argument,
                            "disk {}: is not among the copies that were carried", paths.name);
            }
            first.generations.current = name->second;
        }
        FT_TRY(std::unique_ptr<env::Storage> file, env::StorageFile::create(paths.metadata));
        const auto created = DiskMetadata::create(std::move(file), first);
        // Once more, so that both copies of the superblock are there from the start.
        const auto written = created ? (*created)->update(first) : Result<>(fail(created.error()));
        if (!written) {
            ::unlink(paths.metadata.c_str());
            return written;
        }
        (void)store->close();
    }
    return {};
}

}  // namespace antipode::disksync
