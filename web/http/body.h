// The JSON body of a request, read strictly: each field by name and kind, and no other may be
// there.
//
//     Body body(request);
//     body.text("name", name, Body::required);
//     FT_TRY_VOID(body.done());
//
// Threads: a value.
// On failure done() names the first field that is wrong.
#pragma once

#include <boost/json/object.hpp>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "web/http/message.h"

namespace antipode::web {

class Body {
  public:
    enum Presence { optional, required };

    // An absent body is an empty object.
    explicit Body(const Request& request);
    // A document of our own, read as strictly.
    explicit Body(json::object object) : object_(std::move(object)) {}

    void text(std::string_view name, std::string& value, Presence presence = optional,
              size_t bytes_max = 4096);
    void text(std::string_view name, std::optional<std::string>& value, size_t bytes_max = 4096);
    // One of a few words; absent, it stays as it is.
    void choice(std::string_view name, std::string& value,
                std::initializer_list<std::string_view> words);
    void flag(std::string_view name, bool& value);
    void flag(std::string_view name, std::optional<bool>& value);
    void number(std::string_view name, std::optional<double>& value, double least, double most);
    void integer(std::string_view name, std::optional<int64_t>& value, int64_t least, int64_t most);
    Result<> done();

  private:
    const json::value* take(std::string_view name, Presence presence);
    void wrong(std::string_view name, std::string_view expected);

    json::object object_;
    std::set<std::string, std::less<>> known_;
    std::optional<Error> error_;
};

}  // namespace antipode::web
