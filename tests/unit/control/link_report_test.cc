// What a measured line means, in words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/control/link_test.h"

namespace antipode::control {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using namespace std::chrono_literals;

// A line on which there is nothing to say but what it carries.
LinkReport good() {
    LinkReport report;
    report.site = "north";
    report.peer_site = "south";
    report.peer_software = "1.0";
    report.paths.push_back(
        {"10.0.0.1:7101", "10.0.0.2:7101", Duration(20ms), Duration(1ms), 0.001, Duration::zero()});
    report.quiet_p50 = 21ms;
    report.quiet_p99 = 25ms;
    report.loaded_p50 = 22ms;
    report.loaded_p99 = 28ms;
    report.out_bytes_per_second = 100e6;
    report.in_bytes_per_second = 120e6;
    report.detection = 240ms;
    return report;
}

TEST(LinkReport, a_good_line_has_no_warning) {
    const auto lines = judge(good());
    EXPECT_THAT(lines, Each(Not(StartsWith("warning"))));
    EXPECT_THAT(lines, Each(Not(StartsWith("PROBLEM"))));
    EXPECT_THAT(lines.front(), StartsWith("lockstep: yes"));
    EXPECT_THAT(lines, Contains("an answer of the VM leaves 21.0 ms later than without protection "
                                "(p99 25.0 ms)"));
    EXPECT_THAT(lines, Contains("a lost site is suspected after 240 ms of silence"));
    EXPECT_THAT(lines,
                Contains("seeding 1 GiB of memory takes 11 s, a full sync of 100 GiB 18 min"));
    EXPECT_THAT(
        lines,
        Contains("checkpoint mode: up to 24414 changed pages a second that do not compress"));
}

struct Rate {
    double out;
    double in;
    const char* lockstep;
};

class LinkReportRate : public testing::TestWithParam<Rate> {};

// The slower direction counts: after a failover the log goes the other way.
TEST_P(LinkReportRate, says_which_protection_the_line_carries) {
    LinkReport report = good();
    report.out_bytes_per_second = GetParam().out;
    report.in_bytes_per_second = GetParam().in;
    EXPECT_THAT(judge(report).front(), HasSubstr(GetParam().lockstep));
    std::swap(report.out_bytes_per_second, report.in_bytes_per_second);
    EXPECT_THAT(judge(report).front(), HasSubstr(GetParam().lockstep));
}

INSTANTIATE_TEST_SUITE_P(
    Table, LinkReportRate,
    testing::Values(Rate{125e6, 125e6, "lockstep: yes, for busy VMs"},
                    Rate{2.5e6, 2.5e6, "lockstep: yes, for busy VMs"},
                    Rate{2.49e6, 2.5e6, "lockstep: for VMs with moderate load"},
                    Rate{0.25e6, 125e6, "lockstep: for VMs with moderate load"},
                    Rate{0.249e6, 125e6, "lockstep: for a quiet VM only"},
                    Rate{2500, 125e6, "lockstep: for a quiet VM only"},
                    Rate{2499, 125e6, "lockstep: no"}, Rate{0, 125e6, "lockstep: no"}));

struct Trouble {
    const char* name;
    void (*spoil)(LinkReport&);
    const char* line;  // what is said of it; nullptr: nothing
};

class LinkReportTrouble : public testing::TestWithParam<Trouble> {};

TEST_P(LinkReportTrouble, is_said_first) {
    LinkReport report = good();
    GetParam().spoil(report);
    const auto lines = judge(report);
    if (GetParam().line == nullptr) {
        EXPECT_THAT(lines.front(), StartsWith("lockstep"));
        return;
    }
    EXPECT_THAT(lines.front(), HasSubstr(GetParam().line));
    EXPECT_THAT(lines[1], StartsWith("lockstep"));
    EXPECT_THAT(to_text(report), HasSubstr(GetParam().line));
    EXPECT_THAT(to_json_text(report), HasSubstr("\"verdict\":[\"" + lines.front()));
}

INSTANTIATE_TEST_SUITE_P(
    Table, LinkReportTrouble,
    testing::Values(
        Trouble{"silent_path", [](LinkReport& r) { r.paths[0].rtt.reset(); },
                "PROBLEM: no heartbeat comes through on path 1 (10.0.0.1:7101, peer "
                "10.0.0.2:7101)"},
        Trouble{"second_path_silent",
                [](LinkReport& r) {
                    r.paths.push_back({"10.1.0.1:7101", "10.1.0.2:7101", {}, {}, {}, {}});
                },
                "PROBLEM: no heartbeat comes through on path 2"},
        Trouble{"loss", [](LinkReport& r) { r.paths[0].loss = 0.025; },
                "warning: path 1 loses 2.5 % of the heartbeats"},
        Trouble{"little_loss", [](LinkReport& r) { r.paths[0].loss = 0.02; }, nullptr},
        Trouble{"loss_not_known", [](LinkReport& r) { r.paths[0].loss.reset(); }, nullptr},
        Trouble{"breaks", [](LinkReport& r) { r.reconnects = 3; },
                "warning: the connection broke 3 times"},
        Trouble{"long_way", [](LinkReport& r) { r.quiet_p50 = r.loaded_p50 = 201ms; },
                "warning: each answer of the VM waits for a round trip of more than 200 ms"},
        Trouble{"way", [](LinkReport& r) { r.quiet_p50 = r.loaded_p50 = 200ms; }, nullptr},
        Trouble{"queue", [](LinkReport& r) { r.loaded_p50 = r.quiet_p50 + 6ms; },
                "warning: beside a resync a log entry is 6.0 ms later; cap it with "
                "channel.bulk_schedule"},
        Trouble{"little_queue", [](LinkReport& r) { r.loaded_p50 = r.quiet_p50 + 5ms; }, nullptr},
        Trouble{"faster_beside_bulk", [](LinkReport& r) { r.loaded_p50 = 1ms; }, nullptr}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(LinkReport, what_takes_hours_is_said_in_hours) {
    LinkReport report = good();
    report.out_bytes_per_second = 0.1e6;
    EXPECT_THAT(judge(report),
                Contains("seeding 1 GiB of memory takes 3.0 h, a full sync of 100 GiB 298.3 h"));
    report.out_bytes_per_second = 5e6;
    EXPECT_THAT(judge(report),
                Contains("seeding 1 GiB of memory takes 4 min, a full sync of 100 GiB 6.0 h"));
    report.out_bytes_per_second = 0;
    EXPECT_THAT(judge(report), Each(Not(HasSubstr("seeding"))));
}

TEST(LinkReport, the_figures_are_in_the_text_and_in_json) {
    const LinkReport report = good();
    const std::string text = to_text(report);
    EXPECT_THAT(text, StartsWith("north - south (1.0)\n"));
    EXPECT_THAT(text, HasSubstr("north -> south: 100 MB/s (800 Mbit/s)"));
    EXPECT_THAT(text, HasSubstr("south -> north: 120 MB/s (960 Mbit/s)"));
    EXPECT_THAT(text, HasSubstr("path 1: round trip 20.00 ms, jitter 1.00 ms, loss 0.10 %"));
    const std::string line = to_json_text(report);
    EXPECT_THAT(line, HasSubstr("\"out_bytes_per_second\":1E8"));
    EXPECT_THAT(line, HasSubstr("\"detection_ms\":2.4E2"));
}

}  // namespace
}  // namespace antipode::control
