// The log's bytes: what each entry looks like on the wire (docs/PROTOCOL-log.md), and that there is
// exactly one way to say each thing.
#include "replicator/replay/log_entry.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace antipode::replay {
namespace {

std::vector<std::byte> hex(std::string_view text) {
    std::vector<std::byte> bytes;
    std::string digits;
    for (const char each : text) {
        if (each == ' ') continue;
        digits.push_back(each);
        if (digits.size() < 2) continue;
        bytes.push_back(static_cast<std::byte>(std::stoul(digits, nullptr, 16)));
        digits.clear();
    }
    return bytes;
}

std::string to_hex(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte each : bytes) {
        text += fmt::format("{}{:02x}", text.empty() ? "" : " ", static_cast<unsigned>(each));
    }
    return text;
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
    std::vector<std::byte> bytes;
    for (const int each : values) bytes.push_back(static_cast<std::byte>(each));
    return bytes;
}

LogBatch batch_of(std::vector<LogEntry> entries) {
    return {LogIndex(1), OutputNumber(), 0, std::move(entries)};
}
LogBatch batch_of(LogEntry::Body body) {
    return batch_of(std::vector<LogEntry>{{ExitNumber(5), std::move(body)}});
}

// The bytes of an entry at exit 5, in a batch in which everything else is smallest.
std::string entry_hex(LogEntry::Body body, uint8_t version = 1) {
    const auto bytes = encode(batch_of(std::move(body)));
    const std::string text = to_hex(bytes);
    const std::string kHead = fmt::format("{:02x} 01 00 00 05 01 ", version);
    EXPECT_EQ(text.substr(0, kHead.size()), kHead);
    return text.substr(kHead.size());
}

// What the decoder says to these bytes; "" if it takes them. What it takes must be canonical.
std::string problem(std::span<const std::byte> bytes) {
    const auto batch = decode_log_batch(bytes);
    if (batch) {
        EXPECT_EQ(to_hex(encode(*batch)), to_hex(bytes));
        return "";
    }
    EXPECT_EQ(batch.error().context.rfind("log batch: ", 0), 0u);
    return batch.error().context.substr(11);
}
std::string problem(std::string_view text) {
    return problem(hex(text));
}

std::vector<LogEntry::Body> one_of_each() {
    return {
        InputRead{vmm::InputKind::pm_timer, 0xffffff},
        InputRead{vmm::InputKind::pit_counter, UINT64_MAX},
        InputRead{vmm::InputKind::wall_clock, 1735689600},
        InputRead{vmm::InputKind::entropy, 0x0123456789abcdef},
        OutputMark{0xdeadbeef},
        TimerTick{},
        BlockDone{7, 300, vmm::BlockStatus::unsupported},
        FrameReceived{7, std::vector<std::byte>(1518, std::byte{0x5a})},
        ConsoleInput{bytes_of({'l', 's', '\n'})},
        DigestMark{1, UINT64_MAX, 3},
        Passed{},
        DeltaPages{{{0, {}}, {1, std::vector<std::byte>(4096, std::byte{1})}, {1000, {}}}},
        DeltaState{std::vector<std::byte>(300, std::byte{2})},
        CheckpointPart{std::vector<std::byte>(200, std::byte{3})},
        VmControl{VmControl::Kind::pause},
        VmControl{VmControl::Kind::line_break},
        StretchBegin{DeltasReason::backup_slow},
        StretchEnd{StretchEnd::Then::resumed},
        StretchOutput{vmm::Output::Kind::frame, 7, std::vector<std::byte>(60, std::byte{4})},
        StretchWrite{7, vmm::BlockOperation::write, 1 << 30, 512,
                     std::vector<std::byte>(512, std::byte{5})},
        StretchWrite{0, vmm::BlockOperation::discard, 4096, uint64_t{1} << 40, {}},
        StretchWrite{1, vmm::BlockOperation::flush, 0, 0, {}},
        StretchState{StretchState::Piece::not_last, bytes_of({1, 2})},
    };
}

LogBatch big_batch() {
    LogBatch batch{LogIndex(70000), OutputNumber(300), 123456789012, {}};
    uint64_t exit = 1'000'000;
    for (int round = 0; round < 3; ++round) {
        for (auto& body : one_of_each()) {
            batch.entries.push_back({ExitNumber(exit), std::move(body)});
            exit += exit % 37;
        }
    }
    return batch;
}

