// What a handler gets and gives back: one HTTP request, read completely and within bounds, and one
// response. Errors are problem details (RFC 9457), made in one place so that they all look alike.
//
// Threads: values, used on the web thread.
#pragma once

#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/verb.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"

namespace antipode::web {

namespace http = boost::beast::http;
namespace json = boost::json;

class Subscription;

enum class Transport { plain, tls };

struct Request {
    http::verb method = http::verb::get;
    std::string path;  // percent-decoded, without the query; starts with '/'
    std::map<std::string, std::string, std::less<>> query;
    http::fields headers;
    std::string body;
    std::string remote;  // address without the port
    Transport transport = Transport::plain;

    // The header's value; empty when it is absent.
    std::string_view header(std::string_view name) const;
    // The value of one cookie; empty when it is absent.
    std::string_view cookie(std::string_view name) const;
    std::optional<std::string_view> query_value(std::string_view name) const;
    // An unsigned number of the query, `fallback` when absent; names the parameter when it is none.
    Result<uint64_t> query_number(std::string_view name, uint64_t fallback, uint64_t maximum) const;
};

// Splits and decodes a request target. Errc::invalid_argument for what is no path of ours: bad
// escapes, NUL, "//", "..", or not starting with '/'.
Result<> parse_target(std::string_view target, Request& request);

struct Response {
    unsigned status = 200;
    std::string content_type;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    // Assets are sent from where they are compiled in; empty = use `body`.
    std::string_view static_body;
    // Server-sent events: the connection lives on and is fed from here.
    std::shared_ptr<Subscription> stream;

    std::string_view bytes() const { return static_body.empty() ? body : static_body; }
    Response& with(std::string name, std::string value) &;
    Response&& with(std::string name, std::string value) &&;

    static Response from_json(const json::value& value, unsigned status = 200);
    static Response from_text(std::string text, unsigned status = 200);
    static Response empty(unsigned status = 204);
};

// A problem document. `kind` is the last part of its type URI and stable; `detail` is for this
// occurrence.
Response problem(unsigned status, std::string_view kind, std::string_view title,
                 std::string_view detail);
// The problem that an Error is, with the status that fits its code.
Response problem(const Error& error);

}  // namespace antipode::web
