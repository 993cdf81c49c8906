// What a browser or a replicator sends the web daemon, past the HTTP parser: request targets,
// cookies, JSON bodies, password hashes, and metrics texts that are joined.
#include <cstdint>
#include <optional>

#include "common/base/base64.h"
#include "common/base/check.h"
#include "replicator/control/control_api.h"
#include "web/exposition.h"
#include "web/http/body.h"
#include "web/security/secrets.h"

namespace {

using namespace antipode;
using namespace antipode::web;

void target(std::string_view text) {
    Request request;
    if (!parse_target(text, request)) return;
    FT_CHECK(request.path.starts_with('/'), "'{}' became '{}'", text, request.path);
    FT_CHECK(request.path.find('\0') == std::string::npos, "a NUL in a path");
    FT_CHECK(request.path.find("/../") == std::string::npos, "'{}' climbs", request.path);
    FT_CHECK(!request.path.ends_with("/.."), "'{}' climbs", request.path);
    FT_CHECK(request.path.find("//") == std::string::npos, "'{}' has an empty part", request.path);
    FT_CHECK(request.query.size() <= 32, "{} parts of a query", request.query.size());
    (void)request.query_number("limit", 1, 1000);
}

void cookies(std::string_view text) {
    Request request;
    boost::system::error_code ignored;
    request.headers.set(http::field::cookie, {text.data(), text.size()});
    (void)request.cookie("antipode");
    (void)request.cookie("");
}

void body(std::string_view text) {
    Request request;
    request.headers.set(http::field::content_type, "application/json");
    request.body = text;
    Body read(request);
    std::string name;
    std::optional<bool> flag;
    std::optional<double> number;
    std::optional<int64_t> integer;
    read.text("name", name, Body::required, 16);
    read.flag("flag", flag);
    read.number("number", number, -10, 10);
    read.integer("integer", integer, 0, 100);
    if (!read.done()) return;
    FT_CHECK(name.size() <= 16, "{} bytes of a name", name.size());
    FT_CHECK(!number || (*number >= -10 && *number <= 10), "number {}", *number);
    FT_CHECK(!integer || (*integer >= 0 && *integer <= 100), "integer {}", *integer);
}

void metrics(std::string_view text) {
    Exposition out;
    out.family("antipode_known_total", "counter", "Known.");
    out.merge(text, {{"pair", "one"}, {"site", "a"}});
    out.merge(text, {{"pair", "two"}, {"site", "b"}});
    const std::string joined = out.text();
    // Each family's head stands once, however many sources named it.
    const std::string head = "# TYPE antipode_known_total ";
    const size_t first = joined.find(head);
    FT_CHECK(first == std::string::npos || joined.find("\n" + head, first + 1) == std::string::npos,
             "a family is declared twice");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    target(text);
    cookies(text.substr(0, 8000));
    body(text);
    metrics(text);
    if (const auto bytes = from_base64url(text)) {
        FT_CHECK(base64url(*bytes) == text, "base64url is not canonical");
    }
    FT_CHECK(base64url(text).size() == (size * 4 + 2) / 3, "base64url of {} bytes", size);
    return 0;
}
