#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include "replicator/control/control_api.h"

namespace antipode::control {
namespace {

using testing::HasSubstr;

VerifyStatus full_verify() {
    VerifyStatus verify;
    verify.operation = 3;
    verify.state = OperationState::failed;
    verify.repairs = true;
    verify.started_unix_ms = 1;
    verify.ended_unix_ms = 2;
    verify.total_bytes = 3;
    verify.compared_bytes = 4;
    verify.mismatches = 5;
    verify.repaired = 6;
    verify.unresolved = 7;
    verify.findings = {{"root", 65536, 512, "0a", "0b", 8, 9, true}};
    return verify;
}

DrillStatus full_drill() {
    return DrillStatus{4,
                       DrillState::ended,
                       DrillNetwork::isolated,
                       "time is up",
                       "admin",
                       5,
                       6,
                       7,
                       8,
                       Epoch(8),
                       LogIndex(9),
                       0.25,
                       0.5,
                       0.75,
                       VcpuState::running,
                       1.5,
                       10,
                       11,
                       12,
                       13,
                       14,
                       15,
                       {"drill0"},
                       {{"root", 16, "ab"}},
                       "login:"};
}

Status full_status() {
    Status status;
    status.pair = "web1";
    status.site = "site-a";
    status.peer_site = "site-b";
    status.spare_site = "site-c";
    status.state = State::going_live;
    status.reason = "won epoch 8";
    status.state_since_unix_ms = 1'700'000'000'123;
    status.role = Role::primary;
    status.protection = Protection::protected_;
    status.protection_reason = "digests match";
    status.epoch = Epoch(8);
    status.incarnation = Incarnation(0xfedcba9876543210u);
    status.rejoin = SelfHelp::wait;
    status.reclaim = SelfHelp::wait;
    status.members = {{"site-a", Incarnation(1)}, {"site-b", Incarnation(0xffffffffffffffffu)}};
    status.execution_lag = {0.012, 17, 4096};
    status.log_rate = {2500.5, 1000.25, 300};
    status.link = {true,    true,  "tcp://10.0.0.2:7100",
                   0.05,    0.001, 0.02,
                   11,      12,    3,
                   0.1,     -0.25, 1234.5,
                   4321.25, 5000,  0.75,
                   6000,    {},    {}};
    status.link.classes.push_back({"log", 100, 40, 50, 20, 1, 7});
    status.link.paths.push_back({"10.0.0.1:7101", "10.0.0.2:7101", true, 0.05, 0.001, 0.0, 0.02});
    status.link.paths.push_back({"10.1.0.1:7101", "10.1.0.2:7101", false, {}, {}, 1.0, {}});
    status.output = {4, 5, 0.0505, 0.051};
    status.execution = {123456789, 1000, 0.25, LogIndex(77), LogIndex(76)};
    status.digest = {100, 1, 2, 99};
    status.checkpoint = CheckpointFigures{9, 8, 0.02, "pause", 7000, 6, 0.001};
    status.automatic = AutoFigures{true, "why", 1'750'000'000'000, 600, 5, 4000, 3, 0.002};
    status.disks = {
        {"root", "/dev/x", 1 << 20, Epoch(8), DiskState::syncing, 0.5, 4096, 1, 2, "why"}};
    TiebreakerRecord record{RecordMode::solo, Epoch(8), "site-a", status.members};
    status.tiebreaker = {true, "10.0.0.3:7200", "fine", 1.5, 0.02, record, 1792345678000};
    status.vm = {"web1", VcpuState::waiting, ReplayMode::checkpoint, 3600, 1 << 28, 1, "login:"};
    status.drill = full_drill();
    status.verify = full_verify();
    status.operations = {{3, Method::verify, OperationState::failed, 0.5, "t", "admin", 1, 2}};
    status.alerts = {{EventCode::tiebreaker_lost, Severity::warning, "no tiebreaker", 5}};
    status.events = {{9, 10, EventCode::went_live, Severity::warning, "went live"}};
    status.versions = {"0.1.0", 1, 2, "0.1.1"};
    status.time_unix_ms = 1'700'000'000'999;
    return status;
}

TEST(ControlCodec, AStatusSurvivesTheTripInEveryField) {
    const json::value sent = to_json(full_status());
    const std::string text = json::serialize(sent);
    auto parsed = parse_json(text);
    ASSERT_TRUE(parsed) << parsed.error().to_string();
    auto read = parse_status(*parsed);
    ASSERT_TRUE(read) << read.error().to_string();
    EXPECT_EQ(json::serialize(to_json(*read)), text);
    EXPECT_EQ(read->incarnation, Incarnation(0xfedcba9876543210u));
    EXPECT_EQ(read->tiebreaker.record->members[1].incarnation.value(), 0xffffffffffffffffu);
    EXPECT_EQ(read->disks[0].synced_ratio, 0.5);
    EXPECT_EQ(read->operations[0].method, Method::verify);
    // No field of a full status is written with its default: nothing was forgotten in
    // full_status().
    const json::object fresh = to_json(Status{}).as_object();
    for (const auto& [name, value] : sent.as_object()) {
        EXPECT_NE(value, fresh.at(name)) << name;
    }
}

TEST(ControlCodec, UnknownNumbersAreNullAndStayUnknown) {
    Status status;
    status.link.rtt_seconds = std::numeric_limits<double>::quiet_NaN();
    const json::value sent = to_json(status);
    EXPECT_TRUE(sent.at("execution_lag").at("seconds").is_null());
    EXPECT_TRUE(sent.at("link").at("rtt_seconds").is_null());
    auto read = parse_status(sent);
    ASSERT_TRUE(read);
    EXPECT_FALSE(read->execution_lag.seconds.has_value());
    EXPECT_FALSE(read->tiebreaker.record.has_value());
}

struct BadStatus {
    const char* pointer;
    json::value value;
    const char* message;
};

TEST(ControlCodec, ABadFieldIsNamed) {
    const BadStatus cases[] = {
        {"/state", "sideways", "state: unknown word 'sideways'"},
        {"/state", 7, "state: is a number, expected a string"},
        {"/disks/0/epoch", -1, "disks[0].epoch: -1 is not in the range"},
        {"/disks/0/size_bytes", 1.5, "disks[0].size_bytes: 1.5E0 is not in the range"},
        {"/disks", 1, "disks: is a number, expected an array"},
        {"/link", json::array{}, "link: is an array, expected an object"},
        {"/link/session_up", "yes", "link.session_up: is a string, expected true or false"},
        {"/tiebreaker/record/members/1/incarnation", "12", "is not 16 hexadecimal digits"},
        {"/vm/vcpu_count", 5'000'000'000, "vm.vcpu_count: 5000000000 is not in the range"},
        {"/pair", nullptr, "pair: is null, expected a string"},
    };
    for (const BadStatus& bad : cases) {
        json::value status = to_json(full_status());
        boost::system::error_code error;
        json::value* field = status.find_pointer(bad.pointer, error);
        ASSERT_NE(field, nullptr) << bad.pointer;
        *field = bad.value;
        const auto read = parse_status(status);
        ASSERT_FALSE(read) << bad.pointer;
        EXPECT_THAT(read.error().context, HasSubstr(bad.message));
    }
    json::value many = to_json(full_status());
    many.at("disks").as_array().resize(5000, json::object());
    const auto read = parse_status(many);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Errc::limit);
}

TEST(ControlCodec, UnknownFieldsAreIgnored) {
    json::value status = to_json(full_status());
    status.as_object()["from_the_future"] = json::object{{"x", 1}};
    EXPECT_TRUE(parse_status(status));
}

TEST(ControlCodec, HistoryTravelsAsColumns) {
    HistoryReply reply;
    Sample sample;
    sample.time_unix_ms = 5000;
    sample.rtt_seconds = 0.05;
    reply.samples = {sample};
    json::value sent = to_json(reply);
    auto read = parse_history_reply(sent);
    ASSERT_TRUE(read) << read.error().to_string();
    ASSERT_EQ(read->samples.size(), 1u);
    EXPECT_EQ(read->samples[0].time_unix_ms, 5000);
    EXPECT_EQ(read->samples[0].rtt_seconds, 0.05);
    EXPECT_FALSE(read->samples[0].lag_seconds.has_value());

    sent.at("rows").as_array()[0].as_array().pop_back();
    auto bad = parse_history_reply(sent);
    ASSERT_FALSE(bad);
    EXPECT_THAT(bad.error().context, HasSubstr("rows[0]: expected an array of 15 numbers"));
}

TEST(ControlCodec, ASampleTakesEveryChartFromTheStatus) {
    const Sample sample = sample_of(full_status());
    HistoryReply reply;
    reply.samples = {sample};
    const json::value sent = to_json(reply);
    for (const json::value& cell : sent.at("rows").at(0).as_array()) EXPECT_FALSE(cell.is_null());
}

TEST(ControlCodec, EveryMethodHasOneWord) {
    for (const MethodInfo& method : all_methods()) {
        EXPECT_EQ(from_word<Method>(method.name), method.method);
        EXPECT_EQ(&info(method.method), &method);
        EXPECT_FALSE(method.summary.empty());
    }
    EXPECT_FALSE(from_word<Method>("reboot_the_moon").has_value());
    EXPECT_EQ(all_methods().back().method, Method::verify_acknowledge);
    EXPECT_EQ(all_methods().size(), static_cast<size_t>(Method::verify_acknowledge));
}

TEST(ControlCodec, EveryEventCodeHasAWordAndASeverity) {
    for (int i = 1; i <= static_cast<int>(EventCode::disk_repaired); ++i) {
        const auto code = static_cast<EventCode>(i);
        EXPECT_EQ(from_word<EventCode>(word(code)), code);
        (void)default_severity(code);
    }
}

TEST(ControlCodec, RequestsAreReadStrictly) {
    std::optional<uint64_t> id;
    auto good = parse_request(R"({"id":7,"method":"events","params":{"after":3}})", id);
    ASSERT_TRUE(good) << good.error().to_string();
    EXPECT_EQ(good->method, Method::events);
    EXPECT_EQ(id, 7u);

    const std::pair<const char*, const char*> cases[] = {
        {"", "not JSON"},
        {"{\"id\":1", "not JSON"},
        {"[]", "request: is an array, expected an object"},
        {R"({"method":"status"})", "id: is missing"},
        {R"({"id":-1,"method":"status"})", "id: -1 is not in the range"},
        {R"({"id":1})", "method: is missing"},
        {R"({"id":1,"method":"explode"})", "method: unknown word 'explode'"},
        {R"({"id":1,"method":"status","params":[1]})", "params: is an array"},
        {"{\"id\":1,\"method\":\"status\",\"params\":{\"x\":\"\xff\"}}", "not JSON"},
    };
    for (const auto& [line, message] : cases) {
        std::optional<uint64_t> seen;
        const auto bad = parse_request(line, seen);
        ASSERT_FALSE(bad) << line;
        EXPECT_THAT(bad.error().context, HasSubstr(message)) << line;
    }
    std::optional<uint64_t> deep_id;
    const auto deep = parse_request(std::string(100'000, '['), deep_id);
    ASSERT_FALSE(deep);
    EXPECT_THAT(deep.error().context, HasSubstr("not JSON"));
}

TEST(ControlCodec, RepliesCarryTheErrorOver) {
    auto reply = parse_reply(error_line(4, {Errc::stale_epoch, "epoch 3 is over"}));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->id, 4u);
    ASSERT_FALSE(reply->result);
    EXPECT_EQ(reply->result.error().code, Errc::stale_epoch);
    EXPECT_EQ(reply->result.error().context, "epoch 3 is over");

    reply = parse_reply(result_line(5, json::object{{"x", 1}}));
    ASSERT_TRUE(reply);
    ASSERT_TRUE(reply->result);
    EXPECT_EQ(reply->result->at("x"), 1);
    EXPECT_FALSE(parse_reply("{}"));
    EXPECT_FALSE(parse_reply("garbage"));
}

TEST(ControlCodec, ActionsKeepTheirArguments) {
    ActionRequest request;
    request.check = true;
    request.confirm = "web1";
    request.duration_seconds = 5;
    request.keep = "site-b";
    auto read = parse_action_request(to_json(request));
    ASSERT_TRUE(read);
    EXPECT_EQ(to_json(*read), to_json(request));

    ActionReply reply;
    reply.allowed = false;
    reply.findings = {{Severity::error, "the peer answers"}};
    reply.operation = 12;
    auto back = parse_action_reply(to_json(reply));
    ASSERT_TRUE(back);
    EXPECT_EQ(to_json(*back), to_json(reply));
}

TEST(ControlCodec, DrillOptionsAreTextThatNamesWhatIsWrong) {
    const auto defaults = parse_drill_options("");
    ASSERT_TRUE(defaults);
    EXPECT_EQ(defaults->network, DrillNetwork::none);
    EXPECT_GT(defaults->overlay_bytes_max, 0u);
    const auto isolated = parse_drill_options(R"({"network":"isolated","overlay_bytes_max":4096})");
    ASSERT_TRUE(isolated);
    EXPECT_EQ(isolated->network, DrillNetwork::isolated);
    EXPECT_EQ(isolated->overlay_bytes_max, 4096u);
    EXPECT_EQ(parse_drill_options(json::serialize(to_json(*isolated)))->overlay_bytes_max, 4096u);
    const auto wrong = parse_drill_options(R"({"network":"production"})");
    ASSERT_FALSE(wrong);
    EXPECT_THAT(wrong.error().to_string(), HasSubstr("options"));
    EXPECT_THAT(wrong.error().to_string(), HasSubstr("network"));
    EXPECT_FALSE(parse_drill_options("{"));
}

TEST(ControlCodec, PrintableIsAlwaysUtf8) {
    EXPECT_EQ(printable("plain\n", 100), "plain\n");
    EXPECT_EQ(printable("a\x01\x1b[31mb\x7f", 100), "a[31mb");
    EXPECT_EQ(printable("\xc3\xa9", 100), "\xc3\xa9");
    EXPECT_EQ(printable("\xf0\x9f\x98\x80", 100), "\xf0\x9f\x98\x80");
    const std::string replaced = "\xef\xbf\xbd";
    EXPECT_EQ(printable("\xff", 100), replaced);
    EXPECT_EQ(printable("\xc3", 100), replaced);
    EXPECT_EQ(printable("\xc0\x80", 100), replaced + replaced);                 // overlong
    EXPECT_EQ(printable("\xed\xa0\x80", 100), replaced + replaced + replaced);  // surrogate
    EXPECT_EQ(printable("\xf4\x90\x80\x80", 100), replaced + replaced + replaced + replaced);
    EXPECT_EQ(printable("0123456789", 4), "6789");
    EXPECT_EQ(printable("x\xc3\xa9y", 2), "y");  // never from the middle of a character
    Status status;
    for (int i = 0; i < 256; ++i) status.vm.console_tail += static_cast<char>(i);
    EXPECT_TRUE(parse_json(json::serialize(to_json(status))));
}

}  // namespace
}  // namespace antipode::control
