// Ten thousand connections that are open and idle: the daemon's memory stays within a bound that
// each of them may take, none is cut although all say now and then that they are there, one more
// than its limit is turned away, and decisions are made as before.
#include <csignal>
#include <gtest/gtest.h>

#include "tests/bench/tiebreaker_load.h"
#include "tests/unit/tiebreaker/child.h"

namespace antipode::tiebreaker {
namespace {

using bench::Load;

constexpr size_t kPairs = 8335;
constexpr size_t kWatchedByOne = 5;  // 1,667 more connections
constexpr size_t kConnections = kPairs + kPairs / kWatchedByOne;
constexpr double kConnectionKibMax = 48;
constexpr std::chrono::seconds kPollTime(25);

TEST(TiebreakerCrowd, TenThousandIdleConnectionsTakeABoundedShare) {
    if (!bench::allow_descriptors(kConnections + 1000)) GTEST_SKIP() << "ulimit -Hn is too low";
    testing::TempDirectory directory;
    testing::Certificates made(directory);
    made.tiebreaker("tb");
    made.site("site-a");
    made.site("site-b");
    const auto port = static_cast<uint16_t>(20000 + ::getpid() % 10000);
    const std::string config = bench::write_load_config(
        directory, made, directory / "records.db", port, bench::Rates::as_shipped,
        fmt::format("connections = {}\n", kConnections));
    testing::DaemonProcess daemon(directory.path(), {ANTIPODE_TIEBREAKER, "run", config});
    ASSERT_NE(daemon.await("READY=1"), "") << daemon.log();
    const double before_kib = bench::resident_kib(daemon.pid());
    Load load(port, testing::raw_context(made.files("site-a")),
              testing::raw_context(made.files("site-b")));
    load.begin_polling();
    load.connect(kPairs, kWatchedByOne);
    ASSERT_EQ(load.connection_count(), kConnections);
    const double each_kib = (bench::resident_kib(daemon.pid()) - before_kib) / kConnections;
    fmt::print("{:.1f} KiB a connection\n", each_kib);
    EXPECT_LT(each_kib, kConnectionKibMax);
    // Longer than a connection may be silent; Load ends the test if one is cut.
    EXPECT_GT(load.polls(kPollTime).size(), kConnections);
    {
        testing::RawClient surplus(port, nullptr);
        char byte = 0;
        EXPECT_LE(::recv(surplus.descriptor(), &byte, 1, 0), 0) << "one more than its limit";
    }
    // Every pair asks at once; Load ends the test if one is not granted its next epoch.
    EXPECT_EQ(load.burst().size(), kPairs);
    daemon.signal(SIGTERM);
    EXPECT_EQ(daemon.wait(), 0) << daemon.log();
}

}  // namespace
}  // namespace antipode::tiebreaker
