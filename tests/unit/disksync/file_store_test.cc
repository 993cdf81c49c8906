// FileStore: the contract of LocalStore over a file, and what opening refuses.
#include "disksync/file_store.h"

#include <condition_variable>
#include <future>
#include <gtest/gtest.h>
#include <map>
#include <mutex>

#include "common/base/random.h"
#include "tests/unit/disksync/test_disk.h"

namespace antipode::disksync {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

std::unique_ptr<LocalStore> open_ok(const std::string& path, StoreOptions options = {}) {
    auto store = open_store(path, options);
    EXPECT_TRUE(store.has_value()) << store.error().to_string();
    return store ? std::move(*store) : nullptr;
}

class FileStoreTest : public testing::TestWithParam<DirectIo> {
  protected:
    void SetUp() override {
        options_.direct_io = GetParam();
        path_ = directory_.image("disk.img", 16 * kMiB);
        auto store = open_store(path_, options_);
        if (!store && store.error().code == Errc::unsupported) GTEST_SKIP() << "no direct I/O here";
        ASSERT_TRUE(store.has_value()) << store.error().to_string();
        store_ = std::move(*store);
    }
    TemporaryDirectory directory_;
    StoreOptions options_;
    std::string path_;
    std::unique_ptr<LocalStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Cached, FileStoreTest, testing::Values(DirectIo::no, DirectIo::yes),
                         [](const auto& given) {
                             return given.param == DirectIo::yes ? "direct" : "buffered";
                         });

TEST_P(FileStoreTest, ReadsWhatWasWrittenAndZeroElsewhere) {
    EXPECT_EQ(store_->size_bytes(), 16 * kMiB);
    ASSERT_OK(write_at(*store_, 8192, pattern(12288, 3)));
    ASSERT_OK(write_at(*store_, 16 * kMiB - 4096, pattern(4096, 9), Fua::yes));
    ASSERT_OK(flush(*store_));
    EXPECT_EQ(read_at(*store_, 8192, 12288).value(), pattern(12288, 3));
    EXPECT_EQ(read_at(*store_, 16 * kMiB - 4096, 4096).value(), pattern(4096, 9));
    EXPECT_EQ(read_at(*store_, 0, 8192).value(), std::vector<std::byte>(8192));
}

TEST_P(FileStoreTest, TheFirstByteThatIsNotZero) {
    EXPECT_EQ(first_not_zero(*store_).value(), std::nullopt);
    ASSERT_OK(write_at(*store_, 4096, std::vector<std::byte>(3 * kMiB)));
    EXPECT_EQ(first_not_zero(*store_).value(), std::nullopt);
    std::vector<std::byte> bytes(4096);
    bytes[17] = std::byte{1};
    ASSERT_OK(write_at(*store_, 9 * kMiB, bytes));
    EXPECT_EQ(first_not_zero(*store_).value(), 9 * kMiB + 17);
    ASSERT_OK(write_at(*store_, 2 * kMiB, bytes));
    EXPECT_EQ(first_not_zero(*store_).value(), 2 * kMiB + 17);
}

TEST_P(FileStoreTest, BuffersNeedNoAlignment) {
    std::vector<std::byte> bytes = pattern(4096 + 1, 5);
    StoreRequest request;
    request.operation = StoreOperation::write;
    request.offset_bytes = 4096;
    request.length_bytes = 4096;
    request.buffer = std::span(bytes).subspan(1);
    ASSERT_OK(run_blocking(*store_, std::move(request)));
    std::vector<std::byte> back(4096 + 1);
    StoreRequest read;
    read.offset_bytes = 4096;
    read.length_bytes = 4096;
    read.buffer = std::span(back).subspan(1);
    ASSERT_OK(run_blocking(*store_, std::move(read)));
    EXPECT_TRUE(std::equal(back.begin() + 1, back.end(), bytes.begin() + 1));
}

TEST_P(FileStoreTest, ZeroesAndHoles) {
    ASSERT_OK(write_at(*store_, 0, pattern(4 * kMiB, 1)));
    ASSERT_OK(range_at(*store_, StoreOperation::write_zeroes, kMiB, kMiB, Fua::yes));
    EXPECT_EQ(read_at(*store_, kMiB, kMiB).value(), std::vector<std::byte>(kMiB));
    EXPECT_EQ(read_at(*store_, 0, 4096).value(), read_at(*store_, 0, 4096).value());
    ASSERT_OK(range_at(*store_, StoreOperation::discard, 3 * kMiB, kMiB));
    auto extents = store_->extents(0, 16 * kMiB);
    ASSERT_OK(extents);
    uint64_t at = 0;
    for (const StoreExtent& extent : *extents) {
        EXPECT_EQ(extent.offset_bytes, at);
        at += extent.length_bytes;
        if (extent.kind != ExtentKind::zero) continue;
        const auto bytes = read_at(*store_, extent.offset_bytes, 4096);
        EXPECT_EQ(bytes.value(), std::vector<std::byte>(4096));
    }
    EXPECT_EQ(at, 16 * kMiB);
    EXPECT_EQ(extents->back().kind, ExtentKind::zero);
    EXPECT_EQ(extents->front().kind, ExtentKind::data);
}

// 2,000 random requests with up to 32 in flight that never overlap, against a copy in memory.
TEST_P(FileStoreTest, RandomRequestsMatchAModel) {
    constexpr size_t kSlots = 64;
    constexpr size_t kSlotBytes = 16384;
    struct Slot {
        bool busy = false;
        std::vector<std::byte> model = std::vector<std::byte>(kSlotBytes);
        std::vector<std::byte> buffer = std::vector<std::byte>(kSlotBytes);
        bool reading = false;
    };
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Slot> slots(kSlots);
    size_t in_flight = 0;
    size_t wrong = 0;
    Random random(7);
    for (int count = 0; count < 2000; ++count) {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return in_flight < 32; });
        size_t index = random.below(kSlots);
        while (slots[index].busy) index = random.below(kSlots);
        Slot& slot = slots[index];
        slot.busy = true;
        ++in_flight;
        StoreRequest request;
        request.offset_bytes = index * kSlotBytes;
        request.length_bytes = kSlotBytes;
        slot.reading = random.chance(0.4);
        if (slot.reading) {
            request.buffer = slot.buffer;
        } else if (random.chance(0.2)) {
            request.operation = StoreOperation::write_zeroes;
            slot.model.assign(kSlotBytes, std::byte{0});
        } else {
            request.operation = StoreOperation::write;
            slot.model = pattern(kSlotBytes, static_cast<uint8_t>(random.next()));
            slot.buffer = slot.model;
            request.buffer = slot.buffer;
        }
        request.done = [&, index](Result<> result) {
            const std::lock_guard inner(mutex);
            Slot& ended = slots[index];
            if (!result || (ended.reading && ended.buffer != ended.model)) ++wrong;
            ended.busy = false;
            --in_flight;
            changed.notify_all();
        };
        lock.unlock();
        ASSERT_OK(store_->submit(std::move(request)));
    }
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return in_flight == 0; });
    EXPECT_EQ(wrong, 0u);
}

