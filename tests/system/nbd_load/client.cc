#include "tests/system/nbd_load/client.h"

#include <algorithm>
#include <cerrno>
#include <libnbd.h>
#include <poll.h>

namespace antipode::nbd_load {

namespace {

int completed(void* data, int* error) {
    auto* slot = static_cast<Slot*>(data);
    slot->error_number = *error;
    slot->over = MonotonicClock::now();
    slot->ended = true;
    return 1;
}

Failure last_failure(const std::string& doing) {
    const char* text = nbd_get_error();
    return fail(Errc::unreachable, "{}: {}", doing, text == nullptr ? "unknown error" : text);
}

}  // namespace

void Client::CloseHandle::operator()(nbd_handle* handle) const {
    nbd_close(handle);
}

Result<std::unique_ptr<Client>> Client::connect(const std::vector<std::string>& uris, size_t depth,
                                                size_t buffer_bytes) {
    std::unique_ptr<Client> client(new Client());
    client->slots_.resize(depth);
    for (Slot& slot : client->slots_) slot.buffer.resize(buffer_bytes);
    for (const std::string& uri : uris) {
        client->handles_.emplace_back(nbd_create());
        nbd_handle* handle = client->handles_.back().get();
        if (handle == nullptr) return last_failure(uri);
        if (nbd_connect_uri(handle, uri.c_str()) != 0) return last_failure(uri);
    }
    return client;
}

Client::~Client() {
    handles_.clear();
}

uint64_t Client::size_bytes(size_t connection) const {
    const int64_t size = nbd_get_size(handles_[connection].get());
    return size < 0 ? 0 : static_cast<uint64_t>(size);
}

Slot* Client::free_slot() {
    const auto found =
        std::find_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return !slot.busy; });
    return found == slots_.end() ? nullptr : &*found;
}

size_t Client::in_flight() const {
    return static_cast<size_t>(
        std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.busy; }));
}

Result<> Client::issue(size_t connection, Slot& slot, Fua fua) {
    nbd_handle* handle = handles_[connection].get();
    const uint32_t flags = fua == Fua::yes ? LIBNBD_CMD_FLAG_FUA : 0;
    const nbd_completion_callback done{completed, &slot, nullptr};
    slot.busy = true;
    slot.ended = false;
    slot.connection = connection;
    slot.error_number = 0;
    slot.began = MonotonicClock::now();
    int64_t cookie = -1;
    switch (slot.operation) {
        case Operation::read:
            cookie = nbd_aio_pread(handle, slot.buffer.data(), slot.length_bytes, slot.offset_bytes,
                                   done, 0);
            break;
        case Operation::write:
            cookie = nbd_aio_pwrite(handle, slot.buffer.data(), slot.length_bytes,
                                    slot.offset_bytes, done, flags);
            break;
        case Operation::write_zeroes:
            cookie = nbd_aio_zero(handle, slot.length_bytes, slot.offset_bytes, done, flags);
            break;
        case Operation::trim:
            cookie = nbd_aio_trim(handle, slot.length_bytes, slot.offset_bytes, done, flags);
            break;
        case Operation::flush:
            cookie = nbd_aio_flush(handle, done, 0);
            break;
    }
    if (cookie >= 0) return {};
    slot.busy = false;
    return last_failure("command");
}

// What has ended leaves the library's lists as well.
void Client::retire() {
    for (const auto& handle : handles_) {
        while (true) {
            const int64_t cookie = nbd_aio_peek_command_completed(handle.get());
            if (cookie <= 0) break;
            (void)nbd_aio_command_completed(handle.get(), static_cast<uint64_t>(cookie));
        }
    }
}

Result<std::vector<Slot*>> Client::wait() {
    while (true) {
        std::vector<Slot*> ended;
        for (Slot& slot : slots_) {
            if (slot.busy && slot.ended) ended.push_back(&slot);
        }
        if (!ended.empty()) {
            retire();
            return ended;
        }
        std::vector<pollfd> descriptors;
        for (const auto& handle : handles_) {
            if (nbd_aio_is_dead(handle.get()) == 1 || nbd_aio_is_closed(handle.get()) == 1) {
                return fail(Errc::unreachable, "the server is gone");
            }
            const unsigned direction = nbd_aio_get_direction(handle.get());
            short events = 0;
            if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0) events |= POLLIN;
            if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) events |= POLLOUT;
            descriptors.push_back({nbd_aio_get_fd(handle.get()), events, 0});
        }
        if (::poll(descriptors.data(), descriptors.size(), -1) < 0 && errno != EINTR) {
            return fail_errno(errno, "poll");
        }
        for (size_t index = 0; index < descriptors.size(); ++index) {
            nbd_handle* handle = handles_[index].get();
            const short found = descriptors[index].revents;
            const unsigned direction = nbd_aio_get_direction(handle);
            if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0 &&
                (found & (POLLIN | POLLHUP | POLLERR)) != 0) {
                (void)nbd_aio_notify_read(handle);
            } else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 &&
                       (found & (POLLOUT | POLLHUP | POLLERR)) != 0) {
                (void)nbd_aio_notify_write(handle);
            }
        }
    }
}

}  // namespace antipode::nbd_load