TEST(LogEntryTest, GoldenBytes) {
    using vmm::InputKind;
    EXPECT_EQ(entry_hex(InputRead{InputKind::pm_timer, 0}), "01 01 00");
    EXPECT_EQ(entry_hex(InputRead{InputKind::pm_timer, 0x3fff}), "01 01 ff 7f");
    EXPECT_EQ(entry_hex(InputRead{InputKind::pm_timer, 0x4000}), "0c 00 40 00");
    EXPECT_EQ(entry_hex(InputRead{InputKind::pm_timer, 0xffffff}), "0c ff ff ff");
    EXPECT_EQ(entry_hex(InputRead{InputKind::entropy, 5}), "01 00 05 00 00 00 00 00 00 00");
    EXPECT_EQ(entry_hex(InputRead{InputKind::pit_counter, 300}), "01 02 ac 02");
    EXPECT_EQ(entry_hex(InputRead{InputKind::wall_clock, UINT64_MAX}),
              "01 03 ff ff ff ff ff ff ff ff ff 01");
    EXPECT_EQ(entry_hex(OutputMark{0x11223344}), "02 44 33 22 11");
    EXPECT_EQ(entry_hex(TimerTick{}), "03");
    EXPECT_EQ(entry_hex(BlockDone{0, 1, vmm::BlockStatus::ok}), "04 00 01");
    EXPECT_EQ(entry_hex(BlockDone{7, 200, vmm::BlockStatus::io_error}), "04 71 c8 01");
    EXPECT_EQ(entry_hex(FrameReceived{1, bytes_of({0xaa, 0xbb})}), "05 01 02 aa bb");
    EXPECT_EQ(entry_hex(ConsoleInput{bytes_of({'l', 's'})}), "06 02 6c 73");
    EXPECT_EQ(entry_hex(DigestMark{1, 0x0102030405060708, UINT64_MAX, 5}),
              "07 01 00 00 00 00 00 00 00 08 07 06 05 04 03 02 01 ff ff ff ff ff ff ff ff "
              "05 00 00 00 00 00 00 00");
    EXPECT_EQ(entry_hex(Passed{}), "08");
    EXPECT_EQ(entry_hex(DeltaPages{{{3, {}}, {4, {}}, {100, {}}}}), "09 03 06 00 be 01");
    EXPECT_EQ(entry_hex(DeltaState{bytes_of({9, 8, 7})}), "0a 03 09 08 07");
    EXPECT_EQ(entry_hex(VmControl{VmControl::Kind::reset}), "0b 03");
    EXPECT_EQ(entry_hex(CheckpointPart{bytes_of({1, 2, 3})}), "0d 03 01 02 03");
    EXPECT_EQ(entry_hex(StretchBegin{DeltasReason::heals}, 2), "0e 01 01");
    EXPECT_EQ(entry_hex(StretchEnd{StretchEnd::Then::lockstep}, 2), "0e 02 01");
    EXPECT_EQ(entry_hex(StretchOutput{vmm::Output::Kind::frame, 1, bytes_of({9})}, 2),
              "0e 03 02 01 01 09");
    EXPECT_EQ(entry_hex(StretchWrite{1, vmm::BlockOperation::write, 300, 2, bytes_of({8, 9})}, 2),
              "0e 04 12 ac 02 02 08 09");
    EXPECT_EQ(entry_hex(StretchWrite{0, vmm::BlockOperation::flush, 0, 0, {}}, 2),
              "0e 04 03 00 00");
    EXPECT_EQ(entry_hex(StretchState{StretchState::Piece::last, bytes_of({7})}, 2),
              "0e 05 02 01 07");
    const std::vector<std::byte> page(4096, std::byte{0xee});
    const auto with_page = encode(batch_of(DeltaPages{{{5, page}}}));
    EXPECT_EQ(to_hex(std::span(with_page).first(9)), "01 01 00 00 05 01 09 01 0b");
    EXPECT_EQ(with_page.size(), 9u + 4096u);
}

TEST(LogEntryTest, GoldenBatch) {
    const LogBatch batch{LogIndex(128),
                         OutputNumber(2),
                         1'000'000,
                         {{ExitNumber(1000), InputRead{vmm::InputKind::pm_timer, 100}},
                          {ExitNumber(1000), InputRead{vmm::InputKind::pm_timer, 90}},
                          {ExitNumber(1001), TimerTick{}},
                          {ExitNumber(1015), TimerTick{}},
                          {ExitNumber(1030), TimerTick{}},
                          {ExitNumber(2000), TimerTick{}},
                          {ExitNumber(2000), Passed{}}}};
    EXPECT_EQ(to_hex(encode(batch)),
              "01 80 01 02 c0 84 3d e8 07 07 "  // version, first, released, clock, exit, count
              "01 01 64 "                       // the clock at 100
              "0c 5a 00 00 "                    // 10 less: a step of 24 bits
              "13 e3 "                          // steps of 1 and 14 fit into the first byte
              "f3 00 "                          // one of 15 does not
              "f3 bb 07 "                       // 970 - 15
              "08");
    EXPECT_EQ(problem(encode(batch)), "");
}

