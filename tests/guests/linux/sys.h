// System calls of the Linux guest's init, which has no C library.
//
// Each returns what the kernel returns: a result, or a negative errno. No SSE, no vDSO, no clock
// but by system call, so that the program is a function of its memory and of what the kernel tells
// it.
#pragma once

#include <asm/unistd_64.h>
#include <stddef.h>
#include <stdint.h>

namespace antipode::guest::sys {

inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    register long r9 asm("r9") = f;
    long result = number;
    asm volatile("syscall"
                 : "+a"(result)
                 : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

template <typename T>
long address(T* pointer) {
    return reinterpret_cast<long>(pointer);
}

inline constexpr int kReadWrite = 02;
inline constexpr int kDirect = 040000;
inline constexpr int kSync = 04010000;
inline constexpr long kAgain = -11;
inline constexpr short kPollIn = 1;
inline constexpr short kPollOut = 4;
inline constexpr short kPollGone = 0x18;  // POLLERR | POLLHUP
inline constexpr int kNonBlocking = 04000;

struct Poll {
    int fd;
    short events;
    short happened;
};

struct SocketAddress {
    uint16_t family;
    uint16_t port;  // network order
    uint32_t ip;    // network order
    uint8_t zero[8];
};
static_assert(sizeof(SocketAddress) == 16);

struct InterfaceRequest {
    char name[16];
    union {
        SocketAddress address;
        int16_t flags;
        uint8_t pad[24];
    };
};
static_assert(sizeof(InterfaceRequest) == 40);

struct Route {
    uint64_t pad1;
    SocketAddress destination;
    SocketAddress gateway;
    SocketAddress mask;
    uint16_t flags;
    int16_t pad2;
    uint64_t pad3;
    void* pad4;
    int16_t metric;
    char* device;
    uint64_t mtu;
    uint64_t window;
    uint16_t timeout;
};
static_assert(sizeof(Route) == 120);

inline constexpr long kSiocAddRoute = 0x890b;
inline constexpr long kSiocGetFlags = 0x8913;
inline constexpr long kSiocSetFlags = 0x8914;
inline constexpr long kSiocSetAddress = 0x8916;
inline constexpr long kSiocSetMask = 0x891c;
inline constexpr long kBlockBytes = 0x80081272;

inline long open(const char* path, int flags) {
    return call(__NR_open, address(path), flags, 0);
}
inline void close(int fd) {
    call(__NR_close, fd);
}
inline long read(int fd, void* to, size_t bytes) {
    return call(__NR_read, fd, address(to), static_cast<long>(bytes));
}
inline long write(int fd, const void* from, size_t bytes) {
    return call(__NR_write, fd, address(from), static_cast<long>(bytes));
}
inline long pread(int fd, void* to, size_t bytes, uint64_t offset) {
    return call(__NR_pread64, fd, address(to), static_cast<long>(bytes), static_cast<long>(offset));
}
inline long pwrite(int fd, const void* from, size_t bytes, uint64_t offset) {
    return call(__NR_pwrite64, fd, address(from), static_cast<long>(bytes),
                static_cast<long>(offset));
}
template <typename T>
long control(int fd, long request, T* argument) {
    return call(__NR_ioctl, fd, request, address(argument));
}
inline long socket(int type) {
    return call(__NR_socket, 2, type | kNonBlocking, 0);
}
inline long poll(Poll* what, size_t count, int timeout_ms) {
    return call(__NR_poll, address(what), static_cast<long>(count), timeout_ms);
}

inline uint64_t uptime_ms() {
    struct {
        int64_t seconds;
        int64_t nanoseconds;
    } now{};
    call(__NR_clock_gettime, 7 /* CLOCK_BOOTTIME */, address(&now));
    return static_cast<uint64_t>(now.seconds * 1000 + now.nanoseconds / 1000000);
}

// Through port 0x64, which ends the machine. Does not come back.
inline void restart() {
    for (;;) {
        call(__NR_reboot, static_cast<long>(0xfee1dead), 672274793, 0x1234567);
    }
}

}  // namespace antipode::guest::sys
