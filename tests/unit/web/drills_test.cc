// Drills: plans, runs against played replicators, reports and their signatures, schedules.
#include <boost/json/serialize.hpp>
#include <fstream>
#include <gmock/gmock.h>

#include "tests/unit/web/app_fixture.h"
#include "web/drills/signature.h"

namespace antipode::web::test {
namespace {

using control::json::object;
using control::json::value;
using testing::HasSubstr;

DrillPlan isolated_plan() {
    DrillPlan plan;
    plan.pair = "web1";
    return plan;
}

TEST(DrillPlanTest, FieldsThatDoNotGoTogetherAreNamed) {
    DrillPlan plan = isolated_plan();
    EXPECT_TRUE(check_plan(plan));
    plan.check = DrillCheck::command;
    EXPECT_THAT(check_plan(plan).error().context, HasSubstr("command"));
    plan.check = DrillCheck::console;
    EXPECT_THAT(check_plan(plan).error().context, HasSubstr("expect"));
    plan.check = DrillCheck::tcp;
    plan.address = "10.0.0.1:80";
    EXPECT_THAT(check_plan(plan).error().context, HasSubstr("isolated"));
    plan.network = control::DrillNetwork::isolated;
    EXPECT_TRUE(check_plan(plan));
    for (const char* wrong :
         {"", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "host:80"}) {
        plan.address = wrong;
        EXPECT_THAT(check_plan(plan).error().context, HasSubstr("address")) << wrong;
    }
    plan = isolated_plan();
    plan.check_seconds = 600;
    EXPECT_THAT(check_plan(plan).error().context, HasSubstr("check_seconds"));
    plan = isolated_plan();
    plan.fault = "link_cut";
    EXPECT_THAT(check_plan(plan).error().context, HasSubstr("fault"));
    plan.kind = DrillKind::fault;
    EXPECT_TRUE(check_plan(plan));
    plan.duration_seconds = 301;
    EXPECT_THAT(check_plan(plan).error().context, HasSubstr("300"));
    plan.duration_seconds = 0;
    plan.fault = "meteor";
    EXPECT_THAT(check_plan(plan).error().context, HasSubstr("fault"));
}

TEST(DrillPlanTest, WhatIsWrittenIsReadAgain) {
    DrillPlan plan = isolated_plan();
    plan.check = DrillCheck::console;
    plan.send = "uname\n";
    plan.expect = "Linux";
    plan.check_seconds = 5;
    plan.duration_seconds = 50;
    Body body(to_json(plan));
    DrillPlan read;
    read_plan(body, read);
    ASSERT_TRUE(body.done());
    EXPECT_EQ(to_json(read), to_json(plan));
}

TEST(DrillScheduleTest, TheNextTimeIsOnThatDayAtThatHour) {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
    constexpr int64_t kDay = 24 * 60 * 60 * 1000;
    const int64_t monday_noon = (4 * kDay) + 12 * 60 * 60 * 1000;  // 1970-01-05 was a Monday
    DrillSchedule schedule;
    schedule.weekday = 0;
    schedule.minute = 13 * 60;
    EXPECT_EQ(next_time(schedule, monday_noon), 4 * kDay + 13 * 60 * 60 * 1000);
    schedule.minute = 12 * 60;  // now is not after now
    EXPECT_EQ(next_time(schedule, monday_noon), 11 * kDay + 12 * 60 * 60 * 1000);
    schedule.minute = 11 * 60;
    EXPECT_EQ(next_time(schedule, monday_noon), 11 * kDay + 11 * 60 * 60 * 1000);
    schedule.weekday = 6;
    EXPECT_EQ(next_time(schedule, monday_noon), 10 * kDay + 11 * 60 * 60 * 1000);
    // Over the end of summer time the hour on the wall stays.
    ::setenv("TZ", "Europe/Prague", 1);
    ::tzset();
    schedule.weekday = 0;
    schedule.minute = 3 * 60;
    const int64_t before = 1761000000000;  // Monday 2025-10-20 22:40 UTC, summer time
    const int64_t next = next_time(schedule, before);
    const std::time_t seconds = next / 1000;
    std::tm local{};
    localtime_r(&seconds, &local);
    EXPECT_EQ(local.tm_hour, 3);
    EXPECT_EQ(local.tm_wday, 1);
    EXPECT_EQ(local.tm_isdst, 0);
    ::setenv("TZ", "UTC", 1);
    ::tzset();
}

class DrillsTest : public AppTest {
  protected:
    void begin() {
        add_pair("web1");
        std::filesystem::create_directories(directory_ + "/site");
        files_ = {directory_ + "/site/site.pem", directory_ + "/site/site.key"};
        ASSERT_TRUE(make_self_signed(files_, {"site-a"}));
        settings_.site.credentials = directory_ + "/site";
        start();
        for (const auto& [role, token] :
             {std::pair{Role::drill_operator, &drill_token_}, {Role::operator_, &operate_token_}}) {
            play([&, role = role, token = token] {
                *token = app_->services()
                             .accounts
                             .add_token(1, fmt::format("t{}", int(role)), role, "x", std::nullopt)
                             ->secret;
            });
        }
        eventually("/api/v1/pairs/web1", [](const value& pair) {
            return pair.at("views").as_array().size() == 2 &&
                   pair.at("views").at(0).at("reachable").as_bool() &&
                   pair.at("views").at(1).at("reachable").as_bool();
        });
    }
    RawResponse send(const std::string& method, const std::string& path, const value& body,
                     const std::string& token) {
        RawClient client(port_);
        const std::string text = control::json::serialize(body);
        client.send(fmt::format(
            "{} {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: "
            "application/json\r\nContent-Length: {}\r\n\r\n{}",
            method, path, token, text.size(), text));
        return client.response().value_or(RawResponse{});
    }
    static value json_of(const RawResponse& response) {
        auto parsed = control::parse_json(response.body);
        return parsed ? *parsed : value(nullptr);
    }
    std::string begin_drill(const object& body) {
        const RawResponse answer = send("POST", "/api/v1/drills", body, operate_token_);
        EXPECT_EQ(answer.status, 202) << answer.body;
        return std::string(json_of(answer).at("id").as_string());
    }
    // Plays on until the drill has ended.
    value ended(const std::string& id) {
        return eventually("/api/v1/drills/" + id, [&](const value& now) {
            play([&] { pairs_["web1"]->tick(); });
            return !now.at("verdict").is_null();
        });
    }
    value report_of(const std::string& id) {
        const RawResponse document = get("/api/v1/drills/" + id + "/report");
        EXPECT_EQ(document.status, 200);
        const auto verified = verify_report(document.body);
        EXPECT_TRUE(verified) << verified.error().to_string();
        return verified ? *control::parse_json(verified->report) : value(nullptr);
    }
    HttpsFiles files_;
    std::string drill_token_;
    std::string operate_token_;
};

TEST_F(DrillsTest, AnIsolatedDrillPassesAndIsReported) {
    begin();
    const std::string id = begin_drill({{"pair", "web1"},
                                        {"check", "console"},
                                        {"send", "start\n"},
                                        {"expect", "ready"},
                                        {"note", "for the <auditor>"}});
    const value drill = ended(id);
    EXPECT_EQ(drill.at("verdict"), "passed") << drill;
    const value report = report_of(id);
    EXPECT_EQ(report.at("verdict"), "passed");
    EXPECT_EQ(report.at("site"), "lisbon");
    EXPECT_EQ(report.at("findings").as_array().size(), 0u);
    EXPECT_EQ(report.at("measured").at("rto_seconds"), 0.031);
    EXPECT_FALSE(report.at("measured").at("rpo_seconds").is_null());
    EXPECT_TRUE(report.at("check").at("passed").as_bool());
    EXPECT_THAT(std::string(report.at("check").at("output").as_string()), HasSubstr("ready"));
    EXPECT_EQ(report.at("copy").at("disks").at(0).at("sha256"), std::string(64, 'a').c_str());
    const auto& protection = report.at("protection");
    EXPECT_GT(protection.at("samples").to_number<int64_t>(), 0);
    EXPECT_EQ(protection.at("samples"), protection.at("samples_protected"));
    std::vector<std::string> codes;
    for (const value& entry : report.at("timeline").as_array()) {
        codes.emplace_back(entry.at("code").as_string());
    }
    for (const char* code : {"begins", "drill_started", "copy_runs", "check_passed", "cleaned"}) {
        EXPECT_THAT(codes, testing::Contains(code));
    }
    // As a page: escaped, with a style that its policy allows, and no script.
    const RawResponse page = get("/api/v1/drills/" + id + "/report.html");
    EXPECT_EQ(page.status, 200);
    EXPECT_THAT(page.body, HasSubstr("for the &lt;auditor&gt;"));
    EXPECT_THAT(page.body, HasSubstr(std::string(64, 'a')));
    EXPECT_THAT(page.body, HasSubstr("<th scope=\"row\">Check within</th><td>60 s</td>"));
    EXPECT_THAT(page.body, testing::Not(HasSubstr("{&quot;"))) << "no JSON for people";
    EXPECT_THAT(page.body, testing::Not(HasSubstr("<script")));
    EXPECT_THAT(page.headers.at("content-security-policy"), HasSubstr("'sha256-"));
    EXPECT_THAT(page.headers.at("content-security-policy"), testing::Not(HasSubstr("script-src")));
}

TEST_F(DrillsTest, ACheckThatDoesNotPassFailsTheDrillAndItIsCleanedUp) {
    settings_.drill_checks["no"] = {"/bin/sh", "-c", "echo $ANTIPODE_PAIR is ill; exit 3"};
    begin();
    const std::string id = begin_drill(
        {{"pair", "web1"}, {"check", "command"}, {"command", "no"}, {"check_seconds", 1}});
    EXPECT_EQ(ended(id).at("verdict"), "failed");
    const value report = report_of(id);
    EXPECT_THAT(std::string(report.at("check").at("output").as_string()), HasSubstr("web1 is ill"));
    EXPECT_THAT(std::string(report.at("check").at("text").as_string()), HasSubstr("3"));
    EXPECT_EQ(report.at("findings").at(0).at("severity"), "error");
    const auto methods = on_loop([&] { return pairs_["web1"]->methods; });
    EXPECT_THAT(methods, testing::Contains(control::Method::drill_stop));
    EXPECT_THAT(methods, testing::Contains(control::Method::drill_clean));
}

TEST_F(DrillsTest, ASwitchoverGoesThereAndBack) {
    begin();
    const std::string id =
        begin_drill({{"pair", "web1"}, {"kind", "switchover"}, {"confirm", "web1"}});
    EXPECT_EQ(ended(id).at("verdict"), "passed");
    const value report = report_of(id);
    EXPECT_EQ(report.at("measured").at("rpo_seconds"), 0.0);
    const value pair = get_json("/api/v1/pairs/web1");
    for (const value& site : pair.at("sites").as_array()) {
        EXPECT_EQ(site.at("word"), site.at("site") == "prague" ? "primary" : "backup");
    }
    EXPECT_EQ(report.at("protection").at("epoch_after").to_number<int64_t>(),
              report.at("protection").at("epoch_before").to_number<int64_t>() + 2);
}

TEST_F(DrillsTest, AFaultEndsAndThePairIsProtectedAgain) {
    begin();
    const std::string id = begin_drill(
        {{"pair", "web1"}, {"kind", "fault"}, {"fault", "tiebreaker_cut"}, {"confirm", "web1"}});
    EXPECT_EQ(ended(id).at("verdict"), "passed");
    const value report = report_of(id);
    EXPECT_EQ(report.at("measured").at("rto_seconds"), 0.0);
    EXPECT_EQ(report.at("plan").at("fault"), "tiebreaker_cut");
}

TEST_F(DrillsTest, OneThatIsStoppedSaysSoAndIsCleanedUp) {
    begin();
    const std::string id = begin_drill(
        {{"pair", "web1"}, {"check", "console"}, {"expect", "never"}, {"check_seconds", 500}});
    // Another one of the same VM is refused meanwhile.
    const RawResponse second =
        send("POST", "/api/v1/drills", object{{"pair", "web1"}}, operate_token_);
    EXPECT_EQ(second.status, 409) << second.body;
    EXPECT_EQ(send("POST", "/api/v1/drills/" + id + "/stop", object{}, drill_token_).status, 202);
    EXPECT_EQ(ended(id).at("verdict"), "stopped");
    const auto methods = on_loop([&] { return pairs_["web1"]->methods; });
    EXPECT_THAT(methods, testing::Contains(control::Method::drill_clean));
    EXPECT_EQ(get("/api/v1/drills/none").status, 404);
}

TEST_F(DrillsTest, RightsAndConfirmation) {
    begin();
    const object there{{"pair", "web1"}, {"kind", "switchover"}, {"confirm", "web1"}};
    EXPECT_EQ(send("POST", "/api/v1/drills", there, drill_token_).status, 403);
    const object fault{{"pair", "web1"}, {"kind", "fault"}, {"fault", "link_cut"}};
    EXPECT_EQ(send("POST", "/api/v1/drills", fault, drill_token_).status, 422);
    const object unknown{{"pair", "web1"}, {"check", "command"}, {"command", "/bin/sh"}};
    EXPECT_EQ(send("POST", "/api/v1/drills", unknown, drill_token_).status, 409);
    const object odd{{"pair", "web1"}, {"argv", "/bin/sh"}};
    EXPECT_EQ(send("POST", "/api/v1/drills", odd, drill_token_).status, 400);
    // What would speak against it, without doing it.
    object asked = fault;
    asked["check_only"] = true;
    const value said = json_of(send("POST", "/api/v1/drills", asked, drill_token_));
    EXPECT_EQ(said.at("allowed"), true);
    EXPECT_EQ(said.at("confirm"), "web1");
    EXPECT_EQ(get_json("/api/v1/drills").at("items").as_array().size(), 0u);
}

TEST_F(DrillsTest, AScheduleIsKeptAndRunsWhenItIsDue) {
    begin();
    const object wanted{{"pair", "web1"}, {"weekday", "friday"}, {"time", "03:30"}};
    const RawResponse kept = send("PUT", "/api/v1/drill-schedules", wanted, drill_token_);
    ASSERT_EQ(kept.status, 200) << kept.body;
    EXPECT_EQ(json_of(kept).at("time"), "03:30");
    for (const char* wrong : {"3:30", "24:00", "12:60", "ab:cd"}) {
        object body = wanted;
        body["time"] = wrong;
        EXPECT_EQ(send("PUT", "/api/v1/drill-schedules", body, drill_token_).status, 400) << wrong;
    }
    // Due now, as the database has it after a restart.
    play([&] {
        auto& database = app_->services().database;
        std::string document;
        ASSERT_TRUE(database.query("SELECT document FROM drill_schedules", {},
                                   [&](const SqlRow& row) { document = row.text(0); }));
        auto parsed = *control::parse_json(document);
        parsed.as_object()["next_unix_ms"] = unix_ms_now() - 1000;
        ASSERT_TRUE(database.run("UPDATE drill_schedules SET document=?",
                                 {control::json::serialize(parsed)}));
        ASSERT_TRUE(app_->services().drills.load());
        app_->services().drills.tick();
        app_->services().drills.tick();  // not twice
    });
    const value list = get_json("/api/v1/drills");
    ASSERT_EQ(list.at("items").as_array().size(), 1u);
    EXPECT_EQ(list.at("items").at(0).at("scheduled"), true);
    ended(std::string(list.at("items").at(0).at("id").as_string()));
    EXPECT_EQ(
        send("DELETE", "/api/v1/drill-schedules/web1/isolated", object{}, drill_token_).status,
        204);
    EXPECT_EQ(get_json("/api/v1/drill-schedules").at("items").as_array().size(), 0u);
}

class SignatureTest : public testing::Test {
  protected:
    SignatureTest() {
        std::string pattern = testing::TempDir() + "sign-XXXXXX";
        folder_ = ::mkdtemp(pattern.data());
        files_ = {folder_ + "/a.pem", folder_ + "/a.key"};
        other_ = {folder_ + "/b.pem", folder_ + "/b.key"};
        EXPECT_TRUE(make_self_signed(files_, {"a"}));
        EXPECT_TRUE(make_self_signed(other_, {"b"}));
    }
    ~SignatureTest() override { std::filesystem::remove_all(folder_); }
    std::string folder_;
    HttpsFiles files_;
    HttpsFiles other_;
};

TEST_F(SignatureTest, WhatWasChangedOrIsOfAnotherDoesNotVerify) {
    const std::string report = R"({"verdict":"failed","text":"é\n"})";
    const auto document = sign_report(report, files_);
    ASSERT_TRUE(document) << document.error().to_string();
    const auto verified = verify_report(*document);
    ASSERT_TRUE(verified);
    EXPECT_EQ(verified->report, report);
    EXPECT_EQ(verified->fingerprint, *fingerprint_of(files_.certificate));
    auto changed = *control::parse_json(*document);
    changed.as_object()["report"] = R"({"verdict":"passed","text":"é\n"})";
    EXPECT_EQ(verify_report(control::json::serialize(changed)).error().code, Errc::corrupt);
    // The certificate of another under the same signature.
    changed = *control::parse_json(*document);
    std::ifstream file(other_.certificate);
    changed.as_object()["certificate"] =
        std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    EXPECT_FALSE(verify_report(control::json::serialize(changed)));
    for (const char* field : {"format", "algorithm", "report", "certificate", "signature"}) {
        changed = *control::parse_json(*document);
        changed.as_object()[field] = "x";
        EXPECT_FALSE(verify_report(control::json::serialize(changed))) << field;
        changed.as_object().erase(field);
        EXPECT_FALSE(verify_report(control::json::serialize(changed))) << field;
    }
    EXPECT_FALSE(verify_report(""));
    EXPECT_FALSE(verify_report("[]"));
}

TEST_F(SignatureTest, TheAuthorityDecidesWhoTheSignerIs) {
    const auto document = sign_report("{}", files_);
    ASSERT_TRUE(document);
    const int64_t now = unix_ms_now();
    EXPECT_TRUE(verify_report(*document, files_.certificate, now));
    const auto other = verify_report(*document, other_.certificate, now);
    EXPECT_EQ(other.error().code, Errc::denied);
    // Before the certificate was made it could not have signed.
    EXPECT_FALSE(
        verify_report(*document, files_.certificate, now - int64_t{10} * 365 * 86'400'000));
    EXPECT_THAT(verify_report(*document, folder_ + "/none.pem", now).error().context,
                HasSubstr("none.pem"));
    // A key that is not the certificate's is found when signing.
    EXPECT_FALSE(sign_report("{}", {files_.certificate, other_.key}));
}

}  // namespace
}  // namespace antipode::web::test
