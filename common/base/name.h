// Name: the name of a site, a pair or a disk. 1 to 31 characters of a-z, 0-9 and '-', no '-' at
// either end: it goes into certificates, file names, systemd instances and URLs unescaped.
// Trivially copyable and of fixed size, so that it can stand in a frame and in the simulator's hot
// loop. Default-made: empty, which is no valid name and means "nobody".
#pragma once

#include <array>
#include <compare>
#include <fmt/format.h>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace antipode {

class Name {
  public:
    static constexpr size_t kBytes = 32;

    constexpr Name() = default;
    // `field` says in the error what was being named, for example "pair.name".
    static Result<Name> parse(std::string_view text, std::string_view field);
    // For names in the source; aborts on a bad one.
    static Name literal(std::string_view text);

    std::string_view view() const { return std::string_view(bytes_.data()); }
    bool empty() const { return bytes_[0] == '\0'; }
    const std::array<char, kBytes>& bytes() const { return bytes_; }
    friend constexpr auto operator<=>(const Name&, const Name&) = default;

  private:
    std::array<char, kBytes> bytes_{};  // zero-filled behind the text: equal names are equal bytes
};

}  // namespace antipode

template <>
struct fmt::formatter<antipode::Name> : fmt::formatter<std::string_view> {
    template <typename Context>
    auto format(const antipode::Name& name, Context& context) const {
        return fmt::formatter<std::string_view>::format(name.view(), context);
    }
};
