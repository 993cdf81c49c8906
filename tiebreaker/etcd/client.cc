#include "tiebreaker/etcd/client.h"

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/beast/http.hpp>
#include <sys/stat.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/env/posix/tls.h"
#include "tiebreaker/etcd/kv.h"

namespace antipode::tiebreaker::etcd {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;

constexpr uint32_t kHeaderBytesMax = 16 << 10;

bool is_address(const std::string& host) {
    error_code error;
    (void)asio::ip::make_address(host, error);
    return !error;
}

// gRPC codes of answers that say for certain that nothing was done, and that asking another member
// would not help: the request, our rights, or etcd's space are at fault.
bool is_refusal(int code) {
    constexpr int kInvalidArgument = 3, kPermissionDenied = 7, kResourceExhausted = 8,
                  kOutOfRange = 11, kUnimplemented = 12, kUnauthenticated = 16;
    return code == kInvalidArgument || code == kPermissionDenied || code == kResourceExhausted ||
           code == kOutOfRange || code == kUnimplemented || code == kUnauthenticated;
}

Result<std::unique_ptr<ssl::context>> context_of(const ClientSettings& settings) {
    auto context = std::make_unique<ssl::context>(ssl::context::tlsv13_client);
    SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_3_VERSION);
    context->set_verify_mode(ssl::verify_peer);
    struct stat info {};
    if (::stat(settings.key.c_str(), &info) != 0) {
        return fail_errno(errno, "key {}", settings.key);
    }
    if ((info.st_mode & S_IRWXO) != 0) {
        return fail(Errc::denied, "key {}: mode is {:04o}, everybody may read it; chmod 0600",
                    settings.key, info.st_mode & 07777u);
    }
    error_code error;
    context->load_verify_file(settings.ca, error);
    if (error) return fail(Errc::invalid_argument, "CA {}: {}", settings.ca, error.message());
    context->use_certificate_chain_file(settings.certificate, error);
    if (error) {
        return fail(Errc::invalid_argument, "certificate {}: {}", settings.certificate,
                    error.message());
    }
    context->use_private_key_file(settings.key, ssl::context::pem, error);
    if (error || SSL_CTX_check_private_key(context->native_handle()) != 1) {
        const std::string why = error ? error.message() : "belongs to another certificate";
        (void)env::take_tls_errors();
        return fail(Errc::invalid_argument, "key {}: {}", settings.key, why);
    }
    return context;
}

}  // namespace

std::string Endpoint::text() const {
    return host.find(':') == std::string::npos ? fmt::format("etcd {}:{}", host, port)
                                               : fmt::format("etcd [{}]:{}", host, port);
}

Result<Endpoint> Endpoint::parse(const std::string& url) {
    constexpr std::string_view kScheme = "https://";
    const auto bad = [&](std::string_view why) {
        return fail(Errc::invalid_argument, "endpoint '{}': {}; expected https://HOST:PORT", url,
                    why);
    };
    if (url.starts_with("http://")) return bad("is not encrypted");
    if (!url.starts_with(kScheme) || url.size() > 300) return bad("is no address");
    std::string rest = url.substr(kScheme.size());
    if (rest.ends_with('/')) rest.pop_back();
    const size_t colon = rest.rfind(':');
    if (colon == std::string::npos || rest.ends_with(']')) return bad("has no port");
    Endpoint out{rest.substr(0, colon), rest.substr(colon + 1)};
    const bool six = out.host.starts_with('[') && out.host.ends_with(']');
    if (six) out.host = out.host.substr(1, out.host.size() - 2);
    if ((six && !is_address(out.host)) || (!six && out.host.find(':') != std::string::npos)) {
        return bad("is no address");
    }
    const bool named =
        !out.host.empty() && out.host.find_first_not_of(
                                 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789-.:_") == std::string::npos;
    if (!named) return bad("its host is none");
    const bool digits = !out.port.empty() && out.port.size() <= 5 &&
                        out.port.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || std::stoul(out.port) == 0 || std::stoul(out.port) > 65535) {
        return bad("its port is none");
    }
    return out;
}

Result<> check(const ClientSettings& settings) {
    if (settings.endpoints.empty() || settings.endpoints.size() > kEndpointsMax) {
        return fail(Errc::invalid_argument, "endpoints: {}, expected 1 to {}",
                    settings.endpoints.size(), kEndpointsMax);
    }
    for (const std::string& url : settings.endpoints) {
        if (auto endpoint = Endpoint::parse(url); !endpoint) {
            return fail(std::move(endpoint).error());
        }
    }
    if (auto context = context_of(settings); !context) return fail(std::move(context).error());
    return {};
}

Client::Client(ClientSettings settings) : settings_(std::move(settings)) {
    for (const std::string& url : settings_.endpoints) {
        auto endpoint = Endpoint::parse(url);
        FT_CHECK(endpoint.has_value(), "{}", endpoint.error().context);
        endpoints_.push_back(std::move(*endpoint));
    }
    FT_CHECK(!endpoints_.empty(), "no endpoint");
}

template <typename Start>
error_code Client::wait_for(Start start) {
    error_code result = asio::error::would_block;
    io_.restart();
    start([&result](const error_code& error, const auto&...) { result = error; });
    io_.run();
    return result;
}

