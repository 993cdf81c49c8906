#include "replicator/control/confinement.h"

#include <cerrno>
#include <memory>
#include <seccomp.h>
#include <string>
#include <string_view>

#include "common/base/freer.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

namespace antipode::control {
namespace {

// By what they are for. A name that this architecture has not is passed over.
constexpr std::string_view kAllowed =
    // Files: the VM's disks and images, keys and certificates, state.
    "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat openat2 "
    "close close_range stat fstat lstat newfstatat statx statfs fstatfs lseek access faccessat "
    "faccessat2 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 readlink readlinkat "
    "getcwd getdents64 chmod fchmod fchmodat chown fchown lchown fchownat umask truncate ftruncate "
    "fallocate fsync fdatasync sync_file_range fadvise64 copy_file_range flock fcntl dup dup2 dup3 "
    "pipe pipe2 "
    // Devices: KVM and TAP; and the guest's branches, where the host lets them be counted.
    "ioctl perf_event_open "
    // Network.
    "socket socketpair bind listen accept accept4 connect getsockname getpeername setsockopt "
    "getsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown "
    // Waiting.
    "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait "
    "epoll_pwait2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime timer_create "
    "timer_settime timer_gettime timer_getoverrun timer_delete signalfd4 nanosleep clock_nanosleep "
    "restart_syscall "
    // Memory.
    "mmap munmap mprotect mremap madvise mlock mlock2 munlock mincore msync brk memfd_create "
    "membarrier "
    // Threads, signals to ourselves and to our drills, clocks, chance.
    "futex set_robust_list get_robust_list rseq clone clone3 fork exit exit_group wait4 waitid "
    "kill tkill tgkill set_tid_address gettid getpid getppid getuid geteuid getgid getegid "
    "getgroups getresuid getresgid rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending "
    "rt_sigtimedwait rt_sigsuspend sigaltstack clock_gettime clock_getres gettimeofday time times "
    "getrandom getcpu sched_yield sched_getaffinity sched_setaffinity sched_getparam "
    "sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min "
    "getpriority setpriority prctl arch_prctl prlimit64 getrlimit getrusage sysinfo uname ";

}  // namespace

Result<> confine_process() {
    if (kSanitized) return {};
    const std::unique_ptr<void, Freer<seccomp_release>> filter(seccomp_init(SCMP_ACT_ERRNO(EPERM)));
    if (!filter) return fail(Errc::unsupported, "seccomp: no filter can be made");
    std::string_view left = kAllowed;
    while (!left.empty()) {
        const std::string name(left.substr(0, left.find(' ')));
        left.remove_prefix(name.size() + 1);
        const int number = seccomp_syscall_resolve_name(name.c_str());
        if (number < 0) continue;
        if (const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, number, 0)) {
            return fail_errno(-error, "seccomp: {}", name);
        }
    }
    if (const int error = seccomp_load(filter.get())) {
        return fail(Errc::unsupported, "seccomp: {}", errno_error(-error, "load").context);
    }
    return {};
}

}  // namespace antipode::control
