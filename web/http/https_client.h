// One HTTPS question at a time to another server: the other site's page during a pairing, or where
// a webhook points to. Nothing is sent before the server has shown that it is who is meant: by the
// fingerprint of its certificate, or by the authorities that this system trusts.
//
// Threads: the web thread only.
// INVARIANTS
//   - Bounded: `time_limit` for the whole question, 256 KiB of answer, no redirection is followed.
//   - TLS 1.3 at least with a pinned certificate, TLS 1.2 at least otherwise.
// On failure the error says at which step: name, connection, TLS, certificate, answer.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "web/http/message.h"

namespace antipode::web {

struct HttpsTarget {
    std::string host;  // a name, or an address without brackets
    uint16_t port = 443;
    // The first bytes of the certificate's SHA-256; empty = the system's authorities decide.
    std::string fingerprint;
    bool plain = false;  // http://, for hooks on loopback
};

struct HttpsQuestion {
    http::verb method = http::verb::post;
    std::string path;
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers;
    std::chrono::milliseconds time_limit = std::chrono::seconds(10);
};

struct HttpsAnswer {
    unsigned status = 0;
    std::string body;
    std::string local_address;  // of this end of the connection
    std::string fingerprint;    // the whole SHA-256 of the server's certificate, as bytes
};

boost::asio::awaitable<Result<HttpsAnswer>> ask_https(HttpsTarget target, HttpsQuestion question);

// "https://name:port/path" in its parts; http is allowed to loopback only.
struct HttpsUrl {
    HttpsTarget target;
    std::string path;
};
Result<HttpsUrl> parse_https_url(std::string_view url);

}  // namespace antipode::web
