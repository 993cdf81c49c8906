// NbdStore against nbdkit: the contract, its error filter, and a server that is killed and comes
// back.
#include "disksync/nbd_store.h"

#include <atomic>
#include <fstream>
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "tests/unit/disksync/nbd_server.h"
#include "tests/unit/disksync/test_disk.h"

namespace antipode::disksync {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

class NbdStoreTest : public testing::Test {
  protected:
    void SetUp() override {
        if (!NbdServer::available()) GTEST_SKIP() << "nbdkit is not installed";
    }
    void serve(std::vector<std::string> arguments) {
        server_ = std::make_unique<NbdServer>(directory_.file("socket"), std::move(arguments));
    }
    void open(StoreOptions options = {}) {
        auto store = open_store(server_->uri(), options);
        ASSERT_OK(store);
        store_ = std::move(*store);
    }
    TemporaryDirectory directory_;
    std::unique_ptr<NbdServer> server_;
    std::unique_ptr<LocalStore> store_;
};

TEST_F(NbdStoreTest, ReadsWhatWasWritten) {
    serve({"file", directory_.image("disk.img", 64 * kMiB)});
    open();
    EXPECT_EQ(store_->size_bytes(), 64 * kMiB);
    ASSERT_OK(write_at(*store_, kMiB, pattern(3 * kMiB, 1)));
    ASSERT_OK(write_at(*store_, 512, pattern(512, 2), Fua::yes));
    ASSERT_OK(flush(*store_));
    EXPECT_EQ(read_at(*store_, kMiB, 3 * kMiB).value(), pattern(3 * kMiB, 1));
    EXPECT_EQ(read_at(*store_, 512, 512).value(), pattern(512, 2));
    ASSERT_OK(range_at(*store_, StoreOperation::write_zeroes, kMiB, kMiB));
    EXPECT_EQ(read_at(*store_, kMiB, kMiB).value(), std::vector<std::byte>(kMiB));
    EXPECT_OK(range_at(*store_, StoreOperation::discard, 2 * kMiB, kMiB));
    const auto extents = store_->extents(0, 64 * kMiB);
    ASSERT_OK(extents);
    EXPECT_EQ(extents->back().kind, ExtentKind::zero);
    uint64_t covered = 0;
    for (const auto& extent : *extents) covered += extent.length_bytes;
    EXPECT_EQ(covered, 64 * kMiB);
    EXPECT_OK(store_->close());
    EXPECT_ERROR(read_at(*store_, 0, 512), Errc::closed);
}

TEST_F(NbdStoreTest, ServersThatCanDoLittle) {
    serve({"--filter=noextents", "--filter=nozero", "--filter=fua", "memory", "size=8M",
           "zeromode=none"});
    open();
    ASSERT_OK(write_at(*store_, 0, pattern(4 * kMiB, 1), Fua::yes));
    ASSERT_OK(range_at(*store_, StoreOperation::write_zeroes, kMiB, 2 * kMiB, Fua::yes));
    EXPECT_EQ(read_at(*store_, kMiB, 2 * kMiB).value(), std::vector<std::byte>(2 * kMiB));
    const auto extents = store_->extents(0, 8 * kMiB);
    ASSERT_OK(extents);
    EXPECT_EQ(*extents, (std::vector<StoreExtent>{{0, 8 * kMiB, ExtentKind::data}}));
}

TEST_F(NbdStoreTest, ErrorsComeThroughWithTheOffset) {
    serve({"--filter=error", "memory", "size=1M", "error-pread=EIO", "error-pread-rate=100%"});
    open();
    const auto read = read_at(*store_, 4096, 512);
    ASSERT_FALSE(read.has_value());
    EXPECT_EQ(read.error().code, Errc::io);
    EXPECT_NE(read.error().context.find("read at 4096 of 512 bytes"), std::string::npos)
        << read.error().context;
    EXPECT_OK(write_at(*store_, 4096, pattern(512, 1)));
}

TEST_F(NbdStoreTest, AFullDiskIsSaidToBeFull) {
    serve({"--filter=error", "memory", "size=1M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%"});
    open();
    EXPECT_ERROR(write_at(*store_, 4096, pattern(512, 1)), Errc::no_space);
}

TEST_F(NbdStoreTest, OpenNamesWhatIsWrong) {
    EXPECT_ERROR(open_store("nbd+unix:///?socket=" + directory_.file("none"), {}),
                 Errc::unreachable);
    serve({"-r", "memory", "size=1M"});
    EXPECT_ERROR(open_store(server_->uri(), {}), Errc::denied);
    StoreOptions options;
    options.access = StoreAccess::read_only;
    options.size_bytes_expected = 2 * kMiB;
    EXPECT_ERROR(open_store(server_->uri(), options), Errc::invalid_argument);
    options.size_bytes_expected = kMiB;
    EXPECT_OK(open_store(server_->uri(), options));
}

TEST_F(NbdStoreTest, AnOddSizeIsRefused) {
    serve({"memory", "size=1000"});
    EXPECT_ERROR(open_store(server_->uri(), {}), Errc::invalid_argument);
}

// The memory plugin forgets everything when it is killed: the hardest case of a lost cache. What
// was answered but not flushed, and what was in flight, has to be there afterwards.
TEST_F(NbdStoreTest, AServerThatForgotGetsUnflushedWritesAgain) {
    serve({"memory", "size=1M"});
    open();
    ASSERT_OK(write_at(*store_, 0, pattern(4096, 1)));
    ASSERT_OK(write_at(*store_, 2048, pattern(4096, 2)));  // overlaps; must win again
    ASSERT_OK(range_at(*store_, StoreOperation::write_zeroes, 512, 512));
    server_->kill();
    server_->start();
    auto expected = pattern(2048, 1);
    std::fill(expected.begin() + 512, expected.begin() + 1024, std::byte{0});
    EXPECT_EQ(read_at(*store_, 0, 2048).value(), expected);
    EXPECT_EQ(read_at(*store_, 2048, 4096).value(), pattern(4096, 2));
    EXPECT_GE(store_->status().reconnects, 1u);
    EXPECT_EQ(store_->status().health, StoreHealth::ok);
    // Flushed: no longer kept. (A server that loses flushed data has broken its word.)
    ASSERT_OK(flush(*store_));
    server_->kill();
    server_->start();
    EXPECT_EQ(read_at(*store_, 2048, 4096).value(), std::vector<std::byte>(4096));
}

TEST_F(NbdStoreTest, KeepsABoundedAmount) {
    serve({"--filter=stats", "memory", "size=16M", "statsfile=" + directory_.file("stats")});
    StoreOptions options;
    options.unflushed_bytes_max = kMiB;
    open(options);
    for (uint64_t count = 0; count < 16; ++count) {
        ASSERT_OK(write_at(*store_, count * kMiB, pattern(kMiB, static_cast<uint8_t>(count))));
    }
    EXPECT_OK(store_->close());
    server_->stop();
    // The store flushed by itself, about once for each MiB, and once at the end.
    std::ifstream stats(directory_.file("stats"));
    std::string line;
    uint64_t flushes = 0;
    while (std::getline(stats, line)) {
        if (line.rfind("flush: ", 0) == 0) flushes = std::stoull(line.substr(7));
    }
    EXPECT_GE(flushes, 4u);
    EXPECT_LE(flushes, 17u);
}

TEST_F(NbdStoreTest, RequestsInFlightSurviveKills) {
    const std::string image = directory_.image("disk.img", 16 * kMiB);
    serve({"--filter=delay", "file", image, "delay-write=2ms"});
    open();
    std::atomic<int> left{256};
    std::atomic<int> failed{0};
    std::vector<std::vector<std::byte>> buffers;
    for (int count = 0; count < 256; ++count) {
        buffers.push_back(pattern(65536, static_cast<uint8_t>(count)));
    }
    for (uint64_t count = 0; count < 256; ++count) {
        StoreRequest request = write_request(count * 65536, buffers[count]);
        request.done = [&](Result<> result) {
            if (!result) ++failed;
            --left;
            left.notify_all();
        };
        ASSERT_OK(store_->submit(std::move(request)));
        if (count % 64 == 63) {
            server_->kill();
            server_->start();
        }
    }
    for (int now = left; now > 0; now = left) left.wait(now);
    EXPECT_EQ(failed, 0);
    for (uint64_t count = 0; count < 256; ++count) {
        EXPECT_EQ(read_at(*store_, count * 65536, 65536).value(), buffers[count]) << count;
    }
    EXPECT_OK(store_->close());
}

TEST_F(NbdStoreTest, GivesUpInTheEndAndSaysWhy) {
    serve({"memory", "size=1M"});
    StoreOptions options;
    options.reconnect_timeout = std::chrono::milliseconds(100);
    open(options);
    ASSERT_OK(read_at(*store_, 0, 512));
    server_->kill();
    EXPECT_ERROR(read_at(*store_, 0, 512), Errc::unreachable);
    EXPECT_EQ(store_->status().health, StoreHealth::failed);
    EXPECT_ERROR(read_at(*store_, 0, 512), Errc::unreachable);
    EXPECT_ERROR(store_->close(), Errc::unreachable);
}

TEST_F(NbdStoreTest, AServerThatCameBackSmallerIsRefused) {
    serve({"memory", "size=2M"});
    open();
    server_->kill();
    server_ = std::make_unique<NbdServer>(directory_.file("socket"),
                                          std::vector<std::string>{"memory", "size=1M"});
    EXPECT_ERROR(read_at(*store_, 0, 512), Errc::invalid_argument);
}

TEST_F(NbdStoreTest, CloseDoesNotHangWithoutAServer) {
    serve({"memory", "size=1M"});
    open();
    ASSERT_OK(write_at(*store_, 0, pattern(512, 1)));
    server_->kill();
    std::atomic<bool> ended{false};
    std::vector<std::byte> bytes(512);
    StoreRequest request = write_request(0, bytes);
    request.done = [&](Result<> result) {
        EXPECT_FALSE(result.has_value());
        ended = true;
    };
    ASSERT_OK(store_->submit(std::move(request)));
    EXPECT_ERROR(store_->close(), Errc::closed);
    EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace antipode::disksync
