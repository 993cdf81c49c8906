// The lines of the control socket that need no reading of a value's fields: JSON itself, and what
// is written around it.
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "replicator/control/control_api.h"

namespace antipode::control {

json::value methods_json() {
    json::array out;
    for (const MethodInfo& entry : all_methods()) {
        json::object method;
        method["name"] = entry.name;
        method["access"] = word(entry.access);
        method["confirmed"] = entry.confirmed;
        method["summary"] = entry.summary;
        method["implemented"] = entry.implemented;
        out.push_back(std::move(method));
    }
    return out;
}

Result<json::value> parse_json(std::string_view text) {
    json::parse_options options;
    options.max_depth = 32;
    boost::system::error_code error;
    json::value value = json::parse(text, error, {}, options);
    if (error) return fail(Errc::invalid_argument, "not JSON: {}", error.message());
    return value;
}

std::string request_line(uint64_t id, Method method, json::value params) {
    json::object out;
    out["id"] = id;
    out["method"] = word(method);
    out["params"] = std::move(params);
    return json::serialize(out) + '\n';
}

std::string result_line(uint64_t id, json::value result) {
    json::object out;
    out["id"] = id;
    out["result"] = std::move(result);
    return json::serialize(out) + '\n';
}

std::string error_line(std::optional<uint64_t> id, const Error& error) {
    json::object body;
    body["code"] = word(error.code);
    body["message"] = printable(error.context, 4096);
    json::object out;
    out["id"] = id ? json::value(*id) : json::value(nullptr);
    out["error"] = std::move(body);
    return json::serialize(out) + '\n';
}

}  // namespace antipode::control