std::string Client::failed(std::string_view step, const error_code& error) const {
    if (error == beast::error::timeout) {
        return fmt::format("{}: {}: no answer in {} ms", endpoint().text(), step,
                           settings_.request_limit.count());
    }
    return fmt::format("{}: {}: {}", endpoint().text(), step, error.message());
}

Result<> Client::connect() {
    FT_TRY(context_, context_of(settings_));
    const Endpoint& to = endpoint();
    asio::ip::tcp::resolver resolver(io_);
    asio::ip::tcp::resolver::results_type addresses;
    error_code error;
    addresses = resolver.resolve(to.host, to.port, error);
    if (error) return fail(Errc::unreachable, "{}", failed("name", error));
    stream_ = std::make_unique<Stream>(io_, *context_);
    auto& tcp = beast::get_lowest_layer(*stream_);
    tcp.expires_at(deadline_);
    error = wait_for([&](auto handler) { tcp.async_connect(addresses, handler); });
    if (error) return fail(Errc::unreachable, "{}", failed("connect", error));
    error_code ignored;
    tcp.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    stream_->set_verify_callback(ssl::host_name_verification(to.host));
    if (!is_address(to.host)) {
        SSL_set_tlsext_host_name(stream_->native_handle(), to.host.c_str());
    }
    error = wait_for(
        [&](auto handler) { stream_->async_handshake(ssl::stream_base::client, handler); });
    if (error) return fail(Errc::unreachable, "{}", failed("TLS", error));
    buffer_.clear();
    return check_cluster();
}

// Any answer names the cluster in its header.
Result<> Client::check_cluster() {
    Range range;
    range.key = settings_.probe_key;
    range.keys_max = 1;
    Reply reply = exchange("/v3/kv/range", encode(range));
    if (reply.kind != Reply::Kind::answered) return fail(Errc::unreachable, "{}", reply.error);
    auto answer = decode_range(reply.body);
    if (!answer) return fail(std::move(answer).error().within(endpoint().text()));
    if (cluster_id_ == 0) cluster_id_ = answer->header.cluster_id;
    if (answer->header.cluster_id == cluster_id_) return {};
    logger("tiebreaker")
        .error("{}: is a member of cluster {:016x}, not of {:016x}", endpoint().text(),
               answer->header.cluster_id, cluster_id_);
    return fail(Errc::denied, "{}: is a member of cluster {:016x}, not of {:016x}",
                endpoint().text(), answer->header.cluster_id, cluster_id_);
}

void Client::leave() {
    stream_.reset();
    ++next_;
}

Reply Client::exchange(const std::string& path, std::string body) {
    http::request<http::string_body> request(http::verb::post, path, 11);
    request.set(http::field::host, endpoint().host);
    request.set(http::field::user_agent, "antipode-tiebreaker");
    request.set(http::field::content_type, "application/json");
    request.body() = std::move(body);
    request.prepare_payload();
    beast::get_lowest_layer(*stream_).expires_at(deadline_);
    error_code error =
        wait_for([&](auto handler) { http::async_write(*stream_, request, handler); });
    // A member that turns us away says so and hangs up, and may have done both before our request
    // arrives: what it said is what counts, and is still to be read. (TLS 1.3 refuses a client's
    // certificate after the client's handshake.)
    const error_code unsent = error == beast::error::timeout ? error_code() : error;
    if (error && !unsent) return {Reply::Kind::doubtful, {}, failed("sending", error)};
    http::response_parser<http::string_body> parser;
    parser.body_limit(kAnswerBytesMax);
    parser.header_limit(kHeaderBytesMax);
    error = wait_for([&](auto handler) { http::async_read(*stream_, buffer_, parser, handler); });
    if (error && unsent && error.category() != asio::error::get_ssl_category()) {
        return {Reply::Kind::doubtful, {}, failed("sending", unsent)};
    }
    if (error) return {Reply::Kind::doubtful, {}, failed("answer", error)};
    if (unsent) stream_.reset();
    http::response<http::string_body> response = parser.release();
    if (!response.keep_alive()) stream_.reset();
    if (response.result() == http::status::ok) {
        return {Reply::Kind::answered, std::move(response.body()), {}};
    }
    const Refusal refusal = decode_refusal(response.body());
    return {is_refusal(refusal.code) ? Reply::Kind::refused : Reply::Kind::doubtful,
            {},
            fmt::format("{}: {} {}", endpoint().text(), response.result_int(), refusal.message)};
}

Reply Client::call(const std::string& path, std::string body) {
    deadline_ = std::chrono::steady_clock::now() + settings_.request_limit;
    if (!stream_) {
        if (auto connected = connect(); !connected) {
            leave();
            return {Reply::Kind::not_sent, {}, connected.error().context};
        }
    }
    if (!stream_) {  // closed behind the first answer
        return {Reply::Kind::not_sent, {}, endpoint().text() + ": does not keep the connection"};
    }
    Reply reply = exchange(path, std::move(body));
    if (reply.kind == Reply::Kind::doubtful) leave();
    return reply;
}

Result<std::string> Gateway::read(const std::string& path, const std::string& body) {
    Reply reply;
    for (size_t i = 0; i < 2 * endpoint_count(); ++i) {
        reply = call(path, body);
        if (reply.kind == Reply::Kind::answered) return std::move(reply.body);
        if (reply.kind == Reply::Kind::refused) return fail(Errc::denied, "{}", reply.error);
    }
    return fail(Errc::unreachable, "{}", reply.error);
}

}  // namespace antipode::tiebreaker::etcd
