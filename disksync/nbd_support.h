// Small things that both halves of NbdStore need: waking its thread, and libnbd's descriptors in
// poll(). Only for nbd_store.cc and nbd_store_loop.cc.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <libnbd.h>
#include <poll.h>
#include <unistd.h>

#include "common/base/clock.h"

namespace antipode::disksync::nbd {

inline constexpr uint32_t kSectorBytes = 512;
inline constexpr uint64_t kCommandBytesMax = uint64_t{32} << 20;  // what every server takes
inline constexpr uint64_t kRangeBytesMax = uint64_t{1}
                                           << 30;  // commands without data; 32 bits on the wire
inline constexpr Duration kRetryFirst = std::chrono::milliseconds(20);
inline constexpr Duration kRetryLast = std::chrono::seconds(1);

inline void wake(int fd) {
    const uint64_t one = 1;
    // The counter cannot overflow, and a full one wakes as well.
    [[maybe_unused]] const ssize_t put = ::write(fd, &one, sizeof(one));
}

inline void drain(int fd) {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(fd, &count, sizeof(count));
}

inline int milliseconds_until(Instant deadline) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - MonotonicClock::now());
    return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 60'000));
}

inline const char* last_error() {
    const char* text = nbd_get_error();
    return text ? text : "unknown error";
}

// The errors by which libnbd or the server say that this connection is over.
inline bool means_lost(int error_number) {
    return error_number == ENOTCONN || error_number == ESHUTDOWN || error_number == EPIPE ||
           error_number == ECONNRESET;
}

inline short poll_events(unsigned direction) {
    short events = 0;
    if (direction & LIBNBD_AIO_DIRECTION_READ) events |= POLLIN;
    if (direction & LIBNBD_AIO_DIRECTION_WRITE) events |= POLLOUT;
    return events;
}

// Tells the handle what poll() found; -1 when libnbd says that the connection broke. A hang-up
// counts as readable: libnbd then finds the end.
inline int notify(nbd_handle* handle, unsigned direction, short revents) {
    if ((direction & LIBNBD_AIO_DIRECTION_READ) && (revents & (POLLIN | POLLHUP | POLLERR))) {
        return nbd_aio_notify_read(handle);
    }
    if ((direction & LIBNBD_AIO_DIRECTION_WRITE) && (revents & (POLLOUT | POLLHUP | POLLERR))) {
        return nbd_aio_notify_write(handle);
    }
    return 0;
}

}  // namespace antipode::disksync::nbd
