#include "tiebreaker/sqlite_store.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/base/random.h"
#include "tests/unit/tiebreaker/fixture.h"
#include "tests/unit/tiebreaker/power_loss_vfs.h"
#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker {
namespace {

using testing::commit_of;
using testing::member;
using testing::record_of;
using testing::TempDirectory;

class SqliteStoreTest : public ::testing::Test {
  protected:
    std::unique_ptr<SqliteStore> open(SqliteStore::Use use = SqliteStore::Use::serve) {
        auto opened = SqliteStore::open(path_, use, &core_, registry_);
        EXPECT_TRUE(opened.has_value()) << opened.error().to_string();
        return opened ? std::move(*opened) : nullptr;
    }
    std::string open_error(SqliteStore::Use use = SqliteStore::Use::serve) {
        auto opened = SqliteStore::open(path_, use, &core_, registry_);
        return opened ? std::string() : opened.error().context;
    }
    CommitResult put(SqliteStore& store, const std::string& pair, uint64_t epoch,
                     uint64_t expected_version) {
        return store.commit_now(
            commit_of(record_of(pair, epoch, store.identity()), expected_version));
    }
    TempDirectory directory_;
    std::string path_ = directory_ / "arbiter.db";
    boost::asio::io_context core_{1};
    Registry registry_;
};

TEST_F(SqliteStoreTest, IsMadeOnceAndKeepsItsIdentity) {
    auto store = open();
    const auto identity = store->identity();
    EXPECT_NE(identity, wire::StoreIdentity(0));
    EXPECT_TRUE(store->load()->empty());
    store.reset();
    EXPECT_EQ(open()->identity(), identity);
}

TEST_F(SqliteStoreTest, TwoDaemonsDoNotShareIt) {
    auto store = open();
    EXPECT_NE(open_error().find("locked by another process"), std::string::npos);
    EXPECT_NE(open(SqliteStore::Use::read), nullptr);
}

TEST_F(SqliteStoreTest, WritesOnlyOnTheVersionThatWasExpected) {
    auto store = open();
    ASSERT_TRUE(store->load());
    EXPECT_EQ(put(*store, "web1", 1, 0).kind, CommitResult::Kind::committed);
    const CommitResult second = put(*store, "web1", 2, 1);
    ASSERT_EQ(second.kind, CommitResult::Kind::committed);
    EXPECT_EQ(second.current->version, 2u);
    for (const uint64_t wrong : {uint64_t{0}, uint64_t{1}, uint64_t{3}}) {
        const CommitResult result = put(*store, "web1", 9, wrong);
        EXPECT_EQ(result.kind, CommitResult::Kind::conflict);
        EXPECT_EQ(result.current->record.epoch, Epoch(2));
    }
    EXPECT_EQ(put(*store, "web2", 1, 5).kind, CommitResult::Kind::conflict);
    Commit look;
    look.pair = Name::literal("web1");
    look.expected_version = 2;
    EXPECT_EQ(store->commit_now(look).kind, CommitResult::Kind::committed);
    look.expected_version = 1;
    EXPECT_EQ(store->commit_now(look).kind, CommitResult::Kind::conflict);
    EXPECT_EQ(store->load()->size(), 1u);
    EXPECT_EQ(store->history(Name(), 100)->size(), 2u);
    EXPECT_TRUE(store->verify()->findings.empty());
}

TEST_F(SqliteStoreTest, CommitsFromItsThreadComeBackInOrderOnTheLoop) {
    auto store = open();
    ASSERT_TRUE(store->load());
    ASSERT_TRUE(store->start({}));
    constexpr size_t kPairs = 300;
    std::vector<size_t> order;
    for (size_t i = 0; i < kPairs; ++i) {
        Commit commit = commit_of(record_of(fmt::format("pair-{}", i), 1, store->identity()), 0);
        commit.done = [&, i](CommitResult result) {
            EXPECT_EQ(result.kind, CommitResult::Kind::committed);
            order.push_back(i);
            if (order.size() == kPairs) core_.stop();
        };
        store->commit(std::move(commit));
    }
    auto work = boost::asio::make_work_guard(core_);
    core_.run();
    store->stop();
    ASSERT_EQ(order.size(), kPairs);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    const std::string text = registry_.prometheus_text();
    EXPECT_NE(text.find("antipode_tiebreaker_records_written_total 300"), std::string::npos);
    store.reset();
    EXPECT_EQ(open()->load()->size(), kPairs);
}

TEST_F(SqliteStoreTest, AnyChangeOfHistoryIsFound) {
    {
        auto store = open();
        ASSERT_TRUE(store->load());
        for (uint64_t epoch = 1; epoch <= 5; ++epoch) put(*store, "web1", epoch, epoch - 1);
        EXPECT_TRUE(store->verify()->findings.empty());
    }
    // Behind the store's back, past its triggers.
    const std::vector<std::string> changes{
        "UPDATE history SET at_ms = at_ms + 1 WHERE sequence = 3",
        "UPDATE history SET by = 'nobody' WHERE sequence = 2",
        "UPDATE history SET kind = 4 WHERE sequence = 5",
        "UPDATE history SET record = NULL WHERE sequence = 4",
        "DELETE FROM history WHERE sequence = 1",
        "DELETE FROM history WHERE sequence = 5",
        "UPDATE pair SET record = (SELECT record FROM history WHERE sequence = 2)",
        "UPDATE pair SET record = x'00'",
    };
    for (const std::string& change : changes) {
        const std::string kept = directory_ / "kept.db";
        std::filesystem::copy_file(path_, kept, std::filesystem::copy_options::overwrite_existing);
        {
            auto database = Database::open(kept, Database::Open::write);
            ASSERT_TRUE(database);
            ASSERT_TRUE(database->run("DROP TRIGGER history_is_not_changed"));
            ASSERT_TRUE(database->run("DROP TRIGGER history_is_not_deleted"));
            ASSERT_TRUE(database->run(change.c_str()));
        }
        auto store = SqliteStore::open(kept, SqliteStore::Use::read, &core_, registry_);
        ASSERT_TRUE(store);
        EXPECT_FALSE((*store)->verify()->findings.empty()) << change;
    }
}

TEST_F(SqliteStoreTest, HistoryCannotBeChangedByAccident) {
    auto store = open();
    ASSERT_TRUE(store->load());
    put(*store, "web1", 1, 0);
    auto database = Database::open(path_, Database::Open::write);
    EXPECT_FALSE(database->run("UPDATE history SET by = 'x'").has_value());
    EXPECT_FALSE(database->run("DELETE FROM history").has_value());
    EXPECT_FALSE(database->run("DELETE FROM pair").has_value());
}

TEST_F(SqliteStoreTest, WhatIsNoDatabaseOrDamagedIsRefused) {
    ASSERT_TRUE(write_file(path_, std::string(8192, 'x'), 0600, Existing::keep));
    EXPECT_NE(open_error().find("not a database"), std::string::npos) << open_error();
    ::unlink(path_.c_str());
    {
        auto database = Database::open(path_, Database::Open::create);
        ASSERT_TRUE(database->run("CREATE TABLE t (x)"));
    }
    EXPECT_NE(open_error().find("no tiebreaker's database"), std::string::npos) << open_error();
    ::unlink(path_.c_str());
    {
        auto store = open();
        ASSERT_TRUE(store->load());
        for (int i = 0; i < 200; ++i) put(*store, fmt::format("pair-{}", i), 1, 0);
    }
    const UniqueFd file(::open(path_.c_str(), O_RDWR));
    const std::string garbage(4096, '\x55');
    for (off_t page = 1; page < 20; ++page) {
        ASSERT_EQ(::pwrite(file.get(), garbage.data(), garbage.size(), page * 4096), 4096);
    }
    EXPECT_FALSE(open_error().empty());
}

// A record whose checksum does not hold stops the daemon, instead of being left out.
TEST_F(SqliteStoreTest, ADamagedRecordIsNamed) {
    {
        auto store = open();
        ASSERT_TRUE(store->load());
        put(*store, "web1", 1, 0);
    }
    {
        auto database = Database::open(path_, Database::Open::write);
        ASSERT_TRUE(database->run("UPDATE pair SET record = zeroblob(248)"));
    }
    auto store = open();
    const auto loaded = store->load();
    ASSERT_FALSE(loaded.has_value());
    EXPECT_EQ(loaded.error().code, Errc::corrupt);
    EXPECT_NE(loaded.error().context.find("pair web1"), std::string::npos);
}

TEST_F(SqliteStoreTest, ACopyInItsPlaceIsNoticed) {
    {
        auto store = open();
        ASSERT_TRUE(store->load());
        put(*store, "web1", 1, 0);
    }
    const std::string copy = directory_ / "old-copy";
    std::filesystem::copy_file(path_, copy);
    ::unlink(path_.c_str());
    std::filesystem::copy_file(copy, path_);
    EXPECT_NE(open_error().find("is a copy"), std::string::npos) << open_error();
}

TEST_F(SqliteStoreTest, ARestoredBackupHasANewIdentityAndAllRecords) {
    const std::string backup = directory_ / "backup";
    wire::StoreIdentity old;
    {
        auto store = open();
        ASSERT_TRUE(store->load());
        old = store->identity();
        put(*store, "web1", 1, 0);
        auto reader = open(SqliteStore::Use::read);
        ASSERT_TRUE(reader->backup(backup));
        EXPECT_FALSE(reader->backup(backup).has_value()) << "an existing file is not overwritten";
        put(*store, "web1", 2, 1);
        EXPECT_FALSE(SqliteStore::restore(backup, path_).has_value()) << "the daemon runs";
    }
    const auto restored = SqliteStore::restore(backup, path_);
    ASSERT_TRUE(restored.has_value()) << restored.error().context;
    EXPECT_NE(*restored, old);
    auto store = open();
    EXPECT_EQ(store->identity(), *restored);
    const auto records = store->load();
    ASSERT_EQ(records->size(), 1u);
    EXPECT_EQ((*records)[0].record.epoch, Epoch(1));
    EXPECT_EQ((*records)[0].record.store, old) << "it must be enrolled again";
    const auto history = store->history(Name::literal("web1"), 10);
    ASSERT_EQ(history->size(), 2u) << "and who restored it is to be seen";
    EXPECT_EQ(history->back().by,
              fmt::format("{}, who restored the store from {}, of store {:016x}",
                          administrator(::getuid()), backup, old.value()));
    EXPECT_EQ(put(*store, "web1", 3, 1).kind, CommitResult::Kind::committed);
    EXPECT_TRUE(store->verify()->findings.empty());
    EXPECT_TRUE(std::filesystem::exists(path_ + ".replaced"));
}

// A database without the log beside it is an older one, and nothing tells it from the newest: so a
// restore that is cut short must never part the two.
TEST_F(SqliteStoreTest, ARestoreThatFailsLeavesTheDatabaseWithItsLog) {
    const std::string backup = directory_ / "backup";
    const std::string killed = directory_ / "killed";  // as kill -9 leaves it, its log beside it
    {
        auto store = open();
        ASSERT_TRUE(store->load());
        put(*store, "web1", 1, 0);
        ASSERT_TRUE(store->backup(backup));
        put(*store, "web1", 2, 1);
        std::filesystem::copy_file(path_, killed);
        std::filesystem::copy_file(path_ + "-wal", killed + "-wal");
    }
    std::filesystem::create_directories(killed + ".replaced/in-the-way");
    EXPECT_FALSE(SqliteStore::restore(backup, killed).has_value());
    auto store = SqliteStore::open(killed, SqliteStore::Use::read, &core_, registry_);
    ASSERT_TRUE(store);
    const auto records = (*store)->load();
    ASSERT_TRUE(records && records->size() == 1) << "decisions were lost";
    EXPECT_EQ(records->front().record.epoch, Epoch(2));
}

TEST_F(SqliteStoreTest, ALogOfAnotherDatabaseIsNotReadIntoANewOne) {
    const std::string left = directory_ / "left";  // where a restore was killed: the log alone
    {
        auto store = open();
        ASSERT_TRUE(store->load());
        put(*store, "web1", 1, 0);
        std::filesystem::copy_file(path_ + "-wal", left + "-wal");
    }
    path_ = left;
    auto store = open();
    EXPECT_TRUE(store->load()->empty());
    EXPECT_EQ(put(*store, "web2", 1, 0).kind, CommitResult::Kind::committed);
    EXPECT_TRUE(store->verify()->findings.empty());
    EXPECT_TRUE(std::filesystem::exists(left + ".replaced-wal"));
}

TEST_F(SqliteStoreTest, ADamagedBackupIsNotRestored) {
    const std::string backup = directory_ / "backup";
    {
        auto store = open();
        ASSERT_TRUE(store->load());
        put(*store, "web1", 1, 0);
        ASSERT_TRUE(store->backup(backup));
    }
    {
        auto database = Database::open(backup, Database::Open::write);
        ASSERT_TRUE(database->run("UPDATE pair SET record = zeroblob(248)"));
    }
    EXPECT_FALSE(SqliteStore::restore(backup, path_).has_value());
    EXPECT_EQ(open()->load()->size(), 1u) << "the old one stays";
}

// A child commits as fast as it can, tells through a pipe what was answered, and is killed at a
// random moment; everything that was answered must be there.
void commit_for_ever(const std::string& path, int pipe) {
    boost::asio::io_context core(1);
    Registry registry;
    auto store = SqliteStore::open(path, SqliteStore::Use::serve, &core, registry);
    if (!store) ::_exit(3);
    std::map<std::string, uint64_t> versions;
    const auto all = (*store)->load();
    (*store)->set_history_limits({20, 8});  // so that it dies while lines are taken out, too
    if (!all || !(*store)->start({})) ::_exit(4);
    for (const Stored& stored : *all)
        versions[std::string(stored.record.pair.view())] = stored.version;
    constexpr int kPairs = 16;
    std::function<void(int)> next = [&](int i) {
        const std::string pair = fmt::format("pair-{}", i);
        const uint64_t version = versions[pair];
        Commit commit = commit_of(record_of(pair, version + 1, (*store)->identity()), version);
        commit.done = [&, i, pair](CommitResult result) {
            if (result.kind != CommitResult::Kind::committed) ::_exit(5);
            versions[pair] = result.current->version;
            const std::array<uint64_t, 2> said{static_cast<uint64_t>(i), versions[pair]};
            if (::write(pipe, said.data(), sizeof(said)) != sizeof(said)) ::_exit(6);
            next(i);
        };
        (*store)->commit(std::move(commit));
    };
    for (int i = 0; i < kPairs; ++i) next(i);
    auto work = boost::asio::make_work_guard(core);
    core.run();
}

TEST_F(SqliteStoreTest, EverythingAnsweredSurvivesKill9) {
    Random random(20261121);
    std::map<uint64_t, uint64_t> answered;
    size_t answers = 0;
    for (int round = 0; round < 12; ++round) {
        int pipe[2];
        ASSERT_EQ(::pipe(pipe), 0);
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            ::close(pipe[0]);
            commit_for_ever(path_, pipe[1]);
            ::_exit(7);
        }
        ::close(pipe[1]);
        // It dies after a random number of answers, in the middle of whatever it does then.
        const uint64_t enough = random.between(1, 400);
        std::array<uint64_t, 2> said{};
        for (uint64_t count = 0; ::read(pipe[0], said.data(), sizeof(said)) == sizeof(said);) {
            answered[said[0]] = said[1];
            ++answers;
            if (++count == enough) ::kill(child, SIGKILL);
        }
        ::close(pipe[0]);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
        auto store = open();
        const auto all = store->load();
        ASSERT_TRUE(all.has_value()) << all.error().context;
        std::map<std::string, Stored> there;
        for (const Stored& stored : *all) there[std::string(stored.record.pair.view())] = stored;
        for (const auto& [pair, version] : answered) {
            const Stored& stored = there.at(fmt::format("pair-{}", pair));
            EXPECT_GE(stored.version, version);
            EXPECT_EQ(stored.record.epoch.value(), stored.version);
        }
        const auto verification = store->verify();
        ASSERT_TRUE(verification);
        EXPECT_TRUE(verification->findings.empty()) << verification->findings.front();
    }
    EXPECT_GT(answers, 100u);
}

