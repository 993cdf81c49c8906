// LineSocket: an operator's door to a running process, a unix socket. One line in, the answer out,
// closed.
//
// Threads: the one that runs the io_context; a reply and ask() any. ask() blocks.
// INVARIANTS: connections, a line's bytes and time, and an answer's time are bounded; who goes
// beyond is cut off. A file that a living process serves is refused at start.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <sys/types.h>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace antipode::env {

// One kind of such sockets, the same for who serves it and who asks.
struct LineSocketKind {
    const char* name;  // first in errors
    mode_t mode;       // of the file
    size_t connections_max;
    size_t line_bytes_max;
    size_t answer_bytes_max;
    // From the line's end to that of the answer.
    std::chrono::seconds answer_limit;
};

class LineSocket {
  public:
    // Called once, now or later, with all that is to be sent.
    using Reply = std::function<void(std::string)>;
    using Handler = std::function<void(const std::string& line, Reply reply)>;
    // Who asks, by the kernel's word (SO_PEERCRED).
    struct Caller {
        uid_t uid = 0;
        pid_t pid = 0;
    };
    using CallerHandler =
        std::function<void(const Caller& caller, const std::string& line, Reply reply)>;
    static Result<std::unique_ptr<LineSocket>> start(boost::asio::io_context& context,
                                                     const LineSocketKind& kind,
                                                     const std::string& path, Handler handler);
    static Result<std::unique_ptr<LineSocket>> start(boost::asio::io_context& context,
                                                     const LineSocketKind& kind,
                                                     const std::string& path,
                                                     CallerHandler handler);
    ~LineSocket();

    // For the command: sends one line, returns what came back.
    static Result<std::string> ask(const LineSocketKind& kind, const std::string& path,
                                   const std::string& line);

  private:
    class Impl;
    explicit LineSocket(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace antipode::env
