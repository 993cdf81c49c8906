#include "web/http/server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/span_body.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <ctime>
#include <set>

#include "common/base/log.h"
#include "web/http/live.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using boost::system::error_code;
using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;
using Parser = http::request_parser<http::string_body>;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

spdlog::logger& log() {
    static spdlog::logger& instance = logger("web");
    return instance;
}

std::string http_date() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    char text[40];
    const size_t size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return {text, size};
}

// What to answer to bytes that are no request we take; nullopt = just close.
std::optional<Response> refusal(error_code error) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
        return problem(431, "header-too-large", "request header too large",
                       "the request's header is larger than this server takes");
    }
    if (error == http::error::body_limit) {
        return problem(413, "body-too-large", "request body too large",
                       "the request's body is larger than this server takes");
    }
    if (error == http::error::end_of_stream || error == http::error::partial_message) {
        return std::nullopt;
    }
    if (error.category() == http::make_error_code(http::error::bad_method).category()) {
        return problem(400, "bad-request", "not an HTTP request", error.message());
    }
    return std::nullopt;  // the connection failed, or its time was up
}

Result<Request> take(Parser& parser, std::string remote, Transport transport) {
    Request request;
    auto message = parser.release();
    if (message.count(http::field::transfer_encoding) != 0 &&
        message.count(http::field::content_length) != 0) {
        return fail(Errc::invalid_argument, "both Transfer-Encoding and Content-Length are given");
    }
    if (message.count(http::field::host) != 1) {
        return fail(Errc::invalid_argument, "exactly one Host header is needed, {} are given",
                    message.count(http::field::host));
    }
    request.method = message.method();
    const auto target = message.target();
    FT_TRY_VOID(parse_target({target.data(), target.size()}, request));
    request.body = std::move(message.body());
    request.headers = std::move(message.base());
    request.remote = std::move(remote);
    request.transport = transport;
    return request;
}

}  // namespace

class HttpServer::Impl : public std::enable_shared_from_this<HttpServer::Impl> {
  public:
    Impl(asio::io_context& context, ServerSettings settings, Dispatcher& dispatcher)
        : settings_(std::move(settings)),
          dispatcher_(dispatcher),
          context_(context),
          acceptor_(context),
          retry_timer_(context) {}

    Result<> open();
    void accept();
    void stop();

    class Connection;
    const ServerSettings settings_;
    Dispatcher& dispatcher_;
    asio::io_context& context_;
    tcp::acceptor acceptor_;
    asio::steady_timer retry_timer_;
    std::set<std::shared_ptr<Connection>> connections_;
    std::map<std::string, size_t> of_address_;
    ServerCounts counts_;
    bool stopped_ = false;

  private:
    void admit(tcp::socket socket);
    void leave(const std::shared_ptr<Connection>& connection);
};

// One connection: a coroutine that owns its stream; the server holds it to be able to close it.
class HttpServer::Impl::Connection {
  public:
    Connection(Impl& server, tcp::socket socket, std::string remote)
        : server_(server), remote_(std::move(remote)) {
        if (server.settings_.tls) {
            tls_ = std::make_unique<TlsStream>(std::move(socket), *server.settings_.tls);
        } else {
            plain_ = std::make_unique<PlainStream>(std::move(socket));
        }
    }

    asio::awaitable<void> run() {
        if (plain_) {
            co_await serve(*plain_);
        } else {
            limit(server_.settings_.request_limit);
            const auto [error] =
                co_await tls_->async_handshake(asio::ssl::stream_base::server, kToken);
            if (error) co_return;
            co_await serve(*tls_);
            if (closed_) co_return;
            limit(server_.settings_.write_limit);
            co_await tls_->async_shutdown(kToken);
        }
    }

    void close() {
        closed_ = true;
        error_code ignored;
        if (lowest().socket().is_open()) {
            lowest().socket().shutdown(tcp::socket::shutdown_both, ignored);
        }
        lowest().close();
    }
    const std::string& remote() const { return remote_; }

  private:
    beast::tcp_stream& lowest() { return plain_ ? *plain_ : tls_->next_layer(); }
    void limit(std::chrono::milliseconds time) { lowest().expires_after(time); }