// The power fails right after an answer: what was synced by then must hold it.
TEST_F(SqliteStoreTest, EverythingAnsweredSurvivesPowerLoss) {
    {
        auto made = open();  // renamed into place; the files under test are written below
    }
    const testing::PowerLossVfs power;
    auto store = open();
    ASSERT_TRUE(store->load());
    store->set_history_limits({3, 2});
    const size_t syncs_before = power.sync_count();
    constexpr int kCommits = 60;
    for (int i = 0; i < kCommits; ++i) {
        const std::string pair = fmt::format("pair-{}", i % 7);
        const auto version = static_cast<uint64_t>(i / 7);
        ASSERT_EQ(put(*store, pair, version + 1, version).kind, CommitResult::Kind::committed);
        if (i % 10 != 9) continue;
        const TempDirectory after;
        power.survivors(directory_.path(), after.path());
        auto survived =
            SqliteStore::open(after / "arbiter.db", SqliteStore::Use::read, nullptr, registry_);
        ASSERT_TRUE(survived.has_value()) << survived.error().to_string();
        uint64_t versions = 0;
        const auto records = (*survived)->load();
        ASSERT_TRUE(records.has_value()) << records.error().to_string();
        for (const Stored& stored : *records) versions += stored.version;
        EXPECT_EQ(versions, static_cast<uint64_t>(i + 1));
        EXPECT_TRUE((*survived)->verify()->findings.empty());
    }
    EXPECT_GE(power.sync_count() - syncs_before, static_cast<size_t>(kCommits));
}

