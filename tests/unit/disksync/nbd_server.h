// An nbdkit process for a test: started on a unix socket, ended by its pid.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

namespace antipode::disksync {

class NbdServer {
  public:
    // `arguments` behind "nbdkit -f -U SOCKET"; waits until the socket is there.
    NbdServer(std::string socket, std::vector<std::string> arguments);
    ~NbdServer();
    NbdServer(const NbdServer&) = delete;
    NbdServer& operator=(const NbdServer&) = delete;

    static bool available();
    void start();
    // SIGKILL: what the server had not written is lost.
    void kill();
    // SIGTERM, and waits for the end.
    void stop();
    std::string uri() const { return "nbd+unix:///?socket=" + socket_; }

  private:
    void end(int signal);

    std::string socket_;
    std::vector<std::string> arguments_;
    pid_t pid_ = -1;
};

}  // namespace antipode::disksync
