#include "tests/system/wan_link/console.h"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cstdio>
#include <memory>
#include <unistd.h>

#include "common/base/log.h"

namespace antipode::wan {
namespace {

namespace asio = boost::asio;

// One reader of lines; Stream is a socket or a descriptor.
template <typename Stream, typename Answer, typename Ended>
class Lines : public std::enable_shared_from_this<Lines<Stream, Answer, Ended>> {
  public:
    Lines(Stream stream, Answer answer, Ended ended)
        : stream_(std::move(stream)), answer_(std::move(answer)), ended_(std::move(ended)) {}

    void next() {
        asio::async_read_until(stream_, asio::dynamic_buffer(text_, Console::kLineBytesMax), '\n',
                               [self = this->shared_from_this()](auto error, size_t bytes) {
                                   if (error) return self->ended_();
                                   self->line(bytes);
                               });
    }

  private:
    void line(size_t bytes) {
        reply_ = answer_(std::string_view(text_).substr(0, bytes - 1));
        text_.erase(0, bytes);
        if constexpr (std::is_same_v<Stream, asio::posix::stream_descriptor>) {
            std::fputs(reply_.c_str(), stdout);
            std::fflush(stdout);
            next();
        } else {
            asio::async_write(stream_, asio::buffer(reply_),
                              [self = this->shared_from_this()](auto error, size_t) {
                                  if (!error) self->next();
                              });
        }
    }

    Stream stream_;
    Answer answer_;
    Ended ended_;
    std::string text_;
    std::string reply_;
};

template <typename Stream, typename Answer, typename Ended>
void read_lines(Stream stream, Answer answer, Ended ended) {
    std::make_shared<Lines<Stream, Answer, Ended>>(std::move(stream), std::move(answer),
                                                   std::move(ended))
        ->next();
}

}  // namespace

std::string Console::answer(std::string_view line) {
    if (line == "quit") {
        context_.stop();
        return "ok\n";
    }
    auto done = wan_.execute(line);
    return done ? *done + "\n" : "error: " + done.error().context + "\n";
}

void Console::read_standard_input() {
    read_lines(
        asio::posix::stream_descriptor(context_, ::dup(STDIN_FILENO)),
        [this](std::string_view line) { return answer(line); }, [this] { context_.stop(); });
}

Result<> Console::listen(const std::string& path) {
    using Protocol = asio::local::stream_protocol;
    boost::system::error_code error;
    Protocol::socket probe(context_);
    probe.connect(Protocol::endpoint(path), error);
    if (!error) return fail(Errc::already_exists, "{}: another emulator listens there", path);
    ::unlink(path.c_str());
    error.clear();
    acceptor_.open(Protocol(), error);
    if (!error) acceptor_.bind(Protocol::endpoint(path), error);
    if (!error) acceptor_.listen(16, error);
    if (error) return fail(Errc::io, "{}: {}", path, error.message());
    accept();
    return {};
}

void Console::accept() {
    acceptor_.async_accept([this](auto error, auto socket) {
        if (error) {
            logger("wan").error("control socket: {}", error.message());
            return;
        }
        read_lines(
            std::move(socket), [this](std::string_view line) { return answer(line); }, [] {});
        accept();
    });
}

}  // namespace antipode::wan
