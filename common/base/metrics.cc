#include "common/base/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include "common/base/check.h"

namespace antipode {
namespace {

std::string escape_label(std::string_view value) {
    std::string out;
    for (const char c : value) {
        if (c == '\\' || c == '"') out += '\\';
        if (c == '\n') {
            out += "\\n";
        } else {
            out += c;
        }
    }
    return out;
}

std::string render_labels(const Registry::Labels& labels) {
    std::string out;
    for (const auto& [name, value] : labels) {
        if (!out.empty()) out += ',';
        out += name + "=\"" + escape_label(value) + '"';
    }
    return out;
}

std::string braces(std::string_view labels, std::string_view extra = {}) {
    if (labels.empty() && extra.empty()) return {};
    const char* separator = labels.empty() || extra.empty() ? "" : ",";
    return fmt::format("{{{}{}{}}}", labels, separator, extra);
}

}  // namespace

Histogram::Histogram(std::span<const double> upper_bounds)
    : upper_bounds_(upper_bounds.begin(), upper_bounds.end()), buckets_(upper_bounds.size() + 1) {
    FT_CHECK(std::is_sorted(upper_bounds_.begin(), upper_bounds_.end()), "histogram bounds");
}

void Histogram::observe(double value) {
    const auto at = std::lower_bound(upper_bounds_.begin(), upper_bounds_.end(), value);
    const auto index = static_cast<size_t>(at - upper_bounds_.begin());
    buckets_[index].fetch_add(1, std::memory_order_relaxed);
    count_.fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
}

double Histogram::quantile(double q) const {
    const uint64_t total = count();
    if (total == 0) return std::numeric_limits<double>::quiet_NaN();
    const double rank = q * static_cast<double>(total);
    uint64_t seen = 0;
    for (size_t i = 0; i < upper_bounds_.size(); ++i) {
        seen += bucket(i);
        if (static_cast<double>(seen) >= rank) return upper_bounds_[i];
    }
    return std::numeric_limits<double>::infinity();
}

std::span<const double> delay_bounds_seconds() {
    static constexpr std::array kBounds{0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002,
                                        0.005,   0.01,   0.02,   0.05,   0.1,   0.2,
                                        0.5,     1.0,    2.0,    5.0,    10.0};
    return kBounds;
}

size_t Registry::find_or_add(std::string_view name, std::string_view help, Kind kind,
                             const Labels& labels, size_t next_index) {
    auto found = families_.find(name);
    if (found == families_.end()) {
        Family made{std::string(help), kind, {}};
        found = families_.emplace(std::string(name), std::move(made)).first;
    }
    Family& family = found->second;
    FT_CHECK(family.kind == kind, "metric {} has two kinds", name);
    const std::string rendered = render_labels(labels);
    for (const Series& series : family.series) {
        if (series.labels == rendered) return series.index;
    }
    family.series.push_back({rendered, next_index});
    return next_index;
}

Counter& Registry::counter(std::string_view name, std::string_view help, const Labels& labels) {
    const std::lock_guard lock(mutex_);
    const size_t index = find_or_add(name, help, Kind::counter, labels, counters_.size());
    if (index == counters_.size()) counters_.emplace_back();
    return counters_[index];
}

Gauge& Registry::gauge(std::string_view name, std::string_view help, const Labels& labels) {
    const std::lock_guard lock(mutex_);
    const size_t index = find_or_add(name, help, Kind::gauge, labels, gauges_.size());
    if (index == gauges_.size()) gauges_.emplace_back();
    return gauges_[index];
}

Histogram& Registry::histogram(std::string_view name, std::string_view help,
                               std::span<const double> upper_bounds, const Labels& labels) {
    const std::lock_guard lock(mutex_);
    const size_t index = find_or_add(name, help, Kind::histogram, labels, histograms_.size());
    if (index == histograms_.size()) histograms_.emplace_back(upper_bounds);
    return histograms_[index];
}

std::string Registry::prometheus_text() const {
    const std::lock_guard lock(mutex_);
    std::string out;
    for (const auto& [name, family] : families_) render(out, name, family);
    return out;
}

void Registry::render(std::string& out, const std::string& name, const Family& family) const {
    static constexpr std::array kKinds{"counter", "gauge", "histogram"};
    auto back = std::back_inserter(out);
    fmt::format_to(back, "# HELP {} {}\n# TYPE {} {}\n", name, family.help, name,
                   kKinds[static_cast<size_t>(family.kind)]);
    for (const Series& series : family.series) {
        switch (family.kind) {
            case Kind::counter:
                fmt::format_to(back, "{}{} {}\n", name, braces(series.labels),
                               counters_[series.index].value());
                break;
            case Kind::gauge:
                fmt::format_to(back, "{}{} {}\n", name, braces(series.labels),
                               gauges_[series.index].value());
                break;
            case Kind::histogram: {
                const Histogram& histogram = histograms_[series.index];
                uint64_t seen = 0;
                for (size_t i = 0; i < histogram.upper_bounds().size(); ++i) {
                    seen += histogram.bucket(i);
                    const auto bound = fmt::format("le=\"{}\"", histogram.upper_bounds()[i]);
                    fmt::format_to(back, "{}_bucket{} {}\n", name, braces(series.labels, bound),
                                   seen);
                }
                fmt::format_to(back, "{}_bucket{} {}\n", name, braces(series.labels, "le=\"+Inf\""),
                               histogram.count());
                fmt::format_to(back, "{}_sum{} {}\n", name, braces(series.labels), histogram.sum());
                fmt::format_to(back, "{}_count{} {}\n", name, braces(series.labels),
                               histogram.count());
                break;
            }
        }
    }
}

}  // namespace antipode
