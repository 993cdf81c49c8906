// AdminSocket: the administrator's door to a running tiebreaker, a unix socket of mode 0600.
//
// One line in, some lines out, closed: "forget PAIR", "status", "metrics". The last line is "ok" or
// "error: ...". Only what changes a running daemon's memory or shows it is done here; everything
// else `antipode-tiebreaker admin` reads from the store itself.
//
// Threads: the core thread. INVARIANTS: at most connections_max at once; a line of at most 256
// bytes that must come within 5 seconds. A file that a living process serves is refused at start.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"

namespace antipode::tiebreaker {

class AdminSocket {
  public:
    // Calls `reply` once, now or later, with the lines to send.
    using Reply = std::function<void(std::string)>;
    using Handler = std::function<void(const std::string& line, Reply reply)>;
    static Result<std::unique_ptr<AdminSocket>> start(boost::asio::io_context& context,
                                                      const std::string& path, Handler handler);
    ~AdminSocket();

    // For the command: sends one line, returns what came back. Blocks.
    static Result<std::string> ask(const std::string& path, const std::string& line);

  private:
    class Impl;
    explicit AdminSocket(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace antipode::tiebreaker
