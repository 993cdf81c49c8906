#include "web/http/https_client.h"

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <charconv>
#include <openssl/x509.h>

#include "web/security/gate.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr uint64_t kAnswerBytesMax = 256 * 1024;

std::string where_of(const HttpsTarget& target) {
    const bool six = target.host.find(':') != std::string::npos;
    return six ? fmt::format("[{}]:{}", target.host, target.port)
               : fmt::format("{}:{}", target.host, target.port);
}

Failure failed(const HttpsTarget& target, std::string_view step, error_code error) {
    if (error == beast::error::timeout) {
        return fail(Errc::unreachable, "{}: {}: no answer in time", where_of(target), step);
    }
    return fail(Errc::unreachable, "{}: {}: {}", where_of(target), step, error.message());
}

using Request = http::request<http::string_body>;

Request make_request(const HttpsTarget& target, HttpsQuestion& question) {
    Request request(question.method, question.path, 11);
    request.set(http::field::host, where_of(target));
    request.set(http::field::user_agent, "antipode");
    request.set(http::field::connection, "close");
    request.set(http::field::content_type, "application/json");
    for (const auto& [name, value] : question.headers) request.set(name, value);
    request.body() = std::move(question.body);
    request.prepare_payload();
    return request;
}

template <typename Stream>
asio::awaitable<Result<HttpsAnswer>> exchange(Stream& stream, const HttpsTarget& target,
                                              HttpsQuestion& question) {
    const Request request = make_request(target, question);
    const auto [write_error, written] = co_await http::async_write(stream, request, kToken);
    if (write_error) co_return failed(target, "sending", write_error);
    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(kAnswerBytesMax);
    const auto [read_error, count] = co_await http::async_read(stream, buffer, parser, kToken);
    if (read_error) co_return failed(target, "answer", read_error);
    HttpsAnswer answer;
    answer.status = parser.get().result_int();
    answer.body = std::move(parser.get().body());
    co_return answer;
}

using TlsStream = beast::ssl_stream<beast::tcp_stream>;

std::string certificate_digest(TlsStream& stream) {
    X509* certificate = SSL_get1_peer_certificate(stream.native_handle());
    if (certificate == nullptr) return {};
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    X509_digest(certificate, EVP_sha256(), digest.data(), &size);
    X509_free(certificate);
    return {reinterpret_cast<const char*>(digest.data()), size};
}

asio::awaitable<Result<HttpsAnswer>> over_tls(beast::tcp_stream tcp, const HttpsTarget& target,
                                              HttpsQuestion& question) {
    ssl::context context(ssl::context::tls_client);
    const bool pinned = !target.fingerprint.empty();
    SSL_CTX_set_min_proto_version(context.native_handle(),
                                  pinned ? TLS1_3_VERSION : TLS1_2_VERSION);
    context.set_verify_mode(pinned ? ssl::verify_none : ssl::verify_peer);
    if (!pinned) {
        context.set_default_verify_paths();
        context.set_verify_callback(ssl::host_name_verification(target.host));
    }
    TlsStream stream(std::move(tcp), context);
    if (!is_address(target.host)) {
        SSL_set_tlsext_host_name(stream.native_handle(), target.host.c_str());
    }
    const auto [error] = co_await stream.async_handshake(ssl::stream_base::client, kToken);
    if (error) co_return failed(target, "TLS", error);
    const std::string digest = certificate_digest(stream);
    // Nothing has been sent yet that anybody but the meant one could read.
    if (pinned && !digest.starts_with(target.fingerprint)) {
        co_return fail(Errc::denied,
                       "{}: its certificate is not the one that was pinned: another host answers "
                       "there, or its certificate was replaced since",
                       where_of(target));
    }
    const std::string local =
        beast::get_lowest_layer(stream).socket().local_endpoint().address().to_string();
    auto answer = co_await exchange(stream, target, question);
    if (answer) {
        answer->fingerprint = digest;
        answer->local_address = local;
    }
    co_return answer;
}

}  // namespace

asio::awaitable<Result<HttpsAnswer>> ask_https(HttpsTarget target, HttpsQuestion question) {
    const auto executor = co_await asio::this_coro::executor;
    asio::ip::tcp::resolver resolver(executor);
    const std::string service = std::to_string(target.port);
    const auto [resolve_error, endpoints] =
        co_await resolver.async_resolve(target.host, service, kToken);
    if (resolve_error) co_return failed(target, "name", resolve_error);
    beast::tcp_stream tcp(executor);
    tcp.expires_after(question.time_limit);
    const auto [connect_error, endpoint] = co_await tcp.async_connect(endpoints, kToken);
    if (connect_error) co_return failed(target, "connect", connect_error);
    if (!target.plain) co_return co_await over_tls(std::move(tcp), target, question);
    co_return co_await exchange(tcp, target, question);
}

Result<HttpsUrl> parse_https_url(std::string_view url) {
    const auto wrong = [&](std::string_view why) {
        return fail(Errc::invalid_argument, "url: '{}' {}", url.substr(0, 200), why);
    };
    HttpsUrl out;
    std::string_view rest = url;
    if (rest.starts_with("http://")) {
        out.target.plain = true;
        out.target.port = 80;
        rest.remove_prefix(7);
    } else if (rest.starts_with("https://")) {
        rest.remove_prefix(8);
    } else {
        return wrong("does not begin with https://");
    }
    for (const char c : rest) {
        if (c <= ' ' || c == 0x7f || c == '@' || c == '\\')
            return wrong("has a character too many");
    }
    const size_t slash = std::min(rest.find_first_of("/?#"), rest.size());
    std::string_view place = rest.substr(0, slash);
    out.path = std::string(rest.substr(slash));
    out.path = out.path.substr(0, out.path.find('#'));
    if (!out.path.starts_with('/')) out.path = "/" + out.path;
    const size_t bracket = place.rfind(']');
    const size_t colon = place.rfind(':');
    if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
        const std::string_view digits = place.substr(colon + 1);
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), out.target.port);
        if (error != std::errc() || end != digits.data() + digits.size() || out.target.port == 0) {
            return wrong("has no port where one should be");
        }
        place = place.substr(0, colon);
    }
    if (place.starts_with('[') && place.ends_with(']')) place = place.substr(1, place.size() - 2);
    if (place.empty()) return wrong("names no host");
    out.target.host = std::string(place);
    if (out.target.plain && place != "localhost" && !is_loopback(place)) {
        return wrong("is not encrypted; http is for loopback only");
    }
    return out;
}

}  // namespace antipode::web