// ---- The limit of a pair's history ----

class HistoryLimitTest : public SqliteStoreTest {
  protected:
    static constexpr HistoryLimits kLimits{16, 8};
    std::unique_ptr<SqliteStore> opened() {
        auto store = open();
        EXPECT_TRUE(store->load());
        store->set_history_limits(kLimits);
        return store;
    }
    // A denial: a line that changes nothing.
    CommitResult deny(SqliteStore& store, const std::string& pair, uint64_t version) {
        Commit commit = commit_of(record_of(pair, version, store.identity()), version);
        commit.record.reset();
        commit.history->record.reset();
        commit.history->kind = wire::AnswerKind::denied;
        return store.commit_now(std::move(commit));
    }
    size_t lines_of(SqliteStore& store, const char* pair) {
        return store.history(Name::literal(pair), 100000)->size();
    }
    void expect_sound(SqliteStore& store, uint64_t taken_out) {
        const auto verified = store.verify();
        ASSERT_TRUE(verified.has_value()) << verified.error().context;
        for (const std::string& finding : verified->findings) ADD_FAILURE() << finding;
        if (taken_out == 0) {
            EXPECT_EQ(verified->lines_taken_out, 0u);
        } else {
            EXPECT_GE(verified->lines_taken_out, taken_out);
        }
    }
};

