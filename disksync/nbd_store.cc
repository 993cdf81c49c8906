#include "disksync/nbd_store.h"

#include <cerrno>
#include <cstring>
#include <future>
#include <libnbd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "disksync/nbd_support.h"

namespace antipode::disksync {

void NbdStore::CloseHandle::operator()(nbd_handle* handle) const {
    nbd_close(handle);
}

Result<> NbdStore::await_ready(nbd_handle* handle, const std::string& uri, Instant deadline,
                               int wake_fd, const std::atomic<bool>* give_up) {
    while (!nbd_aio_is_ready(handle)) {
        if (nbd_aio_is_dead(handle) || nbd_aio_is_closed(handle)) {
            return fail(Errc::unreachable, "disk {}: {}", uri, nbd::last_error());
        }
        if (give_up && *give_up) return fail(Errc::closed, "disk {}: closed", uri);
        const unsigned direction = nbd_aio_get_direction(handle);
        std::array<pollfd, 2> fds{
            {{nbd_aio_get_fd(handle), nbd::poll_events(direction), 0}, {wake_fd, POLLIN, 0}}};
        const int count = ::poll(fds.data(), fds.size(), nbd::milliseconds_until(deadline));
        if (count < 0 && errno != EINTR) return fail_errno(errno, "disk {}: poll", uri);
        if (count == 0 && MonotonicClock::now() >= deadline) {
            return fail(Errc::unreachable, "disk {}: no answer from the NBD server in time", uri);
        }
        if (count <= 0) continue;
        if (fds[1].revents != 0) nbd::drain(wake_fd);
        if (fds[0].revents != 0) nbd::notify(handle, direction, fds[0].revents);
    }
    return {};
}

Result<NbdStore::Connection> NbdStore::connect(const std::string& uri, const StoreOptions& options,
                                               int wake_fd, const std::atomic<bool>* give_up) {
    Connection connection;
    connection.handle.reset(nbd_create());
    nbd_handle* handle = connection.handle.get();
    if (!handle) return fail(Errc::limit, "disk {}: {}", uri, nbd::last_error());
    if (nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0) {
        return fail(Errc::io, "disk {}: {}", uri, nbd::last_error());
    }
    // A plain command means what it says: an answer within its range, or an error.
    if (nbd_aio_connect_uri(handle, uri.c_str()) != 0) {
        const int error_number = nbd_get_errno();
        const Errc code = error_number == EINVAL ? Errc::invalid_argument : Errc::unreachable;
        return fail(code, "disk {}: {}", uri, nbd::last_error());
    }
    FT_TRY_VOID(await_ready(handle, uri, MonotonicClock::now() + options.connect_timeout, wake_fd,
                            give_up));
    FT_TRY(connection.properties, properties_of(handle, uri));
    const Export& properties = connection.properties;
    if (properties.read_only && options.access == StoreAccess::read_write) {
        return fail(Errc::denied, "disk {}: the NBD server serves it for reading only", uri);
    }
    if (options.size_bytes_expected && *options.size_bytes_expected != properties.size_bytes) {
        return fail(Errc::invalid_argument, "disk {}: has {} bytes, expected {}", uri,
                    properties.size_bytes, *options.size_bytes_expected);
    }
    return connection;
}

Result<NbdStore::Export> NbdStore::properties_of(nbd_handle* handle, const std::string& uri) {
    const int64_t size = nbd_get_size(handle);
    if (size < 0) return fail(Errc::protocol, "disk {}: {}", uri, nbd::last_error());
    Export properties;
    properties.size_bytes = static_cast<uint64_t>(size);
    if (size == 0) return fail(Errc::invalid_argument, "disk {}: is empty", uri);
    const int64_t minimum = nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
    const int64_t maximum = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);
    properties.alignment_bytes =
        std::max(nbd::kSectorBytes, minimum > 0 ? static_cast<uint32_t>(minimum) : 1);
    if (properties.size_bytes % properties.alignment_bytes != 0) {
        return fail(Errc::invalid_argument, "disk {}: its size, {} bytes, is not a multiple of {}",
                    uri, size, properties.alignment_bytes);
    }
    properties.command_bytes_max =
        maximum > 0 ? std::min(nbd::kCommandBytesMax, static_cast<uint64_t>(maximum))
                    : nbd::kCommandBytesMax;
    properties.command_bytes_max -= properties.command_bytes_max % properties.alignment_bytes;
    if (properties.command_bytes_max == 0) {
        return fail(Errc::protocol, "disk {}: the NBD server takes at most {} bytes a command", uri,
                    maximum);
    }
    properties.read_only = nbd_is_read_only(handle) == 1;
    properties.can_flush = nbd_can_flush(handle) == 1;
    properties.can_fua = nbd_can_fua(handle) == 1;
    properties.can_trim = nbd_can_trim(handle) == 1;
    properties.can_zero = nbd_can_zero(handle) == 1;
    properties.can_extents = nbd_can_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
    return properties;
}

