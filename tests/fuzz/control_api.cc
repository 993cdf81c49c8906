// A line of the control socket, read as a request, as a reply, and as each document that may stand
// in one. Whatever is taken must survive being written and read again, and every text we give is
// valid UTF-8.
#include "replicator/control/control_api.h"

#include <boost/json/serialize.hpp>
#include <cstdint>

#include "common/base/check.h"

namespace {

using namespace antipode;
using namespace antipode::control;

template <typename T>
void twice(const Result<T>& read, Result<T> (*parse)(const json::value&)) {
    if (!read) {
        FT_CHECK(!read.error().context.empty(), "an error without words");
        return;
    }
    const std::string written = json::serialize(to_json(*read));
    auto parsed = parse_json(written);
    FT_CHECK(parsed.has_value(), "what we write is not JSON: {}", parsed.error().context);
    auto again = parse(*parsed);
    FT_CHECK(again.has_value(), "what we write we do not read: {}", again.error().context);
    FT_CHECK(json::serialize(to_json(*again)) == written, "a second trip changed it");
}

void documents(const json::value& value) {
    twice(parse_status(value), parse_status);
    twice(parse_operation(value), parse_operation);
    twice(parse_events_reply(value), parse_events_reply);
    twice(parse_events_request(value), parse_events_request);
    twice(parse_history_reply(value), parse_history_reply);
    twice(parse_console_reply(value), parse_console_reply);
    twice(parse_action_request(value), parse_action_request);
    twice(parse_action_reply(value), parse_action_reply);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    std::optional<uint64_t> id;
    auto request = parse_request(text, id);
    FT_CHECK(!request || id == request->id, "the id is not the request's");
    auto reply = parse_reply(text);
    if (reply && reply->result) documents(*reply->result);
    if (auto value = parse_json(text)) documents(*value);
    // A JSON parser takes no text but UTF-8.
    json::object shown;
    shown["text"] = printable(text, 4096);
    FT_CHECK(parse_json(json::serialize(shown)).has_value(),
             "printable() left something that is not UTF-8");
    FT_CHECK(parse_json(error_line(id, {Errc::io, std::string(text)})).has_value(), "error_line()");
    return 0;
}