TEST(FileStore, RefusesRequestsThatMakeNoSense) {
    TemporaryDirectory directory;
    auto store = open_ok(directory.image("disk.img", kMiB));
    ASSERT_TRUE(store);
    EXPECT_ERROR(read_at(*store, kMiB, 512), Errc::invalid_argument);
    EXPECT_ERROR(read_at(*store, kMiB - 512, 1024), Errc::invalid_argument);
    EXPECT_ERROR(read_at(*store, ~uint64_t{511}, 512), Errc::invalid_argument);
    EXPECT_ERROR(read_at(*store, 100, 512), Errc::invalid_argument);
    EXPECT_ERROR(read_at(*store, 0, 100), Errc::invalid_argument);
    EXPECT_ERROR(read_at(*store, 0, 0), Errc::invalid_argument);
    EXPECT_ERROR(range_at(*store, StoreOperation::write, 0, 512), Errc::invalid_argument);
    EXPECT_ERROR(range_at(*store, StoreOperation::flush, 0, 512), Errc::invalid_argument);
    StoreRequest no_completion;
    EXPECT_ERROR(store->submit(std::move(no_completion)), Errc::invalid_argument);
}

TEST(FileStore, WhatWasOvertakenInTheQueueChangesNothing) {
    TemporaryDirectory directory;
    auto store = open_ok(directory.image("disk.img", kMiB));
    ASSERT_TRUE(store);
    for (const bool may : {false, true}) {
        auto bytes = pattern(512, 9);
        StoreRequest request = write_request(0, bytes);
        request.may_begin = [may] { return may; };
        std::promise<Result<>> ended;
        request.done = [&](Result<> result) { ended.set_value(std::move(result)); };
        ASSERT_OK(store->submit(std::move(request)));
        const Result<> result = ended.get_future().get();
        const auto found = read_at(*store, 0, 512);
        ASSERT_TRUE(found);
        if (may) {
            EXPECT_OK(result);
            EXPECT_EQ(*found, pattern(512, 9));
        } else {
            EXPECT_ERROR(result, Errc::stale_epoch);
            EXPECT_EQ(*found, std::vector<std::byte>(512));
        }
    }
}

