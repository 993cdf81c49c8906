// ControlSocket: an operator's door to a running group, a unix socket of mode 0600. One line in,
// one JSON document out, closed.
//
// Threads: the core thread; ask() any. INVARIANTS: at most 16 connections; a line of at most 1024
// bytes that must come within 5 seconds. A file that a living process serves is refused at start.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"

namespace antipode::disksync {

class ControlSocket {
  public:
    // Called once, now or later.
    using Reply = std::function<void(std::string)>;
    using Handler = std::function<void(const std::string& line, Reply reply)>;
    static Result<std::unique_ptr<ControlSocket>> start(boost::asio::io_context& context,
                                                        const std::string& path, Handler handler);
    ~ControlSocket();

    // For the command: blocks, at most 120 seconds for the answer.
    static Result<std::string> ask(const std::string& path, const std::string& line);

  private:
    class Impl;
    explicit ControlSocket(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace antipode::disksync
