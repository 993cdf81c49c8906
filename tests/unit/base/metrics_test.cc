#include "common/base/metrics.h"

#include <array>
#include <cmath>
#include <gtest/gtest.h>

namespace antipode {
namespace {

TEST(Metrics, RendersPrometheusText) {
    Registry registry;
    registry.counter("antipode_exits_total", "Guest exits", {{"kind", "pio"}}).add(3);
    registry.counter("antipode_exits_total", "Guest exits", {{"kind", "mmio"}}).add();
    registry.gauge("antipode_lag_seconds", "Execution lag").set(0.25);
    EXPECT_EQ(registry.prometheus_text(),
              "# HELP antipode_exits_total Guest exits\n"
              "# TYPE antipode_exits_total counter\n"
              "antipode_exits_total{kind=\"pio\"} 3\n"
              "antipode_exits_total{kind=\"mmio\"} 1\n"
              "# HELP antipode_lag_seconds Execution lag\n"
              "# TYPE antipode_lag_seconds gauge\n"
              "antipode_lag_seconds 0.25\n");
}

TEST(Metrics, SameNameAndLabelsIsTheSameMetric) {
    Registry registry;
    Counter& one = registry.counter("a_total", "a", {{"x", "1\"\n"}});
    Counter& two = registry.counter("a_total", "a", {{"x", "1\"\n"}});
    EXPECT_EQ(&one, &two);
    EXPECT_NE(registry.prometheus_text().find("a_total{x=\"1\\\"\\n\"} 0"), std::string::npos);
}

TEST(Metrics, HistogramCountsAndFindsQuantiles) {
    constexpr std::array kBounds{1.0, 2.0, 4.0};
    Registry registry;
    Histogram& histogram = registry.histogram("h", "h", kBounds);
    EXPECT_TRUE(std::isnan(histogram.quantile(0.5)));
    for (const double value : {0.5, 1.0, 1.5, 3.0, 9.0}) histogram.observe(value);
    EXPECT_EQ(histogram.quantile(0.4), 1.0);
    EXPECT_EQ(histogram.quantile(0.8), 4.0);
    EXPECT_TRUE(std::isinf(histogram.quantile(1.0)));
    const std::string text = registry.prometheus_text();
    EXPECT_NE(text.find("h_bucket{le=\"2\"} 3\n"), std::string::npos) << text;
    EXPECT_NE(text.find("h_bucket{le=\"+Inf\"} 5\nh_sum 15\nh_count 5\n"), std::string::npos);
}

}  // namespace
}  // namespace antipode
