#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include "replicator/control/control_journal.h"

namespace antipode::control {
namespace {

ControlJournal::Limits small() {
    ControlJournal::Limits limits;
    limits.samples = 3;
    limits.events = 4;
    limits.operations = 2;
    limits.console_bytes = 8;
    limits.text_bytes = 16;
    return limits;
}

TEST(ControlJournal, EventsFallOutOldestFirstAndShowTheGap) {
    ControlJournal journal(small());
    EXPECT_EQ(journal.events({}).oldest, 1u);
    for (int i = 1; i <= 6; ++i) {
        journal.add_event(i, EventCode::peer_lost, fmt::format("event {}", i));
    }
    const EventsReply all = journal.events({});
    ASSERT_EQ(all.events.size(), 4u);
    EXPECT_EQ(all.oldest, 3u);
    EXPECT_EQ(all.newest, 6u);
    EXPECT_EQ(all.events.front().text, "event 3");
    EXPECT_EQ(all.events.front().severity, Severity::error);

    const EventsReply later = journal.events({5, 100});
    ASSERT_EQ(later.events.size(), 1u);
    EXPECT_EQ(later.events[0].sequence, 6u);
    EXPECT_EQ(journal.events({0, 2}).events.size(), 2u);
    EXPECT_TRUE(journal.events({100, 2}).events.empty());
}

TEST(ControlJournal, AnEventKeepsAShortText) {
    ControlJournal journal(small());
    journal.add_event(1, EventCode::vm_error, std::string(1000, 'x'), Severity::info);
    EXPECT_EQ(journal.events({}).events[0].text.size(), 16u);
    EXPECT_EQ(journal.events({}).events[0].severity, Severity::info);
}

TEST(ControlJournal, SamplesAreKeptForTheChartsWindow) {
    ControlJournal journal(small());
    for (int i = 1; i <= 5; ++i) {
        Sample sample;
        sample.time_unix_ms = i * 1000;
        journal.add_sample(sample);
    }
    EXPECT_EQ(journal.history({}).samples.size(), 3u);
    EXPECT_EQ(journal.history({}).samples.front().time_unix_ms, 3000);
    EXPECT_EQ(journal.history({4000}).samples.size(), 1u);
}

TEST(ControlJournal, TheConsoleKeepsItsTailAndCountsEverything) {
    ControlJournal journal(small());
    std::string all;
    for (int i = 0; i < 20; ++i) {
        const std::string text = fmt::format("{:02}\n", i);
        journal.add_console(text);
        all += text;
        const ConsoleReply reply = journal.console({});
        EXPECT_EQ(reply.end, all.size());
        EXPECT_EQ(reply.end - reply.begin, std::min<size_t>(all.size(), 8));
        EXPECT_EQ(reply.text, all.substr(static_cast<size_t>(reply.begin)));
    }
    EXPECT_EQ(journal.console({57}).text, "19\n");
    EXPECT_EQ(journal.console({1000}).text, "");
    journal.add_console("a much longer text than fits");
    EXPECT_EQ(journal.console({}).text, "han fits");
}

TEST(ControlJournal, RunningOperationsAreNeverDropped) {
    ControlJournal journal(small());
    const auto first = journal.begin_operation(1, Method::verify, "admin", "starting");
    const auto second = journal.begin_operation(2, Method::seed, "admin", "starting");
    ASSERT_TRUE(first && second);
    const auto third = journal.begin_operation(3, Method::resync, "admin", "starting");
    ASSERT_FALSE(third);
    EXPECT_EQ(third.error().code, Errc::busy);

    journal.progress(*first, 0.5, "half");
    EXPECT_EQ(journal.find_operation(*first)->progress_ratio, 0.5);
    journal.end_operation(4, *first, OperationState::succeeded, "done");
    journal.progress(*first, 0.1, "a late report");
    EXPECT_EQ(journal.find_operation(*first)->text, "done");
    EXPECT_EQ(journal.find_operation(*first)->progress_ratio, 1.0);
    journal.end_operation(5, *first, OperationState::failed, "again");
    EXPECT_EQ(journal.find_operation(*first)->state, OperationState::succeeded);

    ASSERT_TRUE(journal.begin_operation(6, Method::resync, "admin", "starting"));
    EXPECT_EQ(journal.find_operation(*first), nullptr);
    EXPECT_NE(journal.find_operation(*second), nullptr);
}

TEST(ControlJournal, FillsAStatus) {
    ControlJournal journal;
    for (int i = 0; i < 50; ++i) journal.add_event(i, EventCode::paired, "x");
    journal.add_console("hello\n");
    ASSERT_TRUE(journal.begin_operation(1, Method::verify, "admin", "starting"));
    Status status;
    journal.fill(status);
    EXPECT_EQ(status.events.size(), 20u);
    EXPECT_EQ(status.events.back().sequence, 50u);
    EXPECT_EQ(status.operations.size(), 1u);
    EXPECT_EQ(status.vm.console_tail, "hello\n");
}

TEST(ControlJournal, AnswersTheReadingMethods) {
    ControlJournal journal;
    journal.add_event(1, EventCode::paired, "x");
    auto events = journal.answer(Method::events, {});
    ASSERT_TRUE(events && *events);
    EXPECT_EQ((*events)->at("newest"), 1);
    auto bad = journal.answer(Method::events, {{"after", "yesterday"}});
    ASSERT_TRUE(bad);
    ASSERT_FALSE(*bad);
    EXPECT_EQ(bad->error().context, "after: is a string, expected a number");
    auto missing = journal.answer(Method::operation, {{"operation", 9}});
    ASSERT_TRUE(missing);
    EXPECT_EQ(missing->error().code, Errc::not_found);
    EXPECT_TRUE(journal.answer(Method::history, {}));
    EXPECT_TRUE(journal.answer(Method::console, {}));
    EXPECT_TRUE(journal.answer(Method::methods, {}));
    EXPECT_FALSE(journal.answer(Method::status, {}));
    EXPECT_FALSE(journal.answer(Method::force, {}));
}

TEST(ControlJournal, FullRepliesFitALine) {
    ControlJournal journal;
    for (int i = 0; i < 2000; ++i) {
        Sample sample;
        sample.time_unix_ms = 1'700'000'000'000 + i;
        for (auto member :
             {&Sample::lag_seconds, &Sample::lag_entries, &Sample::lag_bytes,
              &Sample::log_bytes_per_second, &Sample::wire_bytes_per_second,
              &Sample::log_entries_per_second, &Sample::rtt_seconds, &Sample::jitter_seconds,
              &Sample::loss_ratio, &Sample::output_delay_p50_seconds,
              &Sample::output_delay_p99_seconds, &Sample::outputs_held, &Sample::exits_per_second,
              &Sample::throttle_ratio}) {
            sample.*member = -1.2345678901234567e-101;
        }
        journal.add_sample(sample);
        journal.add_event(i, EventCode::vm_error, std::string(5000, '"'));
        journal.add_console(std::string(1000, '\xff'));
    }
    for (const Method method : {Method::history, Method::events, Method::console}) {
        auto reply = journal.answer(method, {{"limit", 100000}});
        ASSERT_TRUE(reply && *reply);
        EXPECT_LT(result_line(1, std::move(**reply)).size(), kLineBytesMax) << word(method);
    }
}

}  // namespace
}  // namespace antipode::control
