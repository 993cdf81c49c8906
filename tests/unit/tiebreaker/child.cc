#include "tests/unit/tiebreaker/child.h"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker::testing {
namespace {

std::string next_name(const std::string& directory, const char* what) {
    static std::atomic<int> number{0};
    return fmt::format("{}/{}-{}", directory, what, ++number);
}

pid_t start(const std::string& directory, const std::vector<std::string>& arguments,
            const std::string& out, const std::string& error,
            const std::vector<std::string>& environment) {
    std::vector<char*> raw;
    for (const auto& argument : arguments) raw.push_back(const_cast<char*>(argument.c_str()));
    raw.push_back(nullptr);
    const pid_t child = ::fork();
    if (child != 0) return child;
    for (const auto& variable : environment) ::putenv(const_cast<char*>(variable.c_str()));
    const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    const int error_fd = ::open(error.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(out_fd, 1);
    ::dup2(error_fd, 2);
    if (::chdir(directory.c_str()) != 0) ::_exit(126);
    ::execv(raw[0], raw.data());
    ::_exit(127);
}

std::string content(const std::string& path) {
    auto text = read_file(path, 16 << 20);
    return text ? *text : std::string();
}

}  // namespace

Finished run(const std::string& directory, std::vector<std::string> arguments) {
    const std::string out = next_name(directory, "out");
    const std::string error = next_name(directory, "error");
    const pid_t child = start(directory, arguments, out, error, {});
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    Finished finished{WIFEXITED(status) ? WEXITSTATUS(status) : -1, content(out), content(error)};
    ::unlink(out.c_str());
    ::unlink(error.c_str());
    return finished;
}

DaemonProcess::DaemonProcess(const std::string& directory, std::vector<std::string> arguments,
                             std::vector<std::string> environment)
    : directory_(directory), log_path_(next_name(directory, "log")) {
    const std::string path = next_name(directory, "notify");
    notify_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(notify_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    environment.push_back("NOTIFY_SOCKET=" + path);
    pid_ = start(directory, arguments, log_path_, log_path_, environment);
}

DaemonProcess::~DaemonProcess() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        (void)wait();
    }
    ::close(notify_);
}

std::string DaemonProcess::await(const std::string& prefix) {
    for (int waited_ms = 0; waited_ms < 20000; waited_ms += 50) {
        pollfd ready{notify_, POLLIN, 0};
        if (::poll(&ready, 1, 50) == 1) {
            char text[4096];
            const ssize_t got = ::recv(notify_, text, sizeof(text), 0);
            const std::string message(text, got > 0 ? static_cast<size_t>(got) : 0);
            if (message.starts_with(prefix)) return message;
            continue;
        }
        siginfo_t info{};
        ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
        if (info.si_pid == pid_) return {};
    }
    return {};
}

void DaemonProcess::signal(int number) {
    ASSERT_GT(pid_, 0);
    ::kill(pid_, number);
}

int DaemonProcess::wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

std::string DaemonProcess::log() const {
    return content(log_path_);
}

}  // namespace antipode::tiebreaker::testing
