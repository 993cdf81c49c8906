// What a confined process may do, and what it may not. Each in a process of its own: the filter
// cannot be taken off.
#include "replicator/control/confinement.h"

#include <cerrno>
#include <csignal>
#include <ctime>
#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace antipode::control {
namespace {

constexpr int kNotConfined = 99;

// The errno that `work` ends with in a confined child; 0 when it did what it should.
int confined(const std::function<int()>& work) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(confine_process() ? work() : kNotConfined);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
    return WEXITSTATUS(status);
}

int errno_of(long result) {
    return result < 0 ? errno : 0;
}

class ConfinementTest : public testing::Test {
  protected:
    void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        GTEST_SKIP() << "a sanitizer needs more than a replicator";
#endif
    }
};

TEST_F(ConfinementTest, NoProgramIsRun) {
    EXPECT_EQ(confined([] {
                  char name[] = "/bin/true";
                  char* argv[] = {name, nullptr};
                  ::execve(name, argv, nullptr);
                  return errno;
              }),
              EPERM);
    EXPECT_EQ(
        confined([] {
            return errno_of(::syscall(SYS_execveat, AT_FDCWD, "/bin/true", nullptr, nullptr, 0));
        }),
        EPERM);
}

TEST_F(ConfinementTest, NothingElseIsTakenOver) {
    EXPECT_EQ(confined([] { return errno_of(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)); }),
              EPERM);
    EXPECT_EQ(confined([] { return errno_of(::unshare(CLONE_NEWUSER)); }), EPERM);
    EXPECT_EQ(confined([] { return errno_of(::mount("x", "/tmp", "tmpfs", 0, nullptr)); }), EPERM);
    EXPECT_EQ(confined([] {
                  return errno_of(
                      ::syscall(SYS_process_vm_readv, ::getppid(), nullptr, 0, nullptr, 0, 0));
              }),
              EPERM);
    EXPECT_EQ(confined([] { return errno_of(::syscall(SYS_keyctl, 0, 0, 0, 0, 0)); }), EPERM);
    EXPECT_EQ(confined([] { return errno_of(::syscall(SYS_bpf, 0, nullptr, 0)); }), EPERM);
    EXPECT_EQ(confined([] { return errno_of(::syscall(SYS_io_uring_setup, 1, nullptr)); }), EPERM);
}

TEST_F(ConfinementTest, WhatAReplicatorNeedsWorks) {
    EXPECT_EQ(confined([] {
                  const int file = ::open("/dev/null", O_RDWR | O_CLOEXEC);
                  const int event = ::eventfd(0, EFD_CLOEXEC);
                  const int net = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                  if (file < 0 || event < 0 || net < 0 || memory == MAP_FAILED) return errno;
                  timer_t timer{};
                  sigevent nothing{};
                  nothing.sigev_notify = SIGEV_NONE;
                  if (::timer_create(CLOCK_MONOTONIC, &nothing, &timer) != 0) return errno;
                  int seen = 1;
                  std::thread([&] { seen = 0; }).join();
                  const pid_t drill = ::fork();
                  if (drill == 0) ::_exit(0);
                  if (::kill(drill, SIGKILL) != 0 || ::waitpid(drill, nullptr, 0) != drill) {
                      return errno;
                  }
                  return seen;
              }),
              0);
}

}  // namespace
}  // namespace antipode::control