TEST(LogEntryTest, ATickCostsOneByteAndADeviceInterruptThree) {
    const auto bytes_for = [](LogEntry::Body body) {
        const auto one = encode(batch_of(std::vector<LogEntry>{{ExitNumber(1), body}}));
        const auto two =
            encode(batch_of(std::vector<LogEntry>{{ExitNumber(1), body}, {ExitNumber(4), body}}));
        return two.size() - one.size();
    };
    EXPECT_EQ(bytes_for(TimerTick{}), 1u);
    EXPECT_EQ(bytes_for(BlockDone{0, 100, vmm::BlockStatus::ok}), 3u);
    EXPECT_EQ(bytes_for(InputRead{vmm::InputKind::pm_timer, 0x100000}), 3u);  // the same time again
    EXPECT_EQ(bytes_for(FrameReceived{0, std::vector<std::byte>(100)}), 103u);
}

TEST(LogEntryTest, EachEntryComesBack) {
    for (const auto& body : one_of_each()) {
        for (const uint64_t exit : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
            const auto batch = batch_of(std::vector<LogEntry>{{ExitNumber(exit), body}});
            const auto again = decode_log_batch(encode(batch));
            ASSERT_TRUE(again) << again.error().to_string();
            EXPECT_EQ(*again, batch);
        }
    }
    const auto again = decode_log_batch(encode(big_batch()));
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, big_batch());
}

TEST(LogEntryTest, EachKindHasAName) {
    for (const auto& body : one_of_each()) {
        const LogEntry entry{ExitNumber(3), body};
        EXPECT_FALSE(kind_of(entry).empty()) << body.index();
        const std::string begin = fmt::format("exit 3 {}", kind_of(entry));
        EXPECT_EQ(describe(entry).substr(0, begin.size()), begin);
    }
    EXPECT_EQ(describe({ExitNumber(3), CheckpointPart{bytes_of({1, 2})}}),
              "exit 3 checkpoint-part bytes=2");
}

TEST(LogEntryTest, StepsOfEveryLength) {
    std::vector<LogEntry> entries;
    uint64_t exit = 0;
    for (const uint64_t step :
         std::initializer_list<uint64_t>{0, 1, 13, 14, 15, 16, 142, 143, 144, 1u << 14, 1u << 21,
                                         uint64_t{1} << 35, uint64_t{1} << 62}) {
        exit += step;
        entries.push_back({ExitNumber(exit), TimerTick{}});
    }
    entries.push_back({ExitNumber(UINT64_MAX), TimerTick{}});
    const auto batch = batch_of(std::move(entries));
    const auto again = decode_log_batch(encode(batch));
    ASSERT_TRUE(again) << again.error().to_string();
    EXPECT_EQ(*again, batch);
}

// From small values and from the edges of their ranges.
struct RandomEntries {
    Random random{7};