Result<std::unique_ptr<NbdStore>> NbdStore::open(const std::string& uri,
                                                 const StoreOptions& options) {
    UniqueFd wake_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_fd) return fail_errno(errno, "disk {}: eventfd", uri);
    FT_TRY(Connection connection, connect(uri, options, wake_fd.get(), nullptr));
    if (!connection.properties.can_flush && options.access == StoreAccess::read_write) {
        logger("disksync").warn("disk {}: the NBD server has no flush; it must write through", uri);
    }
    return std::unique_ptr<NbdStore>(
        new NbdStore(uri, options, std::move(connection), std::move(wake_fd)));
}

NbdStore::NbdStore(std::string uri, const StoreOptions& options, Connection connection,
                   UniqueFd wake_fd)
    : uri_(std::move(uri)),
      options_(options),
      export_(connection.properties),
      size_bytes_(export_.size_bytes),
      wake_(std::move(wake_fd)),
      handle_(std::move(connection.handle)),
      thread_([this] { main(); }) {}

NbdStore::~NbdStore() {
    if (auto closed = close(); !closed) logger("disksync").error("{}", closed.error().to_string());
}

Result<> NbdStore::submit(StoreRequest&& request) {
    FT_TRY_VOID(check_request(*this, options_.access, request));
    {
        const std::lock_guard lock(mutex_);
        if (closing_) return fail(Errc::closed, "disk {}: is closed", uri_);
        if (ended_for_good_) return fail(*ended_for_good_);
        if (jobs_in_flight_ >= options_.requests_in_flight_max) {
            return fail(Errc::busy, "disk {}: {} requests are in flight", uri_, jobs_in_flight_);
        }
        ++jobs_in_flight_;
        auto job = std::make_shared<Job>();
        job->request = std::move(request);
        submitted_.push_back(std::move(job));
    }
    nbd::wake(wake_.get());
    return {};
}

Result<std::vector<StoreExtent>> NbdStore::extents(uint64_t offset_bytes, uint64_t length_bytes) {
    const uint64_t size = size_bytes();
    if (offset_bytes > size || length_bytes > size - offset_bytes) {
        return fail(Errc::invalid_argument,
                    "disk {}: extents at {} of {} bytes: beyond the end, {}", uri_, offset_bytes,
                    length_bytes, size);
    }
    std::vector<StoreExtent> result;
    uint64_t at = offset_bytes;
    const uint64_t end = offset_bytes + length_bytes;
    while (at < end) {
        auto promise = std::make_shared<std::promise<Result<std::vector<StoreExtent>>>>();
        auto future = promise->get_future();
        {
            const std::lock_guard lock(mutex_);
            if (closing_) return fail(Errc::closed, "disk {}: is closed", uri_);
            if (ended_for_good_) return fail(*ended_for_good_);
            auto job = std::make_shared<Job>();
            job->kind = JobKind::extents;
            job->request.offset_bytes = at;
            job->request.length_bytes = std::min(nbd::kRangeBytesMax, end - at);
            job->extents_done = [promise](auto found) { promise->set_value(std::move(found)); };
            submitted_.push_back(std::move(job));
        }
        nbd::wake(wake_.get());
        FT_TRY(const std::vector<StoreExtent> found, future.get());
        const uint64_t before = at;
        for (const StoreExtent& extent : found) {
            // A server may answer for more or less than was asked; only what continues counts.
            if (extent.offset_bytes != at || at >= end) break;
            const uint64_t bytes = std::min(extent.length_bytes, end - at);
            if (!result.empty() && result.back().kind == extent.kind) {
                result.back().length_bytes += bytes;
            } else {
                result.push_back({at, bytes, extent.kind});
            }
            at += bytes;
        }
        if (at == before) {
            return fail(Errc::protocol, "disk {}: the NBD server says nothing about offset {}",
                        uri_, at);
        }
    }
    return result;
}

StoreStatus NbdStore::status() const {
    const std::lock_guard lock(mutex_);
    StoreStatus status = status_;
    status.requests_in_flight = jobs_in_flight_;
    return status;
}

void NbdStore::set_health(StoreHealth health, std::string text) {
    const std::lock_guard lock(mutex_);
    status_.health = health;
    status_.text = std::move(text);
}

Result<> NbdStore::close() {
    const std::lock_guard only_one(close_mutex_);
    if (!thread_.joinable()) return close_result_;
    FT_CHECK(thread_.get_id() != std::this_thread::get_id(),
             "disk {}: closed by one of its own completions", uri_);
    {
        const std::lock_guard lock(mutex_);
        closing_ = true;
    }
    nbd::wake(wake_.get());
    thread_.join();
    return close_result_;
}

}  // namespace antipode::disksync
