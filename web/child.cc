#include "web/child.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/unique_fd.h"
#include "replicator/control/control_api.h"

namespace antipode::web {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr std::string_view kPath =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> out;
    for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
    out.push_back(nullptr);
    return out;
}

struct Pipe {
    UniqueFd read;
    UniqueFd write;
};

Result<Pipe> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
    return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<pid_t> spawn(const ChildCommand& command, int output) {
    std::vector<std::string> environment = command.environment;
    environment.emplace_back(kPath);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t standard;
    sigemptyset(&none);
    sigfillset(&standard);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &standard);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes,
        static_cast<short>(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
    pid_t pid = 0;
    const int error = ::posix_spawn(&pid, command.argv[0].c_str(), &actions, &attributes,
                                    pointers(command.argv).data(), pointers(environment).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return fail_errno(error, "{}", command.argv[0]);
    return pid;
}

// The child's time.
class Deadline {
  public:
    explicit Deadline(const ChildCommand& command)
        : command_(command), end_(SteadyClock::now() + command.time_limit) {}
    // Milliseconds until it is to be looked at again; 0 = it is over.
    int left_ms() const {
        if (command_.given_up && command_.given_up->load()) return 0;
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(end_ - SteadyClock::now()).count();
        return static_cast<int>(std::clamp<int64_t>(left, 0, kLookMs));
    }

  private:
    static constexpr int64_t kLookMs = 200;
    const ChildCommand& command_;
    const SteadyClock::time_point end_;
};

// Reads until the end, or the deadline; false at the deadline.
bool read_output(int fd, const Deadline& deadline, size_t most, std::string& out) {
    std::array<char, 4096> buffer{};
    for (;;) {
        const int left_ms = deadline.left_ms();
        if (left_ms == 0) return false;
        pollfd waited{fd, POLLIN, 0};
        const int ready = ::poll(&waited, 1, left_ms);
        if (ready < 0 && errno != EINTR) return false;
        if (ready <= 0) continue;
        const ssize_t count = ::read(fd, buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return true;
        const size_t room = most - std::min(out.size(), most);
        out.append(buffer.data(), std::min(static_cast<size_t>(count), room));
    }
}

}  // namespace

std::string ChildOutcome::verdict() const {
    if (timed_out) return fmt::format("killed after {} s", took.count() / 1000);
    if (exit_code < 0) return fmt::format("killed by signal {}", signal);
    return fmt::format("exit code {}", exit_code);
}

Result<ChildOutcome> run_child(const ChildCommand& command) {
    if (command.argv.empty() || command.argv[0].empty() || command.argv[0][0] != '/') {
        return fail(Errc::invalid_argument, "command: the program must be given by its full path");
    }
    const auto began = SteadyClock::now();
    const Deadline deadline(command);
    FT_TRY(Pipe pipe, make_pipe());
    FT_TRY(const pid_t pid, spawn(command, pipe.write.get()));
    pipe.write = UniqueFd();
    ChildOutcome outcome;
    // The pipe ends when the child and all it started have: that is what is waited for.
    outcome.timed_out =
        !read_output(pipe.read.get(), deadline, command.output_bytes_max, outcome.output);
    if (outcome.timed_out) ::kill(-pid, SIGKILL);
    int status = 0;
    // A child that closed its output and lives on is given the rest of its time.
    while (::waitpid(pid, &status, outcome.timed_out ? 0 : WNOHANG) != pid) {
        if (deadline.left_ms() == 0) {
            outcome.timed_out = true;
            ::kill(-pid, SIGKILL);
        } else {
            ::usleep(2000);
        }
    }
    ::kill(-pid, SIGKILL);  // what it left behind in its group
    outcome.took =
        std::chrono::duration_cast<std::chrono::milliseconds>(SteadyClock::now() - began);
    if (WIFEXITED(status) && !outcome.timed_out) outcome.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
    outcome.output = control::printable(outcome.output, command.output_bytes_max);
    return outcome;
}

}  // namespace antipode::web
