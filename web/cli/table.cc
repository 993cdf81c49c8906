#include "web/cli/table.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <ctime>
#include <fmt/format.h>

#include "replicator/control/control_api.h"

namespace antipode::web {
namespace {

namespace json = boost::json;
using Kind = Column::Kind;

const json::value* find(const json::value& item, std::string_view path) {
    const json::value* at = &item;
    while (at != nullptr && !path.empty()) {
        const size_t dot = std::min(path.find('.'), path.size());
        const json::object* object = at->if_object();
        at = object == nullptr ? nullptr : object->if_contains(path.substr(0, dot));
        path.remove_prefix(std::min(dot + 1, path.size()));
    }
    return at;
}

std::string seconds_text(double value) {
    if (value < 1) return fmt::format("{:.1f} ms", value * 1e3);
    if (value < 120) return fmt::format("{:.1f} s", value);
    if (value < 7200) return fmt::format("{:.0f} min", value / 60);
    if (value < 172'800) return fmt::format("{:.1f} h", value / 3600);
    return fmt::format("{:.1f} d", value / 86'400);
}

std::string bytes_text(double value) {
    static constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
    if (unit == 0) return fmt::format("{:.0f} B", value);
    return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string time_text(double unix_ms) {
    const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
    std::tm parts{};
    std::array<char, 32> text{};
    ::localtime_r(&seconds, &parts);
    std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
    return text.data();
}

std::string number_text(double value, Kind kind) {
    switch (kind) {
        case Kind::seconds:
            return seconds_text(value);
        case Kind::time:
            return time_text(value);
        case Kind::bytes:
            return bytes_text(value);
        case Kind::rate:
            return bytes_text(value) + "/s";
        case Kind::ratio:
            return fmt::format("{:.0f} %", value * 100);
        case Kind::text:
        case Kind::pairs:
        case Kind::yes:
            return fmt::format("{}", value);
    }
    return {};
}

std::string pairs_text(const json::array& pairs) {
    std::string out;
    for (const json::value& pair : pairs) {
        if (!out.empty()) out += ", ";
        out += fmt::format("{} ({})", cell(pair, {"", "pair"}), cell(pair, {"", "state"}));
    }
    return out.empty() ? "-" : out;
}

// Code points, which is what a terminal counts for the texts that there are here.
size_t width(std::string_view text) {
    return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    }));
}

}  // namespace

std::string cell(const json::value& item, const Column& column) {
    const json::value* found = find(item, column.field);
    if (found == nullptr || found->is_null()) return "-";
    if (found->is_bool()) return found->get_bool() ? "yes" : "no";
    if (found->is_number()) return number_text(found->to_number<double>(), column.kind);
    if (column.kind == Kind::pairs && found->is_array()) {
        return control::printable(pairs_text(found->get_array()), 500);
    }
    std::string text =
        found->is_string() ? std::string(found->get_string()) : json::serialize(*found);
    std::replace(text.begin(), text.end(), '\n', ' ');
    return control::printable(text, 500);
}

std::string table(const json::value& items, const std::vector<Column>& columns) {
    const json::array* list = items.if_array();
    if (list == nullptr || list->empty()) return "nothing\n";
    std::vector<std::vector<std::string>> rows(1);
    for (const Column& column : columns) rows[0].push_back(column.title);
    for (const json::value& item : *list) {
        auto& row = rows.emplace_back();
        for (const Column& column : columns) row.push_back(cell(item, column));
    }
    std::vector<size_t> widths(columns.size());
    for (const auto& row : rows) {
        for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
    }
    std::string out;
    for (const auto& row : rows) {
        for (size_t i = 0; i < row.size(); ++i) {
            out += row[i];
            if (i + 1 < row.size()) out.append(widths[i] - width(row[i]) + 2, ' ');
        }
        out += '\n';
    }
    return out;
}

}  // namespace antipode::web
