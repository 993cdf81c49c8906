#include "web/control_client.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/error.hpp>
#include <sys/un.h>

namespace antipode::web {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using boost::system::error_code;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

Error lost(const std::string& path, std::string_view what, error_code error) {
    if (error == boost::beast::error::timeout) {
        return {Errc::unreachable, fmt::format("control socket {}: {}: no answer within {} s", path,
                                               what, ControlClient::kQuestionLimit.count())};
    }
    return {Errc::unreachable,
            fmt::format("control socket {}: {}: {}", path, what, error.message())};
}

}  // namespace

// Leaves input_ alone: a read that is under way still looks at it when it learns that it was
// cancelled.
void ControlClient::close() {
    stream_.close();
    connected_ = false;
}

asio::awaitable<Result<>> ControlClient::connect() {
    close();
    input_.clear();
    if (path_.size() >= sizeof(sockaddr_un::sun_path)) {
        co_return fail(Errc::invalid_argument, "control socket {}: path is too long", path_);
    }
    stream_.expires_after(kQuestionLimit);
    const asio::local::stream_protocol::endpoint endpoint(path_);
    const auto [error] = co_await stream_.async_connect(endpoint, kToken);
    if (error) {
        close();
        co_return fail(lost(path_, "connect", error));
    }
    connected_ = true;
    co_return Result<>{};
}

asio::awaitable<Result<json::value>> ControlClient::ask(control::Method method,
                                                        json::value params) {
    if (!connected_) {
        auto done = co_await connect();
        if (!done) co_return fail(std::move(done).error());
    }
    std::string request = control::request_line(++last_id_, method, std::move(params));
    if (request.size() > control::kLineBytesMax) {
        co_return fail(Errc::limit, "request {}: has {} bytes, at most {} are allowed",
                       control::word(method), request.size(), control::kLineBytesMax);
    }
    co_return co_await exchange(std::move(request));
}

asio::awaitable<Result<json::value>> ControlClient::exchange(std::string request) {
    stream_.expires_after(kQuestionLimit);
    const auto bytes = asio::buffer(request);
    const auto [write_error, written] = co_await asio::async_write(stream_, bytes, kToken);
    if (write_error) {
        close();
        co_return fail(lost(path_, "write", write_error));
    }
    auto buffer = asio::dynamic_buffer(input_, control::kLineBytesMax);
    const auto [read_error, count] = co_await asio::async_read_until(stream_, buffer, '\n', kToken);
    if (read_error == asio::error::not_found) {
        close();
        co_return fail(Errc::protocol, "control socket {}: the reply has over {} bytes", path_,
                       control::kLineBytesMax);
    }
    if (read_error) {
        close();
        co_return fail(lost(path_, "read", read_error));
    }
    auto reply = control::parse_reply(std::string_view(input_).substr(0, count - 1));
    input_.erase(0, count);
    if (!reply) {
        close();
        co_return fail(Errc::protocol, "control socket {}: {}", path_, reply.error().context);
    }
    if (reply->id && *reply->id != last_id_) {
        close();
        co_return fail(Errc::protocol, "control socket {}: reply {} to question {}", path_,
                       *reply->id, last_id_);
    }
    if (!reply->id) close();  // the server could not even read the question
    co_return std::move(reply->result);
}

}  // namespace antipode::web
