#include "common/base/name.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode {
namespace {

bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

}  // namespace

Result<Name> Name::parse(std::string_view text, std::string_view field) {
    if (text.empty() || text.size() >= kBytes) {
        return fail(Errc::invalid_argument, "{}: has {} characters, a name has 1 to {}", field,
                    text.size(), kBytes - 1);
    }
    if (!std::all_of(text.begin(), text.end(), is_name_character) || text.front() == '-' ||
        text.back() == '-') {
        return fail(Errc::invalid_argument,
                    "{}: is not a name: only a-z, 0-9 and '-' inside are allowed", field);
    }
    Name name;
    std::copy(text.begin(), text.end(), name.bytes_.begin());
    return name;
}

Name Name::literal(std::string_view text) {
    auto name = parse(text, "literal");
    FT_CHECK(name.has_value(), "{}", text);
    return *name;
}

}  // namespace antipode
