// Serves the control API on a unix stream socket, on the core thread's io_context: one JSON object
// a line each way, one request of a connection at a time.
//
// Threads: all of it runs on the thread that runs the io_context; start() and stop() are called
// there. INVARIANTS
//   - Bounded: line length, connections, time to send a whole request, idle time, time to take a
//   reply. A
//     connection that breaks a bound gets one error line where that can still be sent, and is
//     closed.
//   - A connection's next request is read only after its reply was taken: no queue grows.
//   - Bytes that are not a request get an error that says what is wrong; they never stop the
//   server.
//   - The socket file belongs to this process from start() to stop(), mode 0660. A file left by a
//   dead
//     process is replaced; a file that a living process serves, or that is no socket, is refused.
// After the handler is destroyed the server must be, too: destroy the server first.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "replicator/control/control_api.h"

namespace boost::asio {
class io_context;
}

namespace antipode::control {

class ControlHandler {
  public:
    virtual ~ControlHandler() = default;
    // Must not block: it runs on the core thread. Long actions start an operation and return its
    // id.
    virtual Result<json::value> handle(Method method, const json::object& params) = 0;
};

struct ControlServerSettings {
    std::string path;
    std::string group;  // the socket file's group; empty = as created
    size_t connections_max = 32;
    std::chrono::milliseconds request_limit = std::chrono::seconds(10);  // from its first byte
    std::chrono::milliseconds idle_limit = std::chrono::minutes(5);
    std::chrono::milliseconds write_limit = std::chrono::seconds(10);
};

class ControlServer {
  public:
    static Result<std::unique_ptr<ControlServer>> start(boost::asio::io_context& context,
                                                        ControlServerSettings settings,
                                                        ControlHandler& handler);
    ~ControlServer();
    ControlServer(const ControlServer&) = delete;
    ControlServer& operator=(const ControlServer&) = delete;

    // Closes every connection and removes the socket file. Idempotent.
    void stop();
    size_t connection_count() const;
    uint64_t refused_count() const;  // connections over the limit, requests over a bound

  private:
    class Impl;
    explicit ControlServer(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace antipode::control
