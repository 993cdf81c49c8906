// A checkpoint comes out whole or not at all.
#include "replicator/checkpoint/assembler.h"

#include <gtest/gtest.h>

#include "tests/unit/checkpoint/parts.h"

namespace antipode::checkpoint {
namespace {

constexpr uint64_t kPages = 100;

class AssemblerTest : public testing::Test {
  protected:
    // A refusal's text, "part" for a part that completes nothing, "whole" for one that does.
    std::string take(const Part& part) {
        const auto bytes = encoded(part);
        auto taken = assembler_.take(bytes);
        if (!taken) return taken.error().context;
        if (!*taken) return "part";
        whole_ = std::move(**taken);
        return "whole";
    }
    static EndPart end(uint64_t parts, uint64_t output = 0) {
        return {parts, 99, OutputNumber(output), false, some_bytes(10)};
    }

    Assembler assembler_{kPages};
    Checkpoint whole_;
};

TEST_F(AssemblerTest, GivesOutNothingBeforeTheEnd) {
    EXPECT_EQ(take({1, PagesPart{{full_page(2), {5, {}}}}}), "part");
    EXPECT_EQ(take({1, PagesPart{{full_page(7)}}}), "part");
    EXPECT_EQ(take({1, OutputsPart{{console_output(1, "a")}}}), "part");
    EXPECT_EQ(take({1, OutputsPart{{console_output(2, "b")}}}), "part");
    EXPECT_EQ(take({1, MachinePart{some_bytes(4)}}), "part");
    EXPECT_EQ(take({1, MachinePart{some_bytes(3, 5)}}), "part");
    EXPECT_EQ(assembler_.last_number(), 0u);
    EXPECT_EQ(take({1, end(6, 2)}), "whole");
    EXPECT_EQ(assembler_.last_number(), 1u);
    EXPECT_EQ(whole_.number, 1u);
    ASSERT_EQ(whole_.pages.size(), 3u);
    EXPECT_EQ(whole_.pages[1], (replay::DeltaPages::Page{5, {}}));
    ASSERT_EQ(whole_.outputs.size(), 2u);
    EXPECT_EQ(whole_.outputs[1].number, OutputNumber(2));
    EXPECT_EQ(whole_.machine, some_bytes(7));
    EXPECT_EQ(whole_.end.guest_clock_ns, 99u);
    EXPECT_EQ(whole_.end.cpus, some_bytes(10));
    // Nothing of it is left for the next.
    EXPECT_EQ(take({2, MachinePart{some_bytes(1)}}), "part");
    EXPECT_EQ(take({2, end(1)}), "whole");
    EXPECT_TRUE(whole_.pages.empty());
    EXPECT_EQ(whole_.machine, some_bytes(1));
}

TEST_F(AssemblerTest, DiscardsAHalf) {
    EXPECT_FALSE(assembler_.discard());
    EXPECT_EQ(take({1, PagesPart{{full_page(2)}}}), "part");
    EXPECT_TRUE(assembler_.discard());
    EXPECT_EQ(take({2, MachinePart{some_bytes(1)}}), "part");
    EXPECT_EQ(take({2, end(1)}), "whole");
    EXPECT_TRUE(whole_.pages.empty());
}

TEST_F(AssemblerTest, CountsOnBehindAnother) {
    assembler_.restart_after(10);
    EXPECT_EQ(take({10, MachinePart{some_bytes(1)}}), "checkpoint 10 after 10");
    EXPECT_EQ(take({11, MachinePart{some_bytes(1)}}), "part");
}

TEST_F(AssemblerTest, RefusesWhatDoesNotBelong) {
    EXPECT_EQ(take({1, MachinePart{some_bytes(1)}}), "part");
    EXPECT_EQ(take({2, MachinePart{some_bytes(1)}}), "a part of checkpoint 2 in the middle of 1");
    EXPECT_EQ(take({1, PagesPart{{full_page(1)}}}), "checkpoint 1: part 1 is out of order");
    EXPECT_EQ(take({1, end(2)}), "checkpoint 1: 1 parts came of 2");
    EXPECT_EQ(take({1, end(1)}), "whole");
    EXPECT_EQ(take({1, MachinePart{some_bytes(1)}}), "checkpoint 1 after 1");
    EXPECT_EQ(take({2, end(0)}), "checkpoint 2: ends without device state");
    (void)assembler_.discard();
    EXPECT_EQ(take({2, PagesPart{{full_page(5)}}}), "part");
    EXPECT_EQ(take({2, PagesPart{{full_page(5)}}}), "checkpoint 2: page 5 after 5");
    (void)assembler_.discard();
    EXPECT_EQ(take({2, PagesPart{{full_page(kPages)}}}),
              "checkpoint 2: page 100, and the VM has 100");
    (void)assembler_.discard();
    EXPECT_EQ(take({2, OutputsPart{{console_output(3, "a")}}}), "part");
    EXPECT_EQ(take({2, OutputsPart{{console_output(3, "a")}}}), "checkpoint 2: output 3 after 3");
    EXPECT_EQ(take({2, MachinePart{some_bytes(1)}}), "part");
    EXPECT_EQ(take({2, end(2, 4)}), "checkpoint 2: output 4 is said to be the last, 3 is");
}

}  // namespace
}  // namespace antipode::checkpoint