    uint64_t number() {
        const uint64_t value = random.next() >> random.below(64);
        return random.chance(0.1) ? UINT64_MAX : value;
    }
    std::vector<std::byte> data(size_t most) {
        std::vector<std::byte> bytes(random.below(random.chance(0.1) ? most + 1 : 32));
        for (auto& each : bytes) each = static_cast<std::byte>(random.next());
        return bytes;
    }
    LogEntry::Body body() {
        switch (random.below(14)) {
            case 0:
                return InputRead{vmm::InputKind::pm_timer, number() & 0xffffff};
            case 1:
                return InputRead{random.chance(0.3)   ? vmm::InputKind::entropy
                                 : random.chance(0.5) ? vmm::InputKind::pit_counter
                                                      : vmm::InputKind::wall_clock,
                                 number()};
            case 2:
                return OutputMark{static_cast<uint32_t>(number())};
            case 3:
                return TimerTick{};
            case 4:
                return BlockDone{static_cast<uint32_t>(random.below(8)), number(),
                                 static_cast<vmm::BlockStatus>(random.below(3))};
            case 5:
                return FrameReceived{static_cast<uint32_t>(random.below(8)), data(1518)};
            case 6:
                return ConsoleInput{data(4096)};
            case 7:
                return DigestMark{number(), number(), number()};
            case 8: {
                DeltaPages pages;
                uint64_t page = number() >> 2;
                for (uint64_t count = random.between(1, 4); count > 0; --count) {
                    pages.pages.push_back({page, {}});
                    if (random.chance(0.2)) pages.pages.back().bytes.resize(4096);
                    page += random.between(1, 1u << random.below(20));
                }
                return pages;
            }
            case 9:
                return CheckpointPart{data(4096)};
            case 10:
                return StretchOutput{vmm::Output::Kind::console,
                                     static_cast<uint32_t>(random.below(8)), data(4096)};
            case 11: {
                auto bytes = data(4096);
                bytes.push_back(std::byte{1});
                return StretchWrite{static_cast<uint32_t>(random.below(8)),
                                    vmm::BlockOperation::write, number() >> 1, bytes.size(), bytes};
            }
            case 12: {
                auto bytes = data(4096);
                bytes.push_back(std::byte{1});
                return StretchState{StretchState::Piece::last, std::move(bytes)};
            }
            default:
                return DeltaState{data(DeltaState::kCpuBytesMax)};
        }
    }
};

TEST(LogEntryTest, DecodeUndoesEncode) {
    RandomEntries make;
    Random& random = make.random;
    for (int round = 0; round < 3000; ++round) {
        LogBatch batch{
            LogIndex(1 + (make.number() >> 1)), OutputNumber(make.number()), make.number(), {}};
        uint64_t exit = make.number() >> 1;
        size_t bound = 64;
        for (uint64_t count = random.between(1, 12); count > 0; --count) {
            batch.entries.push_back({ExitNumber(exit), make.body()});
            bound += encoded_bytes_max(batch.entries.back());
            exit += make.number() >> 8;
        }
        const auto bytes = encode(batch);
        ASSERT_LE(bytes.size(), bound);
        const auto again = decode_log_batch(bytes);
        ASSERT_TRUE(again) << again.error().to_string();
        ASSERT_EQ(*again, batch);
        ASSERT_EQ(encode(*again), bytes);
    }
}

TEST(LogEntryTest, EveryTruncationIsRefused) {
    const auto bytes = encode(big_batch());
    for (size_t length = 0; length < bytes.size(); ++length) {
        const auto text = problem(std::span(bytes).first(length));
        ASSERT_EQ(text, fmt::format("cut off at byte {}", length));
    }
}

TEST(LogEntryTest, EveryBitFlipIsRefusedOrMeansSomethingElse) {
    LogBatch small = big_batch();
    for (auto& entry : small.entries) {  // pages only make it slow
        if (auto* pages = std::get_if<DeltaPages>(&entry.body))
            pages->pages.erase(++pages->pages.begin());
        if (auto* frame = std::get_if<FrameReceived>(&entry.body)) frame->bytes.resize(60);
    }
    const auto bytes = encode(small);
    size_t taken = 0;
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        auto changed = bytes;
        changed[bit / 8] ^= std::byte{1} << (bit % 8);
        const auto batch = decode_log_batch(changed);
        if (!batch) continue;
        ++taken;
        ASSERT_EQ(encode(*batch), changed) << bit;
        ASSERT_NE(*batch, small) << bit;
    }
    EXPECT_GT(taken, 0u);  // a frame's bytes are anything
}

TEST(LogEntryTest, RandomBytesAreRefusedOrCanonical) {
    Random random(11);
    for (int round = 0; round < 200'000; ++round) {
        std::vector<std::byte> bytes(random.below(40));
        for (auto& each : bytes) each = static_cast<std::byte>(random.next() >> random.below(56));
        if (!bytes.empty()) bytes[0] = static_cast<std::byte>(random.between(1, 2));
        (void)problem(bytes);
    }
}