TEST_F(HistoryLimitTest, OnePairsChangesAreBoundedAndTheOthersLinesStay) {
    auto store = opened();
    ASSERT_EQ(put(*store, "quiet", 1, 0).kind, CommitResult::Kind::committed);
    constexpr uint64_t kChanges = 500;
    for (uint64_t i = 0; i < kChanges; ++i) {
        ASSERT_EQ(put(*store, "noisy", i + 1, i).kind, CommitResult::Kind::committed);
        if (i % 100 == 7) {
            ASSERT_EQ(put(*store, "quiet", i, i / 100 + 1).kind, CommitResult::Kind::committed);
        }
        ASSERT_LE(lines_of(*store, "noisy"), 2 * (kLimits.changes_max + kLimits.others_max));
    }
    EXPECT_EQ(lines_of(*store, "quiet"), 6u);
    expect_sound(*store, kChanges - 2 * kLimits.changes_max);
    // The newest change is that of the record as it stands; what was taken out is said.
    const auto lines = *store->history(Name::literal("noisy"), 100000);
    uint64_t said = 0;
    Epoch newest;
    for (const Decided& line : lines) {
        if (line.record) newest = line.record->epoch;
        if (line.by == kTakenOutBy) said = line.unlisted;
    }
    EXPECT_EQ(newest, Epoch(kChanges));
    EXPECT_EQ(said, store->verify()->lines_taken_out);
    EXPECT_NE(registry_.prometheus_text().find("history_lines_taken_out_total"), std::string::npos);
}

