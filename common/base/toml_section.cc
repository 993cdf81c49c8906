#include "common/base/toml_section.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

namespace antipode {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;
constexpr std::string_view kText = "a string with text in it";

}  // namespace

Result<toml::table> parse_toml(std::string_view text, const std::string& path) {
    try {
        return toml::parse(text, path);
    } catch (const toml::parse_error& error) {
        return fail(Errc::invalid_argument, "{}:{}: {}", path, error.source().begin.line,
                    error.description());
    }
}

Result<toml::table> load_toml(const std::string& path) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno(errno, "{}", path);
    std::string text(kFileBytesMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (file.bad()) return fail_errno(errno, "{}", path);
    text.resize(static_cast<size_t>(file.gcount()));
    if (text.size() > kFileBytesMax) {
        return fail(Errc::invalid_argument, "{}: is larger than {} bytes", path, kFileBytesMax);
    }
    return parse_toml(text, path);
}

std::string TomlSection::full(std::string_view key) const {
    return name_.empty() ? std::string(key) : fmt::format("{}.{}", name_, key);
}

const toml::node* TomlSection::find(const char* key) {
    known_.insert(key);
    return table_ == nullptr ? nullptr : table_->get(key);
}

Result<bool> TomlSection::given(const char* key, Need need) {
    if (find(key) != nullptr) return true;
    if (need == Need::required) return missing(key);
    return false;
}

Result<TomlSection> TomlSection::section(const char* key, Need need) {
    FT_TRY(const bool there, given(key, need));
    if (!there) return TomlSection(nullptr, full(key), path_);
    const toml::table* table = table_->get(key)->as_table();
    if (table == nullptr) return wrong(key, "a section");
    return TomlSection(table, full(key), path_);
}

Result<> TomlSection::text(const char* key, std::string& out, Need need) {
    FT_TRY(const bool there, given(key, need));
    if (!there) return {};
    const auto value = table_->get(key)->value_exact<std::string>();
    if (!value || value->empty()) return wrong(key, kText);
    out = *value;
    return {};
}

Result<> TomlSection::path(const char* key, std::string& out, Need need) {
    FT_TRY_VOID(text(key, out, need));
    if (has(key) && out.front() != '/') {
        out = (std::filesystem::path(path_).parent_path() / out).string();
    }
    return {};
}

Result<> TomlSection::name(const char* key, Name& out) {
    std::string given_name;
    FT_TRY_VOID(text(key, given_name, Need::required));
    FT_TRY(out, Name::parse(given_name, where(key)));
    return {};
}

Result<> TomlSection::flag(const char* key, bool& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return {};
    const auto value = node->value_exact<bool>();
    if (!value) return wrong(key, "true or false");
    out = *value;
    return {};
}

Result<> TomlSection::texts(const char* key, std::vector<std::string>& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return {};
    const toml::array* array = node->as_array();
    if (array == nullptr) return wrong(key, "a list of strings");
    for (const toml::node& one : *array) {
        const auto value = one.value_exact<std::string>();
        if (!value || value->empty()) return wrong(key, "a list of strings with text in them");
        out.push_back(*value);
    }
    return {};
}

Result<> TomlSection::seconds(const char* key, std::chrono::milliseconds& out, double low,
                              double high) {
    double value = static_cast<double>(out.count()) / 1000;
    FT_TRY_VOID(number(key, value, low, high));
    out = std::chrono::milliseconds(static_cast<int64_t>(value * 1000));
    return {};
}

// From 1 on; 0: not given.
Result<size_t> TomlSection::word_index(const char* key,
                                       std::initializer_list<std::string_view> words) {
    std::string given_word;
    FT_TRY_VOID(text(key, given_word));
    if (!has(key)) return size_t{0};
    const auto found = std::find(words.begin(), words.end(), given_word);
    if (found == words.end()) {
        return bad(key,
                   fmt::format("is \"{}\", allowed are: {}", given_word, fmt::join(words, ", ")));
    }
    return static_cast<size_t>(found - words.begin()) + 1;
}

Result<> TomlSection::needs(std::initializer_list<const char*> keys) const {
    for (const char* key : keys) {
        if (!has(key)) return missing(key);
    }
    return {};
}

Result<> TomlSection::nothing_else() const {
    if (table_ == nullptr) return {};
    for (const auto& [key, node] : *table_) {
        if (known_.contains(key.str())) continue;
        return fail(Errc::invalid_argument, "{}:{}: {} is not a setting", path_,
                    node.source().begin.line, full(key.str()));
    }
    return {};
}

Failure TomlSection::missing(const char* key) const {
    return fail(Errc::invalid_argument, "{} is missing", where(key));
}

Failure TomlSection::wrong(const char* key, std::string_view expected) const {
    return bad(key, fmt::format("is not {}", expected));
}

Failure TomlSection::bad(const char* key, std::string_view what) const {
    return fail(Errc::invalid_argument, "{}:{}: {} {}", path_,
                table_->get(key)->source().begin.line, full(key), what);
}

}  // namespace antipode
