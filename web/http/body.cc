#include "web/http/body.h"

#include <cmath>

#include "replicator/control/control_api.h"

namespace antipode::web {

Body::Body(const Request& request) {
    if (request.body.empty()) return;
    // A form or a plain text cannot carry an action: what another site's page can send is no JSON.
    const std::string_view type = request.header("Content-Type");
    if (type.substr(0, type.find(';')) != "application/json") {
        error_ = Error{Errc::invalid_argument, "Content-Type: expected application/json"};
        return;
    }
    auto parsed = control::parse_json(request.body);
    if (!parsed) {
        error_ = std::move(parsed).error().within("body");
    } else if (!parsed->is_object()) {
        error_ = Error{Errc::invalid_argument, "body: expected an object"};
    } else {
        object_ = std::move(parsed->get_object());
    }
}

const json::value* Body::take(std::string_view name, Presence presence) {
    known_.emplace(name);
    const json::value* found = object_.if_contains(name);
    if (found != nullptr && found->is_null()) found = nullptr;
    if (found == nullptr && presence == required && !error_) {
        error_ = Error{Errc::invalid_argument, fmt::format("{}: is missing", name)};
    }
    return found;
}

void Body::wrong(std::string_view name, std::string_view expected) {
    if (!error_) {
        error_ = Error{Errc::invalid_argument, fmt::format("{}: expected {}", name, expected)};
    }
}

void Body::text(std::string_view name, std::string& value, Presence presence, size_t bytes_max) {
    const json::value* found = take(name, presence);
    if (found == nullptr) return;
    const json::string* text = found->if_string();
    if (text == nullptr || text->size() > bytes_max) {
        wrong(name, fmt::format("a string of at most {} bytes", bytes_max));
        return;
    }
    value = std::string(*text);
}

void Body::text(std::string_view name, std::optional<std::string>& value, size_t bytes_max) {
    std::string read;
    if (take(name, optional) == nullptr) return;
    text(name, read, optional, bytes_max);
    value = std::move(read);
}

void Body::choice(std::string_view name, std::string& value,
                  std::initializer_list<std::string_view> words) {
    const json::value* found = take(name, optional);
    if (found == nullptr) return;
    std::string list;
    for (const std::string_view each : words) {
        if (found->is_string() && std::string_view(found->get_string()) == each) {
            value = each;
            return;
        }
        list += fmt::format("{}{}", list.empty() ? "" : ", ", each);
    }
    wrong(name, "one of " + list);
}

void Body::flag(std::string_view name, bool& value) {
    const json::value* found = take(name, optional);
    if (found == nullptr) return;
    if (!found->is_bool()) {
        wrong(name, "true or false");
        return;
    }
    value = found->get_bool();
}

void Body::flag(std::string_view name, std::optional<bool>& value) {
    bool read = false;
    if (take(name, optional) == nullptr) return;
    flag(name, read);
    value = read;
}

void Body::number(std::string_view name, std::optional<double>& value, double least, double most) {
    const json::value* found = take(name, optional);
    if (found == nullptr) return;
    boost::system::error_code error;
    const double read = found->is_number() ? found->to_number<double>(error) : std::nan("");
    if (error || std::isnan(read) || read < least || read > most) {
        wrong(name, fmt::format("a number from {} to {}", least, most));
        return;
    }
    value = read;
}

void Body::integer(std::string_view name, std::optional<int64_t>& value, int64_t least,
                   int64_t most) {
    const json::value* found = take(name, optional);
    if (found == nullptr) return;
    boost::system::error_code error;
    const int64_t read = found->is_number() ? found->to_number<int64_t>(error) : least - 1;
    if (error || read < least || read > most) {
        wrong(name, fmt::format("a whole number from {} to {}", least, most));
        return;
    }
    value = read;
}

Result<> Body::done() {
    if (error_) return fail(*std::move(error_));
    for (const auto& [name, value] : object_) {
        if (!known_.contains(name)) {
            return fail(Errc::invalid_argument, "{}: no such field here",
                        control::printable(std::string_view(name), 60));
        }
    }
    return {};
}

}  // namespace antipode::web