TEST(LogEntryTest, StretchesThatAreRefused) {
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 01 01"), "");
    EXPECT_EQ(problem("01 01 00 00 05 01 0e 01 01"), "byte 7: entry kind is not known");
    EXPECT_EQ(problem("02 01 00 00 05 01 03"), "byte 7: version 2 without an entry of a stretch");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 00"), "byte 8: part of a stretch is not known");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 06"), "byte 8: part of a stretch is not known");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 01 05"), "byte 9: reason of a stretch is not known");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 02 03"), "byte 9: end of a stretch is not known");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 03 03 00 00"), "byte 9: output kind is not known");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 03 01 08 00"), "byte 10: interface number is too high");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 03 01 00 81 80 04"),
              "byte 13: data is longer than allowed");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 04 82 00 01 07"), "byte 12: drive number is too high");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 04 01 00 01"), "byte 11: disk operation is not known");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 04 06 00 01"), "byte 11: disk operation is not known");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 04 02 00 00"), "byte 11: disk range is empty");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 04 03 00 01"), "byte 11: a flush has a range");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 04 04 ff ff ff ff ff ff ff ff ff 01 01"),
              "byte 20: disk range overflows");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 04 02 00 81 80 10"),
              "byte 13: data is longer than allowed");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 05 02 00"), "byte 10: piece of a state has no bytes");
    EXPECT_EQ(problem("02 01 00 00 05 01 0e 05 03 01 07"), "byte 9: piece of a state is not known");
}

TEST(LogEntryTest, HeadersThatAreRefused) {
    EXPECT_EQ(problem("01 01 00 00 05 01 03"), "");
    EXPECT_EQ(problem("00 01 00 00 05 01 03"), "version is 0, expected 1 or 2");
    EXPECT_EQ(problem("03 01 00 00 05 01 03"), "version is 3, expected 1 or 2");
    EXPECT_EQ(decode_log_batch(hex("03")).error().code, Errc::version);
    EXPECT_EQ(decode_log_batch(hex("01")).error().code, Errc::protocol);
    EXPECT_EQ(problem("01 00 00 00 05 01 03"), "byte 6: first index is out of range");
    EXPECT_EQ(problem("01 ff ff ff ff ff ff ff ff ff 01 00 00 05 01 03"),
              "byte 15: first index is out of range");
    EXPECT_EQ(problem("01 01 00 00 05 00"), "byte 6: entry count is out of range");
    EXPECT_EQ(problem("01 01 00 00 05 81 20 03"), "byte 7: entry count is out of range");  // 4097
    EXPECT_EQ(problem("01 01 00 00 05 02 03"), "cut off at byte 7");
    EXPECT_EQ(problem("01 01 00 00 05 01 03 00"), "byte 7: bytes behind the last entry");
    EXPECT_EQ(problem("01 01 00 00 05 01 13"), "byte 7: first step is not zero");
}

TEST(LogEntryTest, NumbersThatAreRefused) {
    EXPECT_EQ(problem("01 81 00 00 00 05 01 03"), "byte 3: number is not in its shortest form");
    EXPECT_EQ(problem("01 80 80 80 80 80 80 80 80 80 02 00 00 05 01 03"),
              "byte 11: number is over 64 bits");
    EXPECT_EQ(problem("01 80 80 80 80 80 80 80 80 80 80 01 00 00 05 01 03"),
              "byte 11: number is over 64 bits");
    // A step of 15 written as 0 + 15 is the only way; exits do not wrap.
    EXPECT_EQ(problem("01 01 00 00 ff ff ff ff ff ff ff ff ff 01 02 03 13"),
              "byte 17: exit number overflows");
    EXPECT_EQ(problem("01 01 00 00 05 02 03 f3 ff ff ff ff ff ff ff ff ff 01"),
              "byte 18: exit number overflows");
}

TEST(LogEntryTest, EntriesThatAreRefused) {
    const std::string head = "01 01 00 00 05 01 ";
    const auto entry = [&](const std::string& text) { return problem(head + text); };
    for (const char* kind : {"00", "0e", "0f"}) {
        EXPECT_EQ(entry(kind), "byte 7: entry kind is not known") << kind;
    }
    EXPECT_EQ(entry("0b 00"), "byte 8: control operation is not known");
    EXPECT_EQ(entry("0b 07"), "byte 8: control operation is not known");
    EXPECT_EQ(entry("01 00 00"), "cut off at byte 9");
    EXPECT_EQ(entry("01 04 00"), "byte 8: input kind is not known");
    EXPECT_EQ(entry("01 01 80 80 01"), "byte 11: PM timer step is over 14 bits");
    EXPECT_EQ(entry("0c ff 3f 00"), "byte 10: PM timer is not in its shortest form");
    EXPECT_EQ(entry("0c ff 3f"), "cut off at byte 9");
    EXPECT_EQ(entry("04 03 01"), "byte 8: block status is not known");
    EXPECT_EQ(entry("04 80 01"), "byte 8: drive number is too high");
    EXPECT_EQ(entry("05 08 00"), "byte 8: interface number is too high");
    EXPECT_EQ(entry("05 00 ef 0b"), "byte 10: data is longer than allowed");  // 1519
    EXPECT_EQ(entry("06 81 20"), "byte 9: data is longer than allowed");      // 4097
    EXPECT_EQ(entry("09 00"), "byte 8: page count is out of range");
    EXPECT_EQ(entry("09 41"), "byte 8: page count is out of range");  // 65
    EXPECT_EQ(entry("09 01 fe ff ff ff ff ff ff ff ff 01"), "byte 18: page number overflows");
    EXPECT_EQ(entry("0a 81 80 01"), "byte 10: data is longer than allowed");  // 16385
}

