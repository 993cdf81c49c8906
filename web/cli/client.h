// The REST API as the command line asks it: one question at a time, answers as JSON, problems as
// errors with the server's own words.
//
// Threads: one; it waits.
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <string_view>

#include "web/http/https_client.h"

namespace antipode::web {

struct CliTarget {
    HttpsTarget target;
    std::string token;  // empty = reading over loopback only
};

// By `url` and `fingerprint` where they are given, else by the page's own settings on this host.
Result<CliTarget> find_target(const std::string& url, const std::string& fingerprint,
                              const std::string& token_file, const std::string& config);

// What was given on the command line, as part of a question: nothing where it is empty.
inline void put_text(json::object& body, std::string_view name, const std::string& value) {
    if (!value.empty()) body[name] = value;
}

class CliClient {
  public:
    explicit CliClient(CliTarget target) : target_(std::move(target)) {}

    // `path` is below /api/v1. Errc::unreachable when nobody answers, Errc::denied for 401 and 403.
    Result<json::value> ask(http::verb method, const std::string& path,
                            const json::value& body = nullptr, const std::string& key = "");
    Result<json::value> get(const std::string& path) { return ask(http::verb::get, path); }

  private:
    CliTarget target_;
};

}  // namespace antipode::web
