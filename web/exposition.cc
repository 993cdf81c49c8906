#include "web/exposition.h"

#include <array>
#include <cmath>
#include <fmt/format.h>

#include "common/base/check.h"

namespace antipode::web {
namespace {

bool is_name(std::string_view text) {
    if (text.empty() || text.size() > 200) return false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool letter =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
        if (!letter && (i == 0 || c < '0' || c > '9')) return false;
    }
    return true;
}

bool is_type(std::string_view text) {
    return text == "counter" || text == "gauge" || text == "histogram" || text == "summary" ||
           text == "untyped";
}

std::string rendered(const Exposition::Labels& labels) {
    std::string out;
    for (const auto& [name, value] : labels) {
        if (!out.empty()) out += ',';
        out.append(name).append("=\"");
        for (const char c : value) {
            if (c == '\n') {
                out += "\\n";
            } else {
                if (c == '\\' || c == '"') out += '\\';
                out += c;
            }
        }
        out += '"';
    }
    return out;
}

std::string_view first_word(std::string_view& text) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return word;
}

}  // namespace

void Exposition::family(std::string_view name, std::string_view type, std::string_view help) {
    FT_CHECK(is_name(name), "metric name '{}'", name);
    FT_CHECK(is_type(type), "metric type '{}'", type);
    Family& family = families_[std::string(name)];
    family.type = type;
    family.help = help;
}

void Exposition::sample(std::string_view name, const Labels& labels, double value) {
    if (std::isnan(value)) return;
    Family* family = family_of(name);
    FT_CHECK(family != nullptr, "metric {} is not declared", name);
    fmt::format_to(std::back_inserter(family->samples), "{}{{{}}} {}\n", name, rendered(labels),
                   value);
}

Exposition::Family* Exposition::family_of(std::string_view sample_name) {
    const auto exact = families_.find(sample_name);
    if (exact != families_.end()) return &exact->second;
    for (const std::string_view suffix : {"_bucket", "_sum", "_count"}) {
        if (!sample_name.ends_with(suffix)) continue;
        const auto found =
            families_.find(sample_name.substr(0, sample_name.size() - suffix.size()));
        if (found == families_.end()) continue;
        if (found->second.type == "histogram" || found->second.type == "summary") {
            return &found->second;
        }
    }
    return nullptr;
}

void Exposition::merge(std::string_view text, const Labels& labels) {
    const std::string prefix = rendered(labels);
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        merge_line(text.substr(0, end), prefix);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

void Exposition::merge_line(std::string_view line, const std::string& labels) {
    if (line.empty()) return;
    if (bytes_ + line.size() > kBytesMax) {
        ++rejected_;
        return;
    }
    bytes_ += line.size();
    if (line.starts_with("# ")) {
        line.remove_prefix(2);
        const std::string_view keyword = first_word(line);
        const std::string_view name = first_word(line);
        if (keyword != "HELP" && keyword != "TYPE") return;  // a comment
        if (!is_name(name)) {
            ++rejected_;
            return;
        }
        Family& family = families_[std::string(name)];
        if (keyword == "HELP" && family.help.empty()) family.help = line;
        if (keyword == "TYPE" && is_type(line) && family.type.empty()) family.type = line;
        if (keyword == "TYPE" && family.type != line) ++rejected_;
        return;
    }
    const size_t name_end = line.find_first_of("{ ");
    if (name_end == std::string_view::npos || !is_name(line.substr(0, name_end))) {
        ++rejected_;
        return;
    }
    const std::string_view name = line.substr(0, name_end);
    Family* family = family_of(name);
    if (family == nullptr) {
        ++rejected_;
        return;
    }
    std::string_view own;
    std::string_view value = line.substr(name_end);
    if (value.front() == '{') {
        const size_t close = value.rfind('}');
        if (close == std::string_view::npos) {
            ++rejected_;
            return;
        }
        own = value.substr(1, close - 1);
        value.remove_prefix(close + 1);
    }
    const char* separator = labels.empty() || own.empty() ? "" : ",";
    family->samples.append(name).append("{").append(labels).append(separator).append(own);
    family->samples.append("}").append(value).append("\n");
}

std::string Exposition::text() const {
    std::string out;
    for (const auto& [name, family] : families_) {
        if (family.samples.empty()) continue;
        fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, family.help,
                       name, family.type.empty() ? "untyped" : family.type);
        out += family.samples;
    }
    return out;
}

}  // namespace antipode::web