TEST_F(HistoryLimitTest, DenialsDoNotPushOutChanges) {
    auto store = opened();
    for (uint64_t i = 0; i < 10; ++i) put(*store, "web1", i + 1, i);
    for (int i = 0; i < 300; ++i) {
        ASSERT_EQ(deny(*store, "web1", 10).kind, CommitResult::Kind::committed);
    }
    const auto lines = *store->history(Name::literal("web1"), 100000);
    const auto changes = std::count_if(lines.begin(), lines.end(),
                                       [](const Decided& line) { return line.record.has_value(); });
    EXPECT_EQ(changes, 10);
    EXPECT_LE(lines.size(), 10 + 2 * kLimits.others_max);
    expect_sound(*store, 250);
}

TEST_F(HistoryLimitTest, ItGoesOnAfterARestartAndInACopy) {
    for (int life = 0; life < 5; ++life) {
        auto store = opened();
        const auto version = static_cast<uint64_t>(life) * 60;
        for (uint64_t i = 0; i < 60; ++i) {
            ASSERT_EQ(put(*store, "web1", version + i + 1, version + i).kind,
                      CommitResult::Kind::committed);
        }
        expect_sound(*store, life == 0 ? 30 : static_cast<uint64_t>(life) * 60);
        EXPECT_LE(lines_of(*store, "web1"), 2 * (kLimits.changes_max + kLimits.others_max));
    }
    const std::string backup = directory_ / "backup";
    ASSERT_TRUE(open()->backup(backup));
    ASSERT_TRUE(SqliteStore::restore(backup, path_));
    expect_sound(*opened(), 200);
}

