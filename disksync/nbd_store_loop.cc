// The thread of an NbdStore: commands out, answers in, and what happens when the server goes away.
#include <array>
#include <cerrno>
#include <cstring>
#include <libnbd.h>
#include <poll.h>
#include <set>
#include <utility>

#include "common/base/log.h"
#include "disksync/nbd_store.h"
#include "disksync/nbd_support.h"

namespace antipode::disksync {

struct NbdStore::Cookie {
    NbdStore* store;
    uint64_t id;
    Job* job;  // of extents

    static int completed(void* data, int* error) {
        auto* cookie = static_cast<Cookie*>(data);
        // The handle's lock is held: only note it.
        cookie->store->ended_.emplace_back(cookie->id, *error);
        return 1;
    }
    static int extent(void* data, const char* context, uint64_t offset, uint32_t* entries,
                      size_t count, int*) {
        auto* cookie = static_cast<Cookie*>(data);
        if (std::strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0) return 0;
        for (size_t index = 0; index + 1 < count; index += 2) {
            const bool zero = (entries[index + 1] & LIBNBD_STATE_ZERO) != 0;
            cookie->job->extents.push_back(
                {offset, entries[index], zero ? ExtentKind::zero : ExtentKind::data});
            offset += entries[index];
        }
        return 0;
    }
    static void release(void* data) { delete static_cast<Cookie*>(data); }
};

void NbdStore::main() {
    while (true) {
        take_submitted();
        if (handle_) issue_ready();
        if (closing_ && finish_closing()) return;
        bool waits = false;
        {
            const std::lock_guard lock(mutex_);
            waits = ended_for_good_.has_value();
        }
        if (!handle_ && !waits) {
            reconnect();
            continue;
        }
        poll_once();
        retire();
        if (handle_ && server_gone()) connection_lost();
    }
}

void NbdStore::take_submitted() {
    std::deque<std::shared_ptr<Job>> jobs;
    {
        const std::lock_guard lock(mutex_);
        jobs.swap(submitted_);
    }
    for (const auto& job : jobs) split(job);
}

uint64_t NbdStore::command_bytes_max(StoreOperation operation) const {
    const bool without_data = operation == StoreOperation::discard ||
                              (operation == StoreOperation::write_zeroes && export_.can_zero);
    return without_data ? nbd::kRangeBytesMax : export_.command_bytes_max;
}

void NbdStore::split(const std::shared_ptr<Job>& job) {
    StoreRequest& request = job->request;
    if (job->kind == JobKind::extents) {
        if (export_.can_extents) {
            job->commands_left = 1;
            ready_.push_back(
                {job, StoreOperation::read, request.offset_bytes, request.length_bytes});
            return;
        }
        job->extents.push_back({request.offset_bytes, request.length_bytes, ExtentKind::data});
        return finish(*job);
    }
    if (request.operation == StoreOperation::flush) {
        if (!export_.can_flush || flush_failed_) return finish(*job);
        job->commands_left = 1;
        ready_.push_back({job, StoreOperation::flush});
        return;
    }
    job->looked = last_look(*this, request);
    if (!job->looked) return finish(*job);
    job->flush_follows =
        request.fua == Fua::yes && changes_data(request.operation) && !export_.can_fua;
    if (request.operation == StoreOperation::discard && !export_.can_trim) return finish(*job);
    const uint64_t most = command_bytes_max(request.operation);
    for (uint64_t done = 0; done < request.length_bytes; done += most) {
        const uint64_t bytes = std::min(most, request.length_bytes - done);
        std::byte* data = request.buffer.empty() ? nullptr : request.buffer.data() + done;
        ++job->commands_left;
        ready_.push_back({job, request.operation, request.offset_bytes + done, bytes, data});
    }
}

void NbdStore::issue_ready() {
    while (handle_ && !replaying_ && !ready_.empty()) {
        // A server that flushes slowly must not make us keep without bound.
        if (changes_data(ready_.front().operation) && own_flush_pending_ &&
            kept_bytes_ > 2 * options_.unflushed_bytes_max) {
            return;
        }
        Command command = std::move(ready_.front());
        ready_.pop_front();
        if (!issue(std::move(command))) return;
    }
}

// False: the connection has ended, and the command is on_wire_ with all others that must be
// repeated.
bool NbdStore::issue(Command&& command) {
    const uint64_t id = next_id_++;
    const Command& issued = on_wire_.emplace(id, std::move(command)).first->second;
    if (issued.operation == StoreOperation::flush) issued.job->flush_covers = kept_sequence_;
    if (send(issued, id) >= 0) return true;
    if (server_gone()) return false;
    const int error_number = nbd_get_errno();
    ended_.emplace_back(id,
                        error_number != 0 && !nbd::means_lost(error_number) ? error_number : EIO);
    return true;
}

int64_t NbdStore::send(const Command& command, uint64_t id) {
    nbd_handle* handle = handle_.get();
    Job& job = *command.job;
    const auto cookie = [&] { return new Cookie{this, id, &job}; };
    // libnbd calls `free` in every case, also when it refuses the command.
    const nbd_completion_callback done{&Cookie::completed, cookie(), &Cookie::release};
    const uint32_t fua = job.request.fua == Fua::yes && export_.can_fua ? LIBNBD_CMD_FLAG_FUA : 0;
    if (job.kind == JobKind::extents) {
        const nbd_extent_callback extent{&Cookie::extent, cookie(), &Cookie::release};
        job.extents.clear();
        return nbd_aio_block_status(handle, command.length_bytes, command.offset_bytes, extent,
                                    done, 0);
    }
    switch (command.operation) {
        case StoreOperation::read:
            return nbd_aio_pread(handle, command.data, command.length_bytes, command.offset_bytes,
                                 done, 0);
        case StoreOperation::write:
            return nbd_aio_pwrite(handle, command.data, command.length_bytes, command.offset_bytes,
                                  done, fua);
        case StoreOperation::flush:
            return nbd_aio_flush(handle, done, 0);
        case StoreOperation::discard:
            return nbd_aio_trim(handle, command.length_bytes, command.offset_bytes, done, fua);
        case StoreOperation::write_zeroes:
            break;
    }
    if (!export_.can_zero) {
        zeroes_.resize(std::max<size_t>(zeroes_.size(), command.length_bytes));
        return nbd_aio_pwrite(handle, zeroes_.data(), command.length_bytes, command.offset_bytes,
                              done, fua);
    }
    const uint32_t keep =
        job.request.keep_allocated == KeepAllocated::yes ? LIBNBD_CMD_FLAG_NO_HOLE : 0;
    return nbd_aio_zero(handle, command.length_bytes, command.offset_bytes, done, fua | keep);
}

bool NbdStore::server_gone() const {
    return nbd_aio_is_dead(handle_.get()) != 0 || nbd_aio_is_closed(handle_.get()) != 0;
}

void NbdStore::poll_once() {
    if (!ended_.empty()) return;
    if (handle_ && server_gone()) return;
    const unsigned direction = handle_ ? nbd_aio_get_direction(handle_.get()) : 0;
    std::array<pollfd, 2> fds{{{wake_.get(), POLLIN, 0}, {-1, 0, 0}}};
    if (handle_) fds[1] = {nbd_aio_get_fd(handle_.get()), nbd::poll_events(direction), 0};
    const int timeout = close_deadline_ ? nbd::milliseconds_until(*close_deadline_) : -1;
    if (::poll(fds.data(), fds.size(), timeout) <= 0) return;
    if (fds[0].revents != 0) nbd::drain(wake_.get());
    if (!handle_ || fds[1].revents == 0) return;
    if (nbd::notify(handle_.get(), direction, fds[1].revents) != 0) loss_ = nbd::last_error();
}

void NbdStore::retire() {
    bool lost = false;
    std::vector<std::pair<uint64_t, int>> ended;
    ended.swap(ended_);
    for (const auto& [id, error_number] : ended) {
        const auto found = on_wire_.find(id);
        if (found == on_wire_.end()) continue;
        if (nbd::means_lost(error_number)) {
            lost = true;  // stays on_wire_, to be repeated
            continue;
        }
        const Command command = std::move(found->second);
        on_wire_.erase(found);
        command_ended(command, error_number);
    }
    if (lost && handle_) connection_lost();
}

void NbdStore::command_ended(const Command& command, int error_number) {
    Job& job = *command.job;
    if (job.kind == JobKind::replay) {
        if (error_number != 0) {
            return fail_for_good(errno_error(
                error_number,
                fmt::format("disk {}: writing again, after the NBD server came back, at {}", uri_,
                            command.offset_bytes)));
        }
        ++*replaying_;
        return next_replay();
    }
    if (error_number != 0 && job.error_number == 0) job.error_number = error_number;
    if (command.operation == StoreOperation::flush) {
        if (error_number != 0) {
            flush_failed_ = true;
            set_health(StoreHealth::failed, "a flush failed, so written data may be lost");
        }
        while (error_number == 0 && !kept_.empty() && kept_.front().sequence <= job.flush_covers) {
            kept_bytes_ -= kept_.front().data.size();
            kept_.pop_front();
        }
    } else if (error_number == 0 && changes_data(command.operation)) {
        keep(command);
    }
    if (--job.commands_left > 0) return;
    if (job.flush_follows && job.error_number == 0 && export_.can_flush) {
        job.flush_follows = false;
        job.commands_left = 1;
        ready_.push_back({command.job, StoreOperation::flush});
        return;
    }
    finish(job);
}

void NbdStore::keep(const Command& command) {
    if (options_.unflushed_bytes_max == 0 || !export_.can_flush) return;
    // A durable write needs no keeping, but an older kept write must not come after it.
    if (command.job->request.fua == Fua::yes && export_.can_fua && kept_.empty()) return;
    KeptWrite kept{
        ++kept_sequence_, command.operation, command.offset_bytes, command.length_bytes, {}};
    if (command.data) kept.data.assign(command.data, command.data + command.length_bytes);
    kept_bytes_ += kept.data.size();
    kept_.push_back(std::move(kept));
    if (kept_bytes_ > options_.unflushed_bytes_max) flush_by_itself();
}

void NbdStore::flush_by_itself() {
    if (own_flush_pending_ || flush_failed_) return;
    own_flush_pending_ = true;
    auto job = std::make_shared<Job>();
    job->kind = JobKind::own_flush;
    job->request.operation = StoreOperation::flush;
    job->commands_left = 1;
    ready_.push_front({job, StoreOperation::flush});
}

Result<> NbdStore::outcome(Job& job) {
    if (!job.looked) return job.looked;
    if (job.request.operation == StoreOperation::flush && flush_failed_ && job.error_number == 0) {
        return fail(Errc::io, "disk {}: an earlier flush failed, so written data may be lost",
                    uri_);
    }
    if (job.error_number == 0) return {};
    return fail_errno(job.error_number, "disk {}: {} at {} of {} bytes", uri_,
                      to_string(job.request.operation), job.request.offset_bytes,
                      job.request.length_bytes);
}

void NbdStore::finish(Job& job) {
    switch (job.kind) {
        case JobKind::replay:
            return;
        case JobKind::own_flush:
            own_flush_pending_ = false;
            if (auto result = outcome(job); !result) {
                logger("disksync").error("{}", result.error().to_string());
            }
            return;
        case JobKind::extents:
            if (auto result = outcome(job); !result) {
                return job.extents_done(fail(std::move(result).error()));
            }
            return job.extents_done(std::move(job.extents));
        case JobKind::caller:
            break;
    }
    {
        // Before the completion, so that it may submit the next request.
        const std::lock_guard lock(mutex_);
        --jobs_in_flight_;
    }
    const StoreCompletion done = std::move(job.request.done);
    done(outcome(job));
}

void NbdStore::connection_lost() {
    const std::string why = loss_.empty() ? "the server closed it" : std::exchange(loss_, {});
    handle_.reset();  // from here on libnbd uses no buffer of ours
    ended_.clear();
    replaying_.reset();
    for (auto entry = on_wire_.rbegin(); entry != on_wire_.rend(); ++entry) {
        if (entry->second.job->kind != JobKind::replay) ready_.push_front(std::move(entry->second));
    }
    on_wire_.clear();
    logger("disksync")
        .warn(
            "disk {}: connection lost ({}); {} commands will be issued again, {} "
            "bytes written again",
            uri_, why, ready_.size(), kept_bytes_);
    set_health(StoreHealth::reconnecting, "connection lost: " + why);
}

void NbdStore::reconnect() {
    const Instant deadline = MonotonicClock::now() + options_.reconnect_timeout;
    Duration pause = nbd::kRetryFirst;
    while (!closing_) {
        auto connection = connect(uri_, options_, wake_.get(), &closing_);
        if (connection) {
            auto adopted = adopt(std::move(*connection));
            if (!adopted) fail_for_good(std::move(adopted).error());
            return;
        }
        if (MonotonicClock::now() + pause >= deadline) {
            return fail_for_good(std::move(connection).error());
        }
        pollfd woken{wake_.get(), POLLIN, 0};
        const Instant until = MonotonicClock::now() + pause;
        if (::poll(&woken, 1, nbd::milliseconds_until(until)) > 0) nbd::drain(wake_.get());
        pause = std::min(pause * 2, nbd::kRetryLast);
    }
}

Result<> NbdStore::adopt(Connection connection) {
    const Export& now = connection.properties;
    if (now.size_bytes < size_bytes()) {
        return fail(Errc::invalid_argument,
                    "disk {}: the NBD server came back with {} bytes, had {}", uri_, now.size_bytes,
                    size_bytes());
    }
    // What has been cut to commands must still fit, and what was promised must still hold.
    if (now.alignment_bytes > export_.alignment_bytes ||
        now.command_bytes_max < export_.command_bytes_max || now.can_flush != export_.can_flush ||
        now.can_fua < export_.can_fua || now.can_zero < export_.can_zero ||
        now.can_trim < export_.can_trim || now.can_extents < export_.can_extents) {
        return fail(Errc::unsupported, "disk {}: the NBD server came back with fewer abilities",
                    uri_);
    }
    handle_ = std::move(connection.handle);
    size_bytes_.store(now.size_bytes, std::memory_order_release);
    {
        const std::lock_guard lock(mutex_);
        ++status_.reconnects;
        if (!flush_failed_) status_.health = StoreHealth::ok;
        if (!flush_failed_) status_.text.clear();
    }
    logger("disksync").info("disk {}: connected again", uri_);
    if (!kept_.empty()) {
        replaying_ = 0;
        next_replay();
    }
    return {};
}

// One at a time: kept writes may overlap, and the later one has to win.
void NbdStore::next_replay() {
    if (*replaying_ == kept_.size()) {
        replaying_.reset();
        return;
    }
    KeptWrite& kept = kept_[*replaying_];
    auto job = std::make_shared<Job>();
    job->kind = JobKind::replay;
    job->request.operation = kept.operation;
    job->commands_left = 1;
    std::byte* data = kept.data.empty() ? nullptr : kept.data.data();
    Command command{job, kept.operation, kept.offset_bytes, kept.length_bytes, data};
    issue(std::move(command));
}

void NbdStore::fail_for_good(Error error) {
    handle_.reset();
    ended_.clear();
    replaying_.reset();
    std::set<std::shared_ptr<Job>> jobs;
    for (const Command& command : ready_) jobs.insert(command.job);
    for (const auto& [id, command] : on_wire_) jobs.insert(command.job);
    ready_.clear();
    on_wire_.clear();
    {
        const std::lock_guard lock(mutex_);
        ended_for_good_ = error;
        status_.health = StoreHealth::failed;
        status_.text = error.context;
        jobs.insert(submitted_.begin(), submitted_.end());
        submitted_.clear();
        jobs_in_flight_ = 0;
    }
    if (error.code != Errc::closed) logger("disksync").error("{}", error.to_string());
    own_flush_pending_ = false;
    for (const auto& job : jobs) {
        if (job->kind == JobKind::caller) {
            const StoreCompletion done = std::move(job->request.done);
            done(fail(error));
        } else if (job->kind == JobKind::extents) {
            job->extents_done(fail(error));
        }
    }
    close_result_ = fail(std::move(error));
}

// True: nothing is left to do, and the thread ends.
bool NbdStore::finish_closing() {
    {
        const std::lock_guard lock(mutex_);
        if (ended_for_good_) return true;
        if (!submitted_.empty()) return false;
    }
    const Instant now = MonotonicClock::now();
    if (!close_deadline_) close_deadline_ = now + options_.reconnect_timeout;
    const bool idle = ready_.empty() && on_wire_.empty() && !replaying_;
    if (!handle_ || now >= *close_deadline_) {
        if (idle && kept_.empty()) return true;
        fail_for_good({Errc::closed, fmt::format("disk {}: closed while its server did not answer; "
                                                 "{} bytes were not flushed",
                                                 uri_, kept_bytes_)});
        return true;
    }
    if (!idle) return false;
    if (!last_flush_begun_ && export_.can_flush && options_.access == StoreAccess::read_write) {
        last_flush_begun_ = true;
        flush_by_itself();
        issue_ready();
        return false;
    }
    if (flush_failed_) {
        close_result_ =
            fail(Errc::io, "disk {}: a flush failed, so written data may be lost", uri_);
    }
    say_goodbye();
    return true;
}

void NbdStore::say_goodbye() {
    const Instant deadline = MonotonicClock::now() + nbd::kRetryLast;
    nbd_aio_disconnect(handle_.get(), 0);
    while (!server_gone() && MonotonicClock::now() < deadline) {
        const unsigned direction = nbd_aio_get_direction(handle_.get());
        pollfd fd{nbd_aio_get_fd(handle_.get()), nbd::poll_events(direction), 0};
        if (::poll(&fd, 1, nbd::milliseconds_until(deadline)) <= 0) break;
        nbd::notify(handle_.get(), direction, fd.revents);
    }
    handle_.reset();
}

}  // namespace antipode::disksync