    template <typename Stream>
    asio::awaitable<void> serve(Stream& stream);
    template <typename Stream>
    asio::awaitable<bool> write(Stream& stream, const Response& response, http::verb method,
                                bool keep_alive);
    template <typename Stream>
    asio::awaitable<void> feed(Stream& stream, const Response& response);
    template <typename Message>
    void fill_header(Message& message, const Response& response);

    Impl& server_;
    const std::string remote_;
    std::unique_ptr<PlainStream> plain_;
    std::unique_ptr<TlsStream> tls_;
    beast::flat_buffer buffer_{64 * 1024};
    bool closed_ = false;
};

template <typename Message>
void HttpServer::Impl::Connection::fill_header(Message& message, const Response& response) {
    message.version(11);
    message.result(response.status);
    message.set(http::field::date, http_date());
    if (!response.content_type.empty()) {
        message.set(http::field::content_type, response.content_type);
    }
    for (const auto& [name, value] : response.headers) message.insert(name, value);
}

template <typename Stream>
asio::awaitable<void> HttpServer::Impl::Connection::serve(Stream& stream) {
    while (!closed_) {
        if (buffer_.size() == 0) {  // nothing of a request yet: it may take its time
            limit(server_.settings_.idle_limit);
            const auto space = buffer_.prepare(4096);
            const auto [error, count] = co_await stream.async_read_some(space, kToken);
            if (error) co_return;
            buffer_.commit(count);
        }
        Parser parser;
        parser.header_limit(server_.settings_.header_bytes_max);
        parser.body_limit(server_.settings_.body_bytes_max);
        limit(server_.settings_.request_limit);
        const auto [error, count] = co_await http::async_read(stream, buffer_, parser, kToken);
        if (closed_) co_return;
        if (error) {
            const std::optional<Response> response = refusal(error);
            if (!response) co_return;
            ++server_.counts_.bad_requests;
            co_await write(stream, *response, http::verb::get, false);
            co_return;
        }
        ++server_.counts_.requests;
        const bool keep_alive = parser.get().keep_alive();
        auto request = take(parser, remote_, plain_ ? Transport::plain : Transport::tls);
        if (!request) {
            ++server_.counts_.bad_requests;
            const Response response = problem(request.error());
            co_await write(stream, response, http::verb::get, false);
            co_return;
        }
        lowest().expires_never();
        const Response response = co_await server_.dispatcher_.dispatch(*request);
        if (closed_) co_return;
        if (response.stream) {
            co_await feed(stream, response);
            co_return;
        }
        const bool go_on = co_await write(stream, response, request->method, keep_alive);
        if (!go_on) co_return;
    }
}

template <typename Stream>
asio::awaitable<bool> HttpServer::Impl::Connection::write(Stream& stream, const Response& response,
                                                          http::verb method, bool keep_alive) {
    limit(server_.settings_.write_limit);
    const std::string_view bytes = response.bytes();
    const bool has_body = response.status != 204 && response.status != 304;
    if (method == http::verb::head || !has_body) {
        http::response<http::empty_body> message;
        fill_header(message, response);
        if (has_body) message.content_length(bytes.size());
        message.keep_alive(keep_alive);
        const auto [error, count] = co_await http::async_write(stream, message, kToken);
        server_.counts_.sent_bytes += count;
        co_return !error && keep_alive;
    }
    http::response<http::span_body<const char>> message;
    fill_header(message, response);
    message.body() = {bytes.data(), bytes.size()};
    message.content_length(bytes.size());
    message.keep_alive(keep_alive);
    const auto [error, count] = co_await http::async_write(stream, message, kToken);
    server_.counts_.sent_bytes += count;
    co_return !error && keep_alive;
}

