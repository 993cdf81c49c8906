// Strong<T, Tag>: an integer that is not another integer. Conversion is explicit both ways:
// Epoch(7), epoch.value(). next() where counting up is the only arithmetic that makes sense.
#pragma once

#include <compare>
#include <cstdint>
#include <fmt/format.h>
#include <functional>
#include <type_traits>

namespace antipode {

template <typename T, typename Tag>
class Strong {
  public:
    using Value = T;
    constexpr Strong() = default;
    constexpr explicit Strong(T value) : value_(value) {}
    constexpr T value() const { return value_; }
    constexpr Strong next() const { return Strong(static_cast<T>(value_ + 1)); }
    friend constexpr auto operator<=>(Strong, Strong) = default;

  private:
    T value_{};
};

}  // namespace antipode

template <typename T, typename Tag>
struct std::hash<antipode::Strong<T, Tag>> {
    size_t operator()(antipode::Strong<T, Tag> id) const { return std::hash<T>()(id.value()); }
};

template <typename T, typename Tag>
struct fmt::formatter<antipode::Strong<T, Tag>> : fmt::formatter<T> {
    template <typename Context>
    auto format(antipode::Strong<T, Tag> id, Context& context) const {
        return fmt::formatter<T>::format(id.value(), context);
    }
};
