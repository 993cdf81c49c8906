// Console: takes commands, a line each, from standard input and from a unix socket, and answers
// each with a line: what the command says, or `error: ...`.
//
// Standard input ends the process when it ends, so that an emulator dies with the test that started
// it. Lines are at most kLineBytesMax long; a longer one ends its session. One thread, that of the
// io_context.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <string>

#include "common/base/result.h"
#include "tests/system/wan_link/wan.h"

namespace antipode::wan {

class Console {
  public:
    static constexpr size_t kLineBytesMax = 4096;

    Console(boost::asio::io_context& context, Wan& wan)
        : context_(context), wan_(wan), acceptor_(context) {}

    void read_standard_input();
    // An existing socket file that nobody listens on is replaced.
    Result<> listen(const std::string& path);
    // The answer to one line, with its newline. `quit` stops the io_context.
    std::string answer(std::string_view line);

  private:
    void accept();

    boost::asio::io_context& context_;
    Wan& wan_;
    boost::asio::local::stream_protocol::acceptor acceptor_;
};

}  // namespace antipode::wan