TEST(FileStore, OpenNamesWhatIsWrong) {
    TemporaryDirectory directory;
    const auto expect = [](Result<std::unique_ptr<LocalStore>> store, Errc code,
                           const std::string& text) {
        ASSERT_FALSE(store.has_value());
        EXPECT_EQ(store.error().code, code) << store.error().to_string();
        EXPECT_NE(store.error().context.find(text), std::string::npos) << store.error().context;
    };
    expect(open_store("", {}), Errc::invalid_argument, "the path is empty");
    expect(open_store(directory.file("none.img"), {}), Errc::not_found, "none.img");
    expect(open_store(directory.image("odd.img", 1000), {}), Errc::invalid_argument,
           "1000 bytes, is not a multiple of 512");
    expect(open_store(directory.image("empty.img", 0), {}), Errc::invalid_argument, "is empty");
    expect(open_store("/dev/null", {}), Errc::invalid_argument,
           "neither a file nor a block device");
    StoreOptions options;
    options.size_bytes_expected = 2 * kMiB;
    expect(open_store(directory.image("small.img", kMiB), options), Errc::invalid_argument,
           "has 1048576 bytes, expected 2097152");
}

TEST(FileStore, TwoCannotHaveOneImage) {
    TemporaryDirectory directory;
    const std::string path = directory.image("disk.img", kMiB);
    auto first = open_ok(path);
    ASSERT_TRUE(first);
    EXPECT_ERROR(open_store(path, {}), Errc::busy);
    StoreOptions read_only;
    read_only.access = StoreAccess::read_only;
    EXPECT_ERROR(open_store(path, read_only), Errc::busy);
    first.reset();
    auto reader = open_ok(path, read_only);
    auto other_reader = open_ok(path, read_only);
    ASSERT_TRUE(reader && other_reader);
    EXPECT_ERROR(write_at(*reader, 0, pattern(512, 1)), Errc::invalid_argument);
    EXPECT_OK(read_at(*reader, 0, 512));
}

// A completion that holds up the only thread lets us fill the queue exactly.
TEST(FileStore, BoundedInFlightAndCloseEndsEverything) {
    TemporaryDirectory directory;
    StoreOptions options;
    options.thread_count = 1;
    options.requests_in_flight_max = 4;
    auto store = open_ok(directory.image("disk.img", kMiB), options);
    ASSERT_TRUE(store);
    std::mutex mutex;
    std::condition_variable changed;
    bool held = false;
    bool go_on = false;
    std::map<Errc, int> failures;
    int succeeded = 0;
    std::vector<std::byte> bytes(512);
    const auto request = [&](bool holds) {
        StoreRequest made;
        made.length_bytes = bytes.size();
        made.operation = StoreOperation::write;
        made.buffer = bytes;
        made.done = [&, holds](Result<> result) {
            std::unique_lock lock(mutex);
            result ? ++succeeded : ++failures[result.error().code];
            if (!holds) return;
            held = true;
            changed.notify_all();
            changed.wait(lock, [&] { return go_on; });
        };
        return made;
    };
    ASSERT_OK(store->submit(request(true)));
    {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return held; });
    }
    // The first is no longer counted: its completion has begun.
    for (int count = 0; count < 4; ++count) ASSERT_OK(store->submit(request(false)));
    StoreRequest one_more = request(false);
    EXPECT_ERROR(store->submit(std::move(one_more)), Errc::busy);
    EXPECT_TRUE(one_more.done) << "a refused request is untouched";
    EXPECT_EQ(store->status().requests_in_flight, 4u);
    std::thread closer([&] { EXPECT_OK(store->close()); });
    // close() takes the queue before it waits for the thread, so all four are cancelled.
    while (store->status().requests_in_flight != 0) std::this_thread::yield();
    {
        const std::lock_guard lock(mutex);
        go_on = true;
        changed.notify_all();
    }
    closer.join();
    EXPECT_EQ(succeeded, 1);
    EXPECT_EQ(failures[Errc::closed], 4);
    EXPECT_ERROR(store->submit(request(false)), Errc::closed);
    EXPECT_OK(store->close());
}

TEST(FileStore, TakesUpAGrownFileAndRefusesAShrunkOne) {
    TemporaryDirectory directory;
    const std::string path = directory.image("disk.img", kMiB);
    auto store = open_ok(path);
    ASSERT_TRUE(store);
    directory.image("disk.img", 2 * kMiB);
    EXPECT_EQ(store->size_bytes(), kMiB);
    EXPECT_EQ(store->refresh_size().value(), 2 * kMiB);
    EXPECT_OK(write_at(*store, 2 * kMiB - 512, pattern(512, 1)));
    directory.image("disk.img", kMiB);
    EXPECT_ERROR(store->refresh_size(), Errc::invalid_argument);
    EXPECT_ERROR(read_at(*store, 2 * kMiB - 512, 512), Errc::io);
}

}  // namespace
}  // namespace antipode::disksync
