// Hooks: which events they are told, how often, and that the results are kept.
#include <boost/json/serialize.hpp>
#include <fstream>
#include <gmock/gmock.h>
#include <sstream>

#include "tests/unit/web/app_fixture.h"

namespace antipode::web::test {
namespace {

using control::EventCode;
using control::json::object;
using control::json::value;
using testing::HasSubstr;

class HooksTest : public AppTest {
  protected:
    HookSettings& add_hook(const std::string& name, const std::string& script) {
        HookSettings hook;
        hook.name = name;
        hook.events = {"went_live", "forced"};
        hook.command = {"/bin/sh", "-c", script};
        hook.attempts = 1;
        settings_.hooks.push_back(std::move(hook));
        return settings_.hooks.back();
    }
    std::string said() const {
        std::ifstream file(directory_ + "/said");
        std::ostringstream text;
        text << file.rdbuf();
        return text.str();
    }
    static StoredEvent an_event(EventCode code, const std::string& pair, uint64_t sequence,
                                int64_t age_ms = 0) {
        StoredEvent stored;
        stored.event.pair = pair;
        stored.event.site = "lisbon";
        stored.event.incarnation = Incarnation(7);
        stored.event.event.sequence = sequence;
        stored.event.event.code = code;
        stored.event.event.text = "epoch 8; $(reboot)";
        stored.event.event.time_unix_ms = unix_ms_now() - age_ms;
        return stored;
    }
    void see(const StoredEvent& event) {
        play([&] { app_->services().hooks.see(event); });
    }
    value results(size_t count) {
        return eventually("/api/v1/hook-results", [&](const value& now) {
            return now.at("items").as_array().size() >= count;
        });
    }
};

TEST_F(HooksTest, ACommandIsToldOfItsEventsInOrder) {
    add_hook("dns", "echo $ANTIPODE_EVENT $ANTIPODE_PAIR $ANTIPODE_SITE \"$ANTIPODE_TEXT\" >> " +
                        directory_ + "/said; echo done");
    settings_.hooks.back().pairs = {"web1"};
    start();
    see(an_event(EventCode::went_live, "web1", 1));
    see(an_event(EventCode::halted, "web1", 2));      // not one of its events
    see(an_event(EventCode::went_live, "other", 3));  // not one of its pairs
    see(an_event(EventCode::forced, "web1", 4));
    const value list = results(2);
    ASSERT_EQ(list.at("items").as_array().size(), 2u);
    EXPECT_EQ(said(),
              "went_live web1 lisbon epoch 8; $(reboot)\n"
              "forced web1 lisbon epoch 8; $(reboot)\n");
    EXPECT_EQ(list.at("items").at(0).at("event"), "forced");
    EXPECT_EQ(list.at("items").at(1).at("outcome"), "ok");
    EXPECT_EQ(list.at("items").at(1).at("output"), "done\n");
    const value hooks = get_json("/api/v1/hooks");
    EXPECT_EQ(hooks.at("items").at(0).at("last").at("outcome"), "ok");
}

TEST_F(HooksTest, OneThatFailsIsTriedAgain) {
    // Succeeds the second time.
    add_hook("bgp",
             "echo x >> " + directory_ + "/said; test $(wc -l < " + directory_ + "/said) -ge 2")
        .attempts = 3;
    start();
    see(an_event(EventCode::went_live, "web1", 1));
    const value list = results(2);
    EXPECT_EQ(list.at("items").at(0).at("outcome"), "ok");
    EXPECT_EQ(list.at("items").at(0).at("attempt"), 2);
    EXPECT_EQ(list.at("items").at(1).at("outcome"), "failed");
    EXPECT_THAT(std::string(list.at("items").at(1).at("text").as_string()), HasSubstr("1"));
}

TEST_F(HooksTest, ATimeLimitIsOne) {
    add_hook("slow", "exec sleep 600").time_limit = std::chrono::milliseconds(100);
    start();
    see(an_event(EventCode::went_live, "web1", 1));
    const value list = results(1);
    EXPECT_EQ(list.at("items").at(0).at("outcome"), "failed");
    EXPECT_THAT(std::string(list.at("items").at(0).at("text").as_string()), HasSubstr("killed"));
}

TEST_F(HooksTest, WhatIsOldIsDroppedAndSaid) {
    add_hook("dns", "echo >> " + directory_ + "/said");
    start();
    see(an_event(EventCode::went_live, "web1", 1, Hooks::kOldMs + 1000));
    EXPECT_EQ(results(1).at("items").at(0).at("outcome"), "dropped");
    EXPECT_EQ(said(), "");
}

TEST_F(HooksTest, AQueueIsBounded) {
    add_hook("slow", "exec sleep 600");
    start();
    for (uint64_t i = 0; i < Hooks::kQueuedMax + 5; ++i) {
        see(an_event(EventCode::went_live, "web1", i + 1));
    }
    const value list = results(3);
    EXPECT_EQ(list.at("items").at(0).at("outcome"), "dropped");
    EXPECT_EQ(list.at("items").at(0).at("text"), "too many wait");
}

TEST_F(HooksTest, AWebhookGetsTheEvent) {
    // The page itself answers as the other end: it knows no such address, and says so with 404.
    start();
    HookSettings hook;
    hook.name = "web";
    hook.events = {"went_live"};
    hook.url = fmt::format("http://127.0.0.1:{}/hook", port_);
    hook.attempts = 1;
    stop();
    settings_.server.port = port_;
    settings_.hooks = {hook};
    context_.restart();
    start();
    see(an_event(EventCode::went_live, "web1", 1));
    const value list = results(1);
    EXPECT_EQ(list.at("items").at(0).at("outcome"), "failed");
    EXPECT_EQ(list.at("items").at(0).at("text"), "status 404");
}

}  // namespace
}  // namespace antipode::web::test
