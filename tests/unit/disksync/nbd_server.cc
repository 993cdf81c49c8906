#include "tests/unit/disksync/nbd_server.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/unique_fd.h"

extern char** environ;

namespace antipode::disksync {

namespace {

bool accepts(const std::string& path) {
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
}

}  // namespace

bool NbdServer::available() {
    return std::filesystem::exists("/usr/sbin/nbdkit") ||
           std::filesystem::exists("/usr/bin/nbdkit");
}

NbdServer::NbdServer(std::string socket, std::vector<std::string> arguments)
    : socket_(std::move(socket)), arguments_(std::move(arguments)) {
    start();
}

NbdServer::~NbdServer() {
    if (pid_ > 0) kill();
}

void NbdServer::start() {
    std::filesystem::remove(socket_);
    std::vector<std::string> words{"nbdkit", "-f", "-U", socket_};
    words.insert(words.end(), arguments_.begin(), arguments_.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const int failed = ::posix_spawnp(&pid_, "nbdkit", nullptr, nullptr, argv.data(), environ);
    FT_CHECK(failed == 0, "nbdkit does not start: {}", failed);
    // The only way to know that a server of another make is ready is to try.
    while (!accepts(socket_)) {
        int status = 0;
        FT_CHECK(::waitpid(pid_, &status, WNOHANG) == 0, "nbdkit ended at once");
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

void NbdServer::kill() {
    end(SIGKILL);
}

void NbdServer::stop() {
    end(SIGTERM);
}

void NbdServer::end(int signal) {
    ::kill(pid_, signal);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

}  // namespace antipode::disksync