// A run of missing lines that no line of history vouches for, or that hides one that is there.
TEST_F(HistoryLimitTest, LinesThatSomebodyElseTookOutAreFound) {
    {
        auto store = opened();
        for (uint64_t i = 0; i < 100; ++i) put(*store, "web1", i + 1, i);
        put(*store, "web2", 1, 0);
        expect_sound(*store, 50);
    }
    const std::vector<std::string> changes{
        "INSERT INTO pruned SELECT max(sequence) - 1, max(sequence) - 1, "
        "(SELECT chain FROM history WHERE sequence = (SELECT max(sequence) - 1 FROM history)) "
        "FROM history; DELETE FROM history WHERE sequence = (SELECT max(sequence) - 1 FROM "
        "history)",
        "INSERT INTO pruned SELECT max(sequence), max(sequence), chain FROM history",
        "DELETE FROM pruned",
        "UPDATE pruned SET chain = zeroblob(32)",
        "UPDATE pruned SET last = last + 1",
    };
    for (const std::string& change : changes) {
        const std::string kept = directory_ / "kept.db";
        std::filesystem::copy_file(path_, kept, std::filesystem::copy_options::overwrite_existing);
        {
            auto database = Database::open(kept, Database::Open::write);
            ASSERT_TRUE(database);
            const auto changed = database->run(change.c_str());
            ASSERT_TRUE(changed.has_value()) << changed.error().context;
        }
        auto store = SqliteStore::open(kept, SqliteStore::Use::read, &core_, registry_);
        ASSERT_TRUE(store);
        EXPECT_FALSE((*store)->verify()->findings.empty()) << change;
    }
}

// What failed, on a full disk, is neither in history nor counted.
TEST_F(HistoryLimitTest, AFailedCommitTakesNothingOut) {
    auto store = opened();
    uint64_t version = 0;
    for (; version < 17; ++version) put(*store, "web1", version + 1, version);
    expect_sound(*store, 0);
    store->set_pages_max(0);
    int fillers = 0;
    while (put(*store, fmt::format("filler-{}", fillers), 1, 0).kind ==
           CommitResult::Kind::committed) {
        ASSERT_LT(++fillers, 10000);
    }
    for (int i = 0; i < 30; ++i) (void)put(*store, "web1", version + 1, version);
    version = (*store->load())[static_cast<size_t>(fillers)].version;  // web1 is the last by name
    store->set_pages_max(1 << 20);
    store->set_history_limits(kLimits);
    for (int i = 0; i < 60; ++i, ++version) {
        ASSERT_EQ(put(*store, "web1", version + 1, version).kind, CommitResult::Kind::committed);
    }
    expect_sound(*store, 40);
}