TEST(LogEntryTest, ABatchThatIsTooLongIsRefusedBeforeItIsRead) {
    const std::vector<std::byte> bytes(LogBatch::kBytesMax + 1);
    const auto batch = decode_log_batch(bytes);
    ASSERT_FALSE(batch);
    EXPECT_EQ(batch.error().code, Errc::limit);
}

TEST(LogEntryTest, EntriesDescribeThemselves) {
    const auto text = [](LogEntry::Body body) {
        return describe({ExitNumber(17), std::move(body)});
    };
    EXPECT_EQ(text(InputRead{vmm::InputKind::pm_timer, 5}), "exit 17 input-read kind=1 value=5");
    EXPECT_EQ(text(OutputMark{0x1a}), "exit 17 output checksum=0000001a");
    EXPECT_EQ(text(TimerTick{}), "exit 17 timer-tick");
    EXPECT_EQ(text(BlockDone{1, 2, vmm::BlockStatus::io_error}),
              "exit 17 block-done drive=1 number=2 status=1");
    EXPECT_EQ(text(FrameReceived{0, bytes_of({1, 2})}),
              "exit 17 frame-received interface=0 bytes=2");
    EXPECT_EQ(text(ConsoleInput{bytes_of({1})}), "exit 17 console-input bytes=1");
    EXPECT_EQ(text(DigestMark{1, 2, 3}),
              "exit 17 digest cpu=0000000000000001 devices=0000000000000002 "
              "memory=0000000000000003 disk=0000000000000000");
    EXPECT_EQ(text(Passed{}), "exit 17 passed");
    EXPECT_EQ(text(DeltaPages{{{9, {}}}}), "exit 17 delta-pages count=1 first=9");
    EXPECT_EQ(text(DeltaState{bytes_of({1})}), "exit 17 delta-state bytes=1");
    EXPECT_EQ(text(CheckpointPart{bytes_of({1, 2})}), "exit 17 checkpoint-part bytes=2");
}

TEST(LogEntryTest, TheOutputChecksumIsXxh3) {
    EXPECT_EQ(output_checksum({}), 0x38d394c2u);  // XXH3-64 of nothing is 2d06800538d394c2
    EXPECT_NE(output_checksum(bytes_of({1})), output_checksum(bytes_of({2})));
}

TEST(LogEntryDeathTest, WhatCannotBeSaidIsAProgrammersError) {
    const auto dies = [](const LogBatch& batch) { (void)encode(batch); };
    EXPECT_DEATH(dies(batch_of(std::vector<LogEntry>{})), "empty batch");
    EXPECT_DEATH(dies({LogIndex(0), OutputNumber(), 0, {{ExitNumber(1), TimerTick{}}}}),
                 "entries count from 1");
    EXPECT_DEATH(dies(batch_of(std::vector<LogEntry>{{ExitNumber(2), TimerTick{}},
                                                     {ExitNumber(1), TimerTick{}}})),
                 "exit 1 after 2");
    EXPECT_DEATH(dies(batch_of(InputRead{vmm::InputKind::pm_timer, 0x1000000})), "PM timer");
    EXPECT_DEATH(dies(batch_of(BlockDone{8, 1, vmm::BlockStatus::ok})), "drive 8");
    EXPECT_DEATH(dies(batch_of(FrameReceived{8, {}})), "interface 8");
    EXPECT_DEATH(dies(batch_of(FrameReceived{0, std::vector<std::byte>(1519)})), "1519 bytes");
    EXPECT_DEATH(dies(batch_of(DeltaPages{})), "without pages");
    EXPECT_DEATH(dies(batch_of(DeltaPages{{{2, {}}, {1, {}}}})), "page 1 out of order");
    EXPECT_DEATH(dies(batch_of(DeltaPages{{{2, bytes_of({1})}}})), "half a page");
}

}  // namespace
}  // namespace antipode::replay
