// Metrics: counters, gauges and histograms, shown in Prometheus text format 0.0.4 and as plain
// numbers.
//
// A component makes its metrics once, at start, in the process's Registry, and keeps references; an
// increment is one relaxed atomic operation, from any thread. Names follow Prometheus: snake_case,
// unit last, `_total` for counters, for example antipode_log_bytes_total{class="log"}.
//
// INVARIANTS: a metric lives as long as its registry; the same name and labels give the same
// metric.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace antipode {

class Counter {
  public:
    void add(uint64_t amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
    uint64_t value() const { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<uint64_t> value_{0};
};

class Gauge {
  public:
    void set(double value) { value_.store(value, std::memory_order_relaxed); }
    double value() const { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<double> value_{0};
};

// Cumulative buckets with fixed upper bounds; the last, +Inf, is implied.
class Histogram {
  public:
    explicit Histogram(std::span<const double> upper_bounds);
    void observe(double value);
    // The upper bound of the bucket that holds the given quantile (0..1); NaN when empty.
    double quantile(double q) const;
    uint64_t count() const { return count_.load(std::memory_order_relaxed); }
    double sum() const { return sum_.load(std::memory_order_relaxed); }
    std::span<const double> upper_bounds() const { return upper_bounds_; }
    uint64_t bucket(size_t index) const { return buckets_[index].load(std::memory_order_relaxed); }

  private:
    std::vector<double> upper_bounds_;
    std::deque<std::atomic<uint64_t>> buckets_;  // one more than bounds
    std::atomic<uint64_t> count_{0};
    std::atomic<double> sum_{0};
};

// 50 us to 10 s, four steps a decade: fits every delay in the product.
std::span<const double> delay_bounds_seconds();

class Registry {
  public:
    using Labels = std::vector<std::pair<std::string, std::string>>;

    Counter& counter(std::string_view name, std::string_view help, const Labels& labels = {});
    Gauge& gauge(std::string_view name, std::string_view help, const Labels& labels = {});
    Histogram& histogram(std::string_view name, std::string_view help,
                         std::span<const double> upper_bounds, const Labels& labels = {});

    std::string prometheus_text() const;

  private:
    enum class Kind { counter, gauge, histogram };
    struct Series {
        std::string labels;  // rendered, without braces
        size_t index;        // into the deque of its kind
    };
    struct Family {
        std::string help;
        Kind kind;
        std::vector<Series> series;
    };
    size_t find_or_add(std::string_view name, std::string_view help, Kind kind,
                       const Labels& labels, size_t next_index);
    void render(std::string& out, const std::string& name, const Family& family) const;

    mutable std::mutex mutex_;
    std::map<std::string, Family, std::less<>> families_;
    std::deque<Counter> counters_;
    std::deque<Gauge> gauges_;
    std::deque<Histogram> histograms_;
};

}  // namespace antipode
