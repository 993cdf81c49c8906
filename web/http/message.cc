#include "web/http/message.h"

#include <array>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>

namespace antipode::web {
namespace {

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

enum class Plus { literal, space };

std::optional<std::string> percent_decoded(std::string_view text, Plus plus) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '+' && plus == Plus::space) {
            out += ' ';
        } else if (text[i] != '%') {
            out += text[i];
        } else {
            if (i + 2 >= text.size()) return std::nullopt;
            const int high = hex_digit(text[i + 1]);
            const int low = hex_digit(text[i + 2]);
            if (high < 0 || low < 0) return std::nullopt;
            out += static_cast<char>(high * 16 + low);
            i += 2;
        }
        if (out.back() == '\0') return std::nullopt;
    }
    return out;
}

bool is_clean(std::string_view path) {
    if (path.empty() || path.front() != '/') return false;
    while (!path.empty()) {
        path.remove_prefix(1);
        const size_t slash = std::min(path.find('/'), path.size());
        const std::string_view part = path.substr(0, slash);
        if (part == "." || part == "..") return false;
        if (part.empty() && slash != path.size()) return false;  // "//"
        path.remove_prefix(slash);
    }
    return true;
}

struct ErrorStatus {
    Errc code;
    unsigned status;
    std::string_view kind;
};
constexpr auto kErrorStatuses = std::to_array<ErrorStatus>({
    {Errc::invalid_argument, 400, "invalid-argument"},
    {Errc::not_found, 404, "not-found"},
    {Errc::already_exists, 409, "already-exists"},
    {Errc::io, 500, "io"},
    {Errc::no_space, 507, "no-space"},
    {Errc::corrupt, 500, "corrupt"},
    {Errc::protocol, 502, "protocol"},
    {Errc::version, 502, "version"},
    {Errc::unreachable, 502, "unreachable"},
    {Errc::denied, 403, "denied"},
    {Errc::stale_epoch, 409, "stale-epoch"},
    {Errc::limit, 429, "limit"},
    {Errc::busy, 409, "busy"},
    {Errc::closed, 503, "closed"},
    {Errc::unsupported, 501, "unsupported"},
    {Errc::diverged, 409, "diverged"},
});

}  // namespace

std::string_view Request::header(std::string_view name) const {
    const auto found = headers.find(name);
    if (found == headers.end()) return {};
    return {found->value().data(), found->value().size()};
}

std::string_view Request::cookie(std::string_view name) const {
    std::string_view all = header("Cookie");
    while (!all.empty()) {
        const size_t end = std::min(all.find(';'), all.size());
        std::string_view item = all.substr(0, end);
        all.remove_prefix(std::min(end + 1, all.size()));
        while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
        const size_t equals = item.find('=');
        if (equals != std::string_view::npos && item.substr(0, equals) == name) {
            return item.substr(equals + 1);
        }
    }
    return {};
}

std::optional<std::string_view> Request::query_value(std::string_view name) const {
    const auto found = query.find(name);
    if (found == query.end()) return std::nullopt;
    return found->second;
}

Result<uint64_t> Request::query_number(std::string_view name, uint64_t fallback,
                                       uint64_t maximum) const {
    const auto text = query_value(name);
    if (!text) return fallback;
    uint64_t value = 0;
    const char* const end = text->data() + text->size();
    const auto [at, error] = std::from_chars(text->data(), end, value);
    if (error != std::errc() || at != end || value > maximum) {
        return fail(Errc::invalid_argument, "query parameter {}: '{}' is not a number from 0 to {}",
                    name, text->substr(0, 40), maximum);
    }
    return value;
}

Result<> parse_target(std::string_view target, Request& request) {
    const size_t question = target.find('?');
    auto path = percent_decoded(target.substr(0, question), Plus::literal);
    if (!path || !is_clean(*path)) {
        return fail(Errc::invalid_argument, "request target is not a clean absolute path");
    }
    request.path = std::move(*path);
    if (question == std::string_view::npos) return {};
    std::string_view query = target.substr(question + 1);
    while (!query.empty()) {
        const size_t end = std::min(query.find('&'), query.size());
        const std::string_view item = query.substr(0, end);
        query.remove_prefix(std::min(end + 1, query.size()));
        if (item.empty()) continue;
        const size_t equals = std::min(item.find('='), item.size());
        const auto name = percent_decoded(item.substr(0, equals), Plus::space);
        const auto value = percent_decoded(
            equals < item.size() ? item.substr(equals + 1) : std::string_view{}, Plus::space);
        if (!name || !value || request.query.size() >= 32) {
            return fail(Errc::invalid_argument, "query is not well-formed, or has over 32 parts");
        }
        request.query.insert_or_assign(*name, *value);
    }
    return {};
}

Response& Response::with(std::string name, std::string value) & {
    headers.emplace_back(std::move(name), std::move(value));
    return *this;
}

Response&& Response::with(std::string name, std::string value) && {
    headers.emplace_back(std::move(name), std::move(value));
    return std::move(*this);
}

Response Response::from_json(const json::value& value, unsigned status) {
    Response response;
    response.status = status;
    response.content_type = "application/json";
    response.body = json::serialize(value);
    return response;
}

Response Response::from_text(std::string text, unsigned status) {
    Response response;
    response.status = status;
    response.content_type = "text/plain; charset=utf-8";
    response.body = std::move(text);
    return response;
}

Response Response::empty(unsigned status) {
    Response response;
    response.status = status;
    return response;
}

Response problem(unsigned status, std::string_view kind, std::string_view title,
                 std::string_view detail) {
    json::object body;
    body["type"] = "/problems/" + std::string(kind);
    body["title"] = title;
    body["status"] = status;
    body["detail"] = detail;
    Response response = Response::from_json(body, status);
    response.content_type = "application/problem+json";
    return response;
}

Response problem(const Error& error) {
    for (const ErrorStatus& entry : kErrorStatuses) {
        if (entry.code == error.code) {
            return problem(entry.status, entry.kind, to_string(error.code), error.context);
        }
    }
    return problem(500, "internal", "internal error", error.context);
}

}  // namespace antipode::web