template <typename Stream>
asio::awaitable<void> HttpServer::Impl::Connection::feed(Stream& stream, const Response& response) {
    http::response<http::empty_body> message;
    fill_header(message, response);
    message.chunked(true);
    message.keep_alive(false);
    http::response_serializer<http::empty_body> serializer(message);
    limit(server_.settings_.write_limit);
    const auto [header_error, header_count] =
        co_await http::async_write_header(stream, serializer, kToken);
    if (header_error) response.stream->close();
    const auto patience = server_.settings_.keep_alive_interval;
    const auto end = std::chrono::steady_clock::now() + server_.settings_.stream_limit;
    while (std::chrono::steady_clock::now() < end) {
        lowest().expires_never();
        const Message next = co_await response.stream->next(patience);
        if (!next || closed_) co_return;
        limit(server_.settings_.write_limit);
        const auto body = asio::buffer(*next);
        const auto chunk = http::make_chunk(body);
        const auto [error, count] = co_await asio::async_write(stream, chunk, kToken);
        server_.counts_.sent_bytes += count;
        if (error) {
            response.stream->close();
            co_return;
        }
    }
    limit(server_.settings_.write_limit);
    co_await asio::async_write(stream, http::make_chunk_last(), kToken);
}

Result<> HttpServer::Impl::open() {
    error_code error;
    const auto address = asio::ip::make_address(settings_.address, error);
    if (error) {
        return fail(Errc::invalid_argument, "listen address '{}': is not an IP address",
                    settings_.address);
    }
    const tcp::endpoint endpoint(address, settings_.port);
    const auto say = [&](std::string_view what) {
        return fail(errno_error(
            error.value(),
            fmt::format("listen {}:{}: cannot {}", settings_.address, settings_.port, what)));
    };
    acceptor_.open(endpoint.protocol(), error);
    if (error) return say("open a socket");
    acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (error) return say("set SO_REUSEADDR");
    acceptor_.bind(endpoint, error);
    if (error) return say("bind");
    acceptor_.listen(128, error);
    if (error) return say("listen");
    return {};
}

void HttpServer::Impl::accept() {
    acceptor_.async_accept([self = shared_from_this()](error_code error, tcp::socket socket) {
        if (self->stopped_) return;
        if (error) {  // out of descriptors or memory: wait, do not spin
            log().warn("accept: {}", error.message());
            self->retry_timer_.expires_after(std::chrono::milliseconds(200));
            self->retry_timer_.async_wait([self](error_code cancelled) {
                if (!cancelled && !self->stopped_) self->accept();
            });
            return;
        }
        self->admit(std::move(socket));
        self->accept();
    });
}

void HttpServer::Impl::admit(tcp::socket socket) {
    error_code error;
    const auto peer = socket.remote_endpoint(error);
    if (error) return;
    std::string remote = peer.address().to_string();
    ++counts_.connections;
    const auto same = of_address_.find(remote);
    const size_t of_one = same == of_address_.end() ? 0 : same->second;
    if (connections_.size() >= settings_.connections_max ||
        of_one >= settings_.connections_of_one_address_max) {
        ++counts_.refused;
        return;
    }
    socket.set_option(tcp::no_delay(true), error);
    ++of_address_[remote];
    auto connection = std::make_shared<Connection>(*this, std::move(socket), std::move(remote));
    connections_.insert(connection);
    auto task = connection->run();
    asio::co_spawn(context_, std::move(task),
                   [self = shared_from_this(), connection](const std::exception_ptr& thrown) {
                       if (thrown) log().error("a connection of {} threw", connection->remote());
                       self->leave(connection);
                   });
}

void HttpServer::Impl::leave(const std::shared_ptr<Connection>& connection) {
    connection->close();
    connections_.erase(connection);
    const auto count = of_address_.find(connection->remote());
    if (count != of_address_.end() && --count->second == 0) of_address_.erase(count);
}

void HttpServer::Impl::stop() {
    if (stopped_) return;
    stopped_ = true;
    error_code ignored;
    acceptor_.close(ignored);
    retry_timer_.cancel();
    for (const auto& connection : connections_) connection->close();
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
    stop();
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(asio::io_context& context,
                                                      ServerSettings settings,
                                                      Dispatcher& dispatcher) {
    auto impl = std::make_shared<Impl>(context, std::move(settings), dispatcher);
    FT_TRY_VOID(impl->open());
    impl->accept();
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

void HttpServer::stop() {
    impl_->stop();
}

uint16_t HttpServer::port() const {
    error_code ignored;
    return impl_->acceptor_.local_endpoint(ignored).port();
}

ServerCounts HttpServer::counts() const {
    ServerCounts counts = impl_->counts_;
    counts.open = impl_->connections_.size();
    return counts;
}

}  // namespace antipode::web
