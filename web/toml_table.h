// A table of web.toml, read strictly: each key by name and kind, and no other may be there.
//
// Threads: a value.
// On failure done() names the file, the line and the first key that is wrong.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <toml++/toml.h>
#include <vector>

#include "common/base/result.h"

namespace antipode::web {

// Reads one table strictly: an unknown key is an error, as it is most often a misspelt one.
class TableReader {
  public:
    TableReader(const toml::table* table, std::string name, const std::string& path)
        : table_(table), name_(std::move(name)), path_(path) {}

    void text(std::string_view key, std::string& value) {
        if (const auto* node = take(key)) {
            if (const auto read = node->value_exact<std::string>()) {
                value = *read;
            } else {
                wrong(key, *node, "a string");
            }
        }
    }
    // It goes into files of others: nothing in it may end a quoted text there.
    void path(std::string_view key, std::string& value) {
        text(key, value);
        const bool plain = value.find_first_of("\"\\\n\r") == std::string::npos;
        if (!value.starts_with('/') || !plain) wrong(key, *table_->get(key), "a full path");
    }
    void flag(std::string_view key, bool& value) {
        if (const auto* node = take(key)) {
            if (const auto read = node->value_exact<bool>()) {
                value = *read;
            } else {
                wrong(key, *node, "true or false");
            }
        }
    }
    template <typename T>
    void number(std::string_view key, T& value, int64_t least, int64_t most) {
        if (const auto* node = take(key)) {
            const auto read = node->value_exact<int64_t>();
            if (!read || *read < least || *read > most) {
                wrong(key, *node, fmt::format("a whole number from {} to {}", least, most));
            } else {
                value = static_cast<T>(*read);
            }
        }
    }
    void seconds(std::string_view key, std::chrono::milliseconds& value, int64_t most) {
        int64_t read = value.count() / 1000;
        number(key, read, 1, most);
        if (taken(key)) value = std::chrono::seconds(read);
    }
    void texts(std::string_view key, std::vector<std::string>& value) {
        const auto* node = take(key);
        if (node == nullptr) return;
        const toml::array* array = node->as_array();
        if (array == nullptr || array->empty() || array->size() > 64) {
            wrong(key, *node, "an array of 1 to 64 strings");
            return;
        }
        value.clear();
        for (const toml::node& element : *array) {
            const auto read = element.value_exact<std::string>();
            if (!read) {
                wrong(key, element, "a string in each place");
                return;
            }
            value.push_back(*read);
        }
    }
    // A program by its full path, with its arguments.
    void command(std::string_view key, std::vector<std::string>& value) {
        texts(key, value);
        if (taken(key) && table_ != nullptr && table_->get(key) != nullptr &&
            (value.empty() || !value.front().starts_with('/'))) {
            wrong(key, *table_->get(key), "a program by its full path, and its arguments");
        }
    }
    Result<> done() {
        if (error_) return fail(*std::move(error_));
        if (table_ == nullptr) return {};
        for (const auto& [key, node] : *table_) {
            if (!taken(key.str())) {
                return fail(Errc::invalid_argument, "{}:{}: {}.{}: no such setting", path_,
                            node.source().begin.line, name_, key.str());
            }
        }
        return {};
    }

  private:
    const toml::node* take(std::string_view key) {
        known_.emplace_back(key);
        return table_ == nullptr ? nullptr : table_->get(key);
    }
    bool taken(std::string_view key) const {
        return std::find(known_.begin(), known_.end(), key) != known_.end();
    }
    void wrong(std::string_view key, const toml::node& node, std::string_view expected) {
        if (error_) return;
        error_ = Error{Errc::invalid_argument,
                       fmt::format("{}:{}: {}.{}: expected {}", path_, node.source().begin.line,
                                   name_, key, expected)};
    }

    const toml::table* table_;
    const std::string name_;
    const std::string& path_;
    std::vector<std::string> known_;
    std::optional<Error> error_;
};

}  // namespace antipode::web
