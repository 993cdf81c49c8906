// Whether the tiebreaker takes this site's certificate, tried before a pair relies on it.
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>

#include "common/env/posix/tls.h"
#include "web/pairing/pairing.h"
#include "web/security/https.h"

namespace antipode::web {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace ssl = boost::asio::ssl;
using State = PairingStep::State;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr auto kLimit = std::chrono::seconds(5);
// In TLS 1.3 a server's refusal comes after the handshake; one that accepts waits for our words.
constexpr auto kRefusalLimit = std::chrono::milliseconds(700);

// What this site's certificate says, held against what is wanted.
Result<TiebreakerTrial> look_at_certificate(const std::string& path, const std::string& site,
                                            const std::string& pair) {
    FT_TRY(const auto certificate, env::read_certificate(path));
    FT_TRY(const auto identity, env::identity_of(certificate.get()));
    if (identity.role != env::PeerRole::site || identity.name.view() != site) {
        return fail(Errc::denied, "{}: is the certificate of {}, and this site is called '{}'",
                    path, identity.uri(), site);
    }
    FT_TRY(const Name name, Name::parse(pair, "pair"));
    if (!identity.covers(name)) {
        return TiebreakerTrial{
            State::warning,
            fmt::format("{} may not enrol '{}'; sign another with --pairs, unless the other site "
                        "may",
                        path, pair)};
    }
    return TiebreakerTrial{};
}

asio::awaitable<TiebreakerTrial> try_connection(std::string address, ssl::context& context) {
    const auto executor = co_await asio::this_coro::executor;
    const size_t colon = address.rfind(':');
    std::string host = address.substr(0, colon);
    const std::string port = address.substr(colon + 1);
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    const auto away = [&](std::string_view what, const boost::system::error_code& error) {
        return TiebreakerTrial{
            State::warning, fmt::format("tiebreaker {}: {}: {}", address, what, error.message())};
    };
    asio::ip::tcp::resolver resolver(executor);
    const auto [name_error, endpoints] = co_await resolver.async_resolve(host, port, kToken);
    if (name_error) co_return away("name", name_error);
    beast::ssl_stream<beast::tcp_stream> stream(executor, context);
    auto& lowest = beast::get_lowest_layer(stream);
    lowest.expires_after(kLimit);
    const auto [connect_error, endpoint] = co_await lowest.async_connect(endpoints, kToken);
    if (connect_error) co_return away("connect", connect_error);
    stream.set_verify_callback(ssl::host_name_verification(host));
    const auto [error] = co_await stream.async_handshake(ssl::stream_base::client, kToken);
    if (error) {
        co_return TiebreakerTrial{State::failed,
                                  fmt::format("tiebreaker {}: TLS: {}", address, error.message())};
    }
    lowest.expires_after(kRefusalLimit);
    std::array<char, 1> byte{};
    const auto buffer = asio::buffer(byte);
    const auto [refusal, size] = co_await stream.async_read_some(buffer, kToken);
    if (refusal && refusal != beast::error::timeout) {
        co_return TiebreakerTrial{
            State::failed, fmt::format("tiebreaker {} refuses this site's certificate: {}", address,
                                       refusal.message())};
    }
    co_return TiebreakerTrial{State::good,
                              fmt::format("tiebreaker {} takes this site's certificate", address)};
}

}  // namespace

Result<std::string> authority_fingerprint(const std::string& credentials) {
    FT_TRY(const std::string text, fingerprint_of(credentials + "/ca.pem"));
    return to_hex(from_hex(text));
}

asio::awaitable<TiebreakerTrial> try_tiebreaker(std::string address, std::string credentials,
                                                std::string site, std::string pair) {
    env::TlsFiles files;
    files.ca = credentials + "/ca.pem";
    files.certificate = credentials + "/site.pem";
    files.key = credentials + "/site.key";
    auto looked = look_at_certificate(files.certificate, site, pair);
    if (!looked) {
        TiebreakerTrial failed;
        failed.state = State::failed;
        failed.text = looked.error().context;
        co_return failed;
    }
    auto context = env::make_mutual_tls(env::TlsRole::client, files);
    if (!context) {
        TiebreakerTrial failed;
        failed.state = State::failed;
        failed.text = context.error().context;
        co_return failed;
    }
    auto trial = co_await try_connection(address, **context);
    if (trial.state == State::good && looked->state != State::good) {
        trial.state = looked->state;
        trial.text = looked->text;
    }
    co_return trial;
}

}  // namespace antipode::web