// As a program of before the limit made it.
TEST_F(HistoryLimitTest, ADatabaseOfTheOldFormatIsTakenOver) {
    {
        auto store = opened();
        for (uint64_t i = 0; i < 10; ++i) put(*store, "web1", i + 1, i);
    }
    {
        auto database = Database::open(path_, Database::Open::write);
        ASSERT_TRUE(
            database->run("DROP TRIGGER history_is_not_deleted; DROP TABLE pruned;"
                          "CREATE TRIGGER history_is_not_deleted BEFORE DELETE ON history "
                          "BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;"
                          "PRAGMA user_version = 1"));
    }
    auto reader = SqliteStore::open(path_, SqliteStore::Use::read, &core_, registry_);
    ASSERT_TRUE(reader) << reader.error().context;
    expect_sound(**reader, 0);
    reader->reset();
    auto store = opened();
    for (uint64_t i = 10; i < 100; ++i) {
        ASSERT_EQ(put(*store, "web1", i + 1, i).kind, CommitResult::Kind::committed);
    }
    expect_sound(*store, 60);
}

// Each write and sync of a commit fails once, or from then on: full, broken, read-only. What was
// said to be committed is there afterwards, what was said to have failed is not.
TEST_F(SqliteStoreTest, WhateverWriteFailsNothingIsSaidThatIsNotSo) {
    using Failure = testing::PowerLossVfs::Failure;
    size_t failures = 0, recovered = 0;
    for (const int code : {SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC, SQLITE_READONLY}) {
        for (const Failure failure : {Failure::once, Failure::lasting}) {
            for (size_t number = 1; number <= 14; ++number) {
                const TempDirectory place;
                path_ = place / "arbiter.db";
                open();  // made
                testing::PowerLossVfs disk;
                std::map<std::string, CommitResult::Kind> said;
                {
                    auto store = open();
                    ASSERT_TRUE(store->load());
                    ASSERT_EQ(put(*store, "first", 1, 0).kind, CommitResult::Kind::committed);
                    disk.fail_at(number, code, failure);
                    bool doubted = false;
                    for (int i = 0; i < 4; ++i) {
                        const std::string pair = fmt::format("pair-{}", i);
                        said[pair] = put(*store, pair, 1, 0).kind;
                        EXPECT_TRUE(!doubted || said[pair] == CommitResult::Kind::doubtful)
                            << "after a doubt nothing is sure";
                        doubted = doubted || said[pair] == CommitResult::Kind::doubtful;
                    }
                    failures += disk.has_failed() ? 1 : 0;
                    disk.fail_at(0, SQLITE_OK, Failure::once);
                    if (!doubted && disk.has_failed()) ++recovered;
                }
                auto store = open();
                const auto there = store->load();
                ASSERT_TRUE(there.has_value()) << there.error().context;
                EXPECT_TRUE(store->verify()->findings.empty());
                for (const auto& [pair, kind] : said) {
                    const bool found = std::any_of(there->begin(), there->end(),
                                                   [&, name = pair](const Stored& stored) {
                                                       return stored.record.pair.view() == name;
                                                   });
                    if (kind == CommitResult::Kind::doubtful) continue;
                    EXPECT_EQ(found, kind == CommitResult::Kind::committed)
                        << pair << " failing with " << code << " at " << number;
                }
            }
        }
    }
    EXPECT_GT(failures, 50u);
}

// A full disk, by way of SQLite's own limit: nothing is written, and it goes on once there is room.
TEST_F(SqliteStoreTest, AFullDiskFailsCleanlyAndPasses) {
    auto store = open();
    ASSERT_TRUE(store->load());
    ASSERT_EQ(put(*store, "web1", 1, 0).kind, CommitResult::Kind::committed);
    CommitResult result;
    store->set_pages_max(0);  // no more than it has
    int made = 0;
    do {
        result = put(*store, fmt::format("pair-{}", made++), 1, 0);
    } while (result.kind == CommitResult::Kind::committed && made < 10000);
    EXPECT_EQ(result.kind, CommitResult::Kind::failed);
    EXPECT_NE(result.error.find("full"), std::string::npos) << result.error;
    const size_t before = store->load()->size();
    EXPECT_EQ(before, static_cast<size_t>(made));  // web1, and all but the last
    store->set_pages_max(1 << 20);
    EXPECT_EQ(put(*store, "after", 1, 0).kind, CommitResult::Kind::committed);
    EXPECT_TRUE(store->verify()->findings.empty());
}

}  // namespace
}  // namespace antipode::tiebreaker
