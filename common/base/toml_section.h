// TomlSection: a section of a configuration file, read strictly: what has the wrong type, is out of
// bounds, is missing or is not known is an error that names the file, the line and the setting.
//
//   FT_TRY(const toml::table file, load_toml(path));
//   TomlSection top(file, path);
//   FT_TRY(TomlSection limits, top.section("limits"));
//   FT_TRY_VOID(limits.number("connections", out.connections_max, 1, 1000));
//   FT_TRY_VOID(limits.nothing_else());
//
// A setting that is not given leaves what is there, unless it is required. A section that is not
// given has no settings.
//
// Threads: a value; the table outlives it.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <toml++/toml.h>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/base/name.h"
#include "common/base/result.h"

namespace antipode {

// Errc::invalid_argument with the line of what is no TOML. `path` is for errors.
Result<toml::table> parse_toml(std::string_view text, const std::string& path);
// At most 1 MiB.
Result<toml::table> load_toml(const std::string& path);

class TomlSection {
  public:
    enum class Need : uint8_t { optional = 1, required };

    // The file itself.
    TomlSection(const toml::table& file, std::string path)
        : TomlSection(&file, "", std::move(path)) {}
    // One that the caller has found.
    TomlSection(const toml::table* table, std::string name, std::string path)
        : table_(table), name_(std::move(name)), path_(std::move(path)) {}

    Result<TomlSection> section(const char* key, Need need = Need::optional);
    bool has(const char* key) const { return table_ != nullptr && table_->contains(key); }

    Result<> text(const char* key, std::string& out, Need need = Need::optional);
    // Relative to the file's folder.
    Result<> path(const char* key, std::string& out, Need need = Need::optional);
    Result<> name(const char* key, Name& out);  // required
    Result<> flag(const char* key, bool& out);
    Result<> texts(const char* key, std::vector<std::string>& out);
    template <typename Number>
    Result<> number(const char* key, Number& out, std::type_identity_t<Number> low,
                    std::type_identity_t<Number> high);
    template <typename Period>
    Result<> milliseconds(const char* key, std::chrono::duration<int64_t, Period>& out, int64_t low,
                          int64_t high);
    // With fractions.
    Result<> seconds(const char* key, std::chrono::milliseconds& out, double low, double high);
    // One of a few words; `words` in the order of the values, which begin with 1.
    template <typename Value>
    Result<> word(const char* key, Value& out, std::initializer_list<std::string_view> words);

    // For what is read by the caller: it counts as known from here on. nullptr: not given.
    const toml::node* find(const char* key);
    Result<> needs(std::initializer_list<const char*> keys) const;
    Result<> nothing_else() const;

    Failure missing(const char* key) const;
    // "...: SETTING is not EXPECTED"
    Failure wrong(const char* key, std::string_view expected) const;
    // "...: SETTING WHAT"; of a setting that is given.
    Failure bad(const char* key, std::string_view what) const;
    // The file and the setting, for errors of others.
    std::string where(const char* key) const { return path_ + ": " + full(key); }

  private:
    std::string full(std::string_view key) const;
    Result<bool> given(const char* key, Need need);
    Result<size_t> word_index(const char* key, std::initializer_list<std::string_view> words);

    const toml::table* table_;
    std::string name_;
    std::string path_;
    std::set<std::string, std::less<>> known_;
};

template <typename Number>
Result<> TomlSection::number(const char* key, Number& out, std::type_identity_t<Number> low,
                             std::type_identity_t<Number> high) {
    const toml::node* node = find(key);
    if (node == nullptr) return {};
    if constexpr (std::floating_point<Number>) {
        const auto value = node->value<Number>();
        if (!value || !(*value >= low && *value <= high)) {
            return wrong(key, fmt::format("a number from {} to {}", low, high));
        }
        out = *value;
    } else {
        const auto value = node->value_exact<int64_t>();
        if (!value || std::cmp_less(*value, low) || std::cmp_greater(*value, high)) {
            return wrong(key, fmt::format("a whole number from {} to {}", low, high));
        }
        out = static_cast<Number>(*value);
    }
    return {};
}

template <typename Period>
Result<> TomlSection::milliseconds(const char* key, std::chrono::duration<int64_t, Period>& out,
                                   int64_t low, int64_t high) {
    int64_t value = std::chrono::duration_cast<std::chrono::milliseconds>(out).count();
    FT_TRY_VOID(number(key, value, low, high));
    if (has(key)) out = std::chrono::milliseconds(value);
    return {};
}

template <typename Value>
Result<> TomlSection::word(const char* key, Value& out,
                           std::initializer_list<std::string_view> words) {
    FT_TRY(const size_t index, word_index(key, words));
    if (index > 0) out = static_cast<Value>(index);
    return {};
}

}  // namespace antipode
