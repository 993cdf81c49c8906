// FencedStore: old epochs are refused, durably.
#include "disksync/fenced_store.h"

#include <gtest/gtest.h>
#include <thread>

#include "tests/unit/disksync/test_disk.h"

namespace antipode::disksync {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

FencedStore::Options options_of(const char* pair, const char* disk) {
    FencedStore::Options options;
    options.pair = Name::literal(pair);
    options.disk = Name::literal(disk);
    options.metadata_missing = FencedStore::Options::Missing::create;
    return options;
}

class FencedStoreTest : public testing::Test {
  protected:
    void SetUp() override {
        path_ = directory_.image("disk.img", kMiB);
        open();
    }
    void open() {
        store_.reset();
        auto store = FencedStore::open(path_, options_of("web1", "rootfs"));
        ASSERT_OK(store);
        store_ = std::move(*store);
    }
    Result<> write(uint64_t epoch) {
        return write_at(*store_, 0, pattern(512, static_cast<uint8_t>(epoch)), Fua::no,
                        Epoch(epoch));
    }
    TemporaryDirectory directory_;
    std::string path_;
    std::unique_ptr<FencedStore> store_;
};

TEST_F(FencedStoreTest, OldEpochsAreRefusedAlsoAfterARestart) {
    ASSERT_OK(store_->fence(Epoch(3)));
    EXPECT_OK(write(3));
    ASSERT_OK(store_->fence(Epoch(5)));
    EXPECT_ERROR(write(3), Errc::stale_epoch);
    EXPECT_ERROR(write(4), Errc::stale_epoch);
    EXPECT_OK(write(5));
    open();
    EXPECT_EQ(store_->highest_epoch(), Epoch(5));
    EXPECT_ERROR(write(3), Errc::stale_epoch);
    EXPECT_EQ(read_at(*store_, 0, 512).value(), pattern(512, 5));
    EXPECT_OK(write(5));
    EXPECT_ERROR(store_->fence(Epoch(4)), Errc::stale_epoch);
    EXPECT_OK(store_->fence(Epoch(5)));
}

TEST_F(FencedStoreTest, EveryChangeIsFencedAndNothingElse) {
    ASSERT_OK(store_->fence(Epoch(2)));
    for (const StoreOperation operation : {StoreOperation::discard, StoreOperation::write_zeroes}) {
        EXPECT_ERROR(range_at(*store_, operation, 0, 512), Errc::stale_epoch);
    }
    EXPECT_OK(read_at(*store_, 0, 512));
    EXPECT_OK(flush(*store_));
}

TEST_F(FencedStoreTest, AnEpochIsRecordedBeforeItWrites) {
    EXPECT_ERROR(write(1), Errc::invalid_argument);
    ASSERT_OK(store_->fence(Epoch(1)));
    EXPECT_OK(write(1));
}

TEST_F(FencedStoreTest, AnotherPairsOrSizesMetadataIsRefused) {
    store_.reset();
    EXPECT_ERROR(FencedStore::open(path_, options_of("web2", "rootfs")), Errc::invalid_argument);
    EXPECT_ERROR(FencedStore::open(path_, options_of("web1", "data")), Errc::invalid_argument);
    directory_.image("disk.img", kMiB / 2);
    EXPECT_ERROR(FencedStore::open(path_, options_of("web1", "rootfs")), Errc::invalid_argument);
}

TEST_F(FencedStoreTest, ADiskMayGrowAndKeepsItsFence) {
    ASSERT_OK(store_->fence(Epoch(3)));
    ASSERT_OK(write(3));
    store_.reset();
    const auto metadata_bytes = std::filesystem::file_size(metadata_path_of(path_));
    std::filesystem::resize_file(path_, 4096 * kMiB);
    open();
    EXPECT_EQ(store_->size_bytes(), 4096 * kMiB);
    EXPECT_GT(std::filesystem::file_size(metadata_path_of(path_)), metadata_bytes);
    EXPECT_ERROR(write(2), Errc::stale_epoch);
    EXPECT_EQ(read_at(*store_, 0, 512).value(), pattern(512, 3));
    ASSERT_OK(write_at(*store_, 4096 * kMiB - 512, pattern(512, 9), Fua::no, Epoch(3)));
    open();
    EXPECT_EQ(read_at(*store_, 4096 * kMiB - 512, 512).value(), pattern(512, 9));
    std::filesystem::resize_file(path_, kMiB);
    store_.reset();
    EXPECT_ERROR(FencedStore::open(path_, options_of("web1", "rootfs")), Errc::invalid_argument);
}

TEST_F(FencedStoreTest, MissingMetadataIsRefusedUnlessAskedFor) {
    store_.reset();
    std::filesystem::remove(metadata_path_of(path_));
    FencedStore::Options options = options_of("web1", "rootfs");
    options.metadata_missing = FencedStore::Options::Missing::refuse;
    EXPECT_ERROR(FencedStore::open(path_, options), Errc::not_found);
}

// A store whose writes end when the test says so.
class HeldStore final : public LocalStore {
  public:
    Result<> submit(StoreRequest&& request) override {
        held = std::move(request);
        return {};
    }
    Result<> close() override { return {}; }
    uint64_t size_bytes() const override { return kMiB; }
    uint32_t alignment_bytes() const override { return 512; }
    uint32_t requests_in_flight_max() const override { return 1; }
    const std::string& name() const override { return name_; }
    Result<std::vector<StoreExtent>> extents(uint64_t, uint64_t) override {
        return fail(Errc::unsupported, "held store: extents");
    }
    Result<uint64_t> refresh_size() override { return kMiB; }
    StoreStatus status() const override { return {}; }
    StoreRequest held;

  private:
    std::string name_ = "held";
};

TEST_F(FencedStoreTest, FenceWaitsForOlderWritesInFlight) {
    const auto name = Name::literal("web1");
    auto metadata = create_metadata(directory_.file("held.antipode"), name, name, kMiB);
    ASSERT_OK(metadata);
    auto held = std::make_unique<HeldStore>();
    HeldStore& below = *held;
    FencedStore store(std::move(held), std::move(*metadata), std::chrono::milliseconds(20));
    ASSERT_OK(store.fence(Epoch(1)));
    std::vector<std::byte> bytes(512);
    StoreRequest request = write_request(0, bytes, Epoch(1));
    bool done = false;
    request.done = [&](Result<>) { done = true; };
    ASSERT_OK(store.submit(std::move(request)));
    // Still in flight: the fence is up, but cannot promise yet.
    EXPECT_ERROR(store.fence(Epoch(2)), Errc::busy);
    EXPECT_EQ(store.highest_epoch(), Epoch(2));
    EXPECT_EQ(store.recorded_epoch(), Epoch(1));
    StoreRequest late = write_request(0, bytes, Epoch(1));
    late.done = [](Result<>) {};
    EXPECT_ERROR(store.submit(std::move(late)), Errc::stale_epoch);
    StoreRequest early = write_request(0, bytes, Epoch(2));
    early.done = [](Result<>) {};
    EXPECT_ERROR(store.submit(std::move(early)), Errc::invalid_argument);
    std::thread ends([&] { below.held.done({}); });
    ends.join();
    EXPECT_TRUE(done);
    EXPECT_OK(store.fence(Epoch(2)));
    EXPECT_EQ(store.recorded_epoch(), Epoch(2));
}

}  // namespace
}  // namespace antipode::disksync
