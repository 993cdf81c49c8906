// Passwords, accounts, the login limiter and the certificate, without a server.
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include "common/base/base64.h"
#include "web/security/accounts.h"
#include "web/security/audit.h"
#include "web/security/https.h"
#include "web/security/login_limiter.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

using testing::HasSubstr;

constexpr ScryptCost kCheap{1 << 4, 8, 1};

TEST(Secrets, APasswordMatchesItsHashAndNoOther) {
    const auto hash = hash_password("correct horse", kCheap);
    ASSERT_TRUE(hash);
    EXPECT_EQ(verify_password("correct horse", *hash).value(), Match::yes);
    EXPECT_EQ(verify_password("correct horsf", *hash).value(), Match::no);
    EXPECT_EQ(verify_password("", *hash).value(), Match::no);
    EXPECT_EQ(verify_password(std::string(5000, 'x'), *hash).value(), Match::no);
    EXPECT_NE(hash_password("correct horse", kCheap).value(), *hash);  // salted
}

// RFC 7914 section 12: our format around the standard's second vector must verify.
TEST(Secrets, ScryptIsTheStandardOne) {
    const std::string wanted(
        "\xfd\xba\xbe\x1c\x9d\x34\x72\x00\x78\x56\xe7\x19\x0d\x01\xe9\xfe"
        "\x7c\x6a\xd7\xcb\xc8\x23\x78\x30\xe7\x73\x76\x63\x4b\x37\x31\x62",
        32);
    const std::string stored = "scrypt$1024$8$16$" + base64url("NaCl") + "$" + base64url(wanted);
    EXPECT_EQ(verify_password("password", stored).value(), Match::yes);
    EXPECT_EQ(verify_password("passwore", stored).value(), Match::no);
}

TEST(Secrets, ADamagedHashIsRefusedNotObeyed) {
    for (const char* stored :
         {"", "plain", "scrypt$16$8$1$AAAA", "scrypt$x$8$1$AAAA$AAAA", "scrypt$16$8$1$A$AAAA",
          "scrypt$16$8$1$!!!!$AAAA", "scrypt$17$8$1$AAAA$AAAA", "scrypt$1073741824$8$1$AAAA$AAAA",
          "scrypt$16$1000000$1$AAAA$AAAA", "scrypt$16$8$999$AAAA$AAAA",
          "bcrypt$16$8$1$AAAA$AAAA"}) {
        const auto refused = verify_password("x", stored);
        ASSERT_FALSE(refused) << stored;
        EXPECT_EQ(refused.error().code, Errc::corrupt) << stored;
    }
}

TEST(Secrets, AreLongAndNew) {
    EXPECT_EQ(random_secret().size(), 43u);
    EXPECT_NE(random_secret(), random_secret());
}

TEST(Secrets, WeakPasswordsAreNamed) {
    EXPECT_NE(password_weakness("admin", "short"), "");
    EXPECT_NE(password_weakness("admin", "aaaaaaaaaaaaaa"), "");
    EXPECT_NE(password_weakness("administrator", "administrator1"), "");
    EXPECT_NE(password_weakness("admin", std::string(2000, 'x')), "");
    EXPECT_EQ(password_weakness("admin", "correct horse"), "");
}

class AccountsTest : public testing::Test {
  protected:
    AccountsTest() : database_(std::move(*Database::open(":memory:"))), accounts_(*database_) {}
    void add(const char* name, Role role) {
        ASSERT_TRUE(accounts_.add_user(1, name, role, "hash"));
    }
    std::unique_ptr<Database> database_;
    Accounts accounts_;
    SessionLimits limits_;
};

TEST_F(AccountsTest, RolesAreRights) {
    using control::Access;
    EXPECT_TRUE(allows(Role::viewer, Access::read));
    EXPECT_FALSE(allows(Role::viewer, Access::drill));
    EXPECT_TRUE(allows(Role::drill_operator, Access::drill));
    EXPECT_FALSE(allows(Role::drill_operator, Access::operate));  // a drill is no failover
    EXPECT_TRUE(allows(Role::operator_, Access::operate));
    EXPECT_FALSE(allows(Role::operator_, Access::admin));
    EXPECT_TRUE(allows(Role::admin, Access::admin));
    for (const Role role : {Role::viewer, Role::drill_operator, Role::operator_, Role::admin}) {
        EXPECT_EQ(role_from_word(word(role)), role);
    }
}

TEST_F(AccountsTest, TheLastAdministratorStays) {
    add("ann", Role::admin);
    add("bob", Role::viewer);
    Accounts::UserChange demote;
    demote.role = Role::viewer;
    Accounts::UserChange disable;
    disable.disabled = true;
    for (const auto& refused :
         {accounts_.change_user(2, "ann", demote), accounts_.change_user(2, "ann", disable),
          accounts_.remove_user("ann")}) {
        ASSERT_FALSE(refused);
        EXPECT_THAT(refused.error().context, HasSubstr("'ann' is the last administrator"));
    }
    EXPECT_EQ(accounts_.find_user("ann")->role, Role::admin);
    Accounts::UserChange promote;
    promote.role = Role::admin;
    ASSERT_TRUE(accounts_.change_user(2, "bob", promote));
    EXPECT_TRUE(accounts_.remove_user("ann"));
    EXPECT_FALSE(accounts_.find_user("ann"));
    EXPECT_FALSE(accounts_.remove_user("bob"));
}

TEST_F(AccountsTest, SessionsEndByTimeByLogoutAndByChange) {
    add("ann", Role::admin);
    add("bob", Role::operator_);
    const auto made = accounts_.open_session(1000, "bob", "10.0.0.1");
    ASSERT_TRUE(made);
    const auto found = accounts_.find_session(2000, made->secret, limits_);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->user, "bob");
    EXPECT_EQ(found->role, Role::operator_);
    EXPECT_EQ(found->csrf, made->csrf);
    EXPECT_FALSE(accounts_.find_session(2000, made->csrf, limits_));
    EXPECT_FALSE(accounts_.find_session(2000, found->hash, limits_));  // the hash is no key

    // Use keeps it alive, idleness ends it, and age ends it whatever the use.
    int64_t now = 1000;
    while (now < limits_.age_ms) {
        now += limits_.idle_ms / 2;
        EXPECT_EQ(accounts_.find_session(now, made->secret, limits_).has_value(),
                  now - 1000 <= limits_.age_ms);
    }
    const auto idle = accounts_.open_session(1000, "bob", "10.0.0.1");
    EXPECT_FALSE(accounts_.find_session(1001 + limits_.idle_ms, idle->secret, limits_));
    EXPECT_FALSE(accounts_.find_session(1002, idle->secret, limits_));  // it is gone for good

    const auto changed = accounts_.open_session(1000, "bob", "10.0.0.1");
    Accounts::UserChange demote;
    demote.role = Role::viewer;
    ASSERT_TRUE(accounts_.change_user(1001, "bob", demote));
    EXPECT_FALSE(accounts_.find_session(1002, changed->secret, limits_));
    const auto removed = accounts_.open_session(1000, "bob", "10.0.0.1");
    ASSERT_TRUE(accounts_.remove_user("bob"));
    EXPECT_FALSE(accounts_.find_session(1002, removed->secret, limits_));
}

TEST_F(AccountsTest, SessionsOfOneUserAreBounded) {
    add("ann", Role::admin);
    std::vector<Accounts::NewSession> made;
    for (size_t i = 0; i < Accounts::kSessionsOfUserMax + 5; ++i) {
        made.push_back(*accounts_.open_session(static_cast<int64_t>(i), "ann", "x"));
    }
    EXPECT_FALSE(accounts_.find_session(100, made[4].secret, limits_));
    EXPECT_TRUE(accounts_.find_session(100, made[5].secret, limits_));
    EXPECT_TRUE(accounts_.find_session(100, made.back().secret, limits_));
}

TEST_F(AccountsTest, TokensAreShownOnceAndExpire) {
    const auto made = accounts_.add_token(1000, "grafana", Role::viewer, "ann", 5000);
    ASSERT_TRUE(made);
    EXPECT_THAT(made->secret, testing::StartsWith("antipode_"));
    const auto found = accounts_.find_token(2000, made->secret);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->name, "grafana");
    EXPECT_EQ(accounts_.tokens()->front().used_unix_ms, 2000);
    const auto expired = accounts_.find_token(5000, made->secret);
    ASSERT_FALSE(expired);
    EXPECT_THAT(expired.error().context, HasSubstr("'grafana' has expired"));
    EXPECT_FALSE(accounts_.add_token(1000, "grafana", Role::viewer, "ann", std::nullopt));
    EXPECT_FALSE(accounts_.find_token(2000, "antipode_guess"));
    ASSERT_TRUE(accounts_.remove_token(made->id));
    EXPECT_FALSE(accounts_.find_token(2000, made->secret));
    EXPECT_FALSE(accounts_.remove_token(made->id));
}

TEST_F(AccountsTest, NamesAreChecked) {
    for (const char* name : {"", "Ann", "a b", "-a", "a'; DROP TABLE users; --"}) {
        EXPECT_FALSE(accounts_.add_user(1, name, Role::viewer, "hash")) << name;
    }
    add("ann", Role::admin);
    const auto twice = accounts_.add_user(1, "ann", Role::viewer, "hash");
    ASSERT_FALSE(twice);
    EXPECT_EQ(twice.error().code, Errc::already_exists);
}

TEST_F(AccountsTest, TheAuditLogIsPaged) {
    AuditLog audit(*database_);
    for (int i = 1; i <= 5; ++i) {
        AuditEntry entry;
        entry.actor = fmt::format("a{}\nforged line", i);
        ASSERT_TRUE(audit.add(entry));
    }
    const auto newest = audit.find({0, 2});
    ASSERT_EQ(newest->size(), 2u);
    EXPECT_EQ((*newest)[0].id, 5);
    EXPECT_EQ((*newest)[0].actor, "a5 forged line");
    const auto older = audit.find({4, 10});
    ASSERT_EQ(older->size(), 3u);
    EXPECT_EQ((*older)[0].id, 3);
}

TEST(Database, AFileIsPrivateKeptAndChecked) {
    std::string pattern = testing::TempDir() + "db-XXXXXX";
    const std::string directory = ::mkdtemp(pattern.data());
    const std::string path = directory + "/web.db";
    {
        auto database = Database::open(path);
        ASSERT_TRUE(database) << database.error().to_string();
        ASSERT_TRUE(Accounts(**database).add_user(1, "ann", Role::admin, "hash"));
    }
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    {
        auto again = Database::open(path);
        ASSERT_TRUE(again);
        EXPECT_TRUE(Accounts(**again).find_user("ann"));
        ASSERT_TRUE((*again)->run("PRAGMA user_version=99"));
    }
    auto future = Database::open(path);
    ASSERT_FALSE(future);
    EXPECT_EQ(future.error().code, Errc::version);
    std::filesystem::remove_all(directory);
    std::filesystem::create_directories(directory);
    std::ofstream(path) << std::string(4096, 'x');
    auto garbage = Database::open(path);
    ASSERT_FALSE(garbage);
    EXPECT_EQ(garbage.error().code, Errc::corrupt);
    EXPECT_THAT(garbage.error().context, HasSubstr(path));
    auto missing = Database::open(directory + "/none/web.db");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, Errc::not_found);
    std::filesystem::remove_all(directory);
}

TEST(Database, ATransactionIsAllOrNothing) {
    auto database = std::move(*Database::open(":memory:"));
    const auto count = [&] {
        int64_t rows = -1;
        EXPECT_TRUE(database->query("SELECT count(*) FROM settings", {},
                                    [&](const SqlRow& row) { rows = row.number(0); }));
        return rows;
    };
    const auto failed = database->transaction([&]() -> Result<> {
        FT_TRY_VOID(database->run("INSERT INTO settings VALUES ('a', 'b')"));
        return fail(Errc::busy, "no");
    });
    EXPECT_FALSE(failed);
    EXPECT_EQ(count(), 0);
    ASSERT_TRUE(database->transaction(
        [&]() -> Result<> { return database->run("INSERT INTO settings VALUES ('a', 'b')"); }));
    EXPECT_EQ(count(), 1);
}

TEST(LoginLimiter, GuessingIsSlowedByAddressAndByName) {
    LoginLimiter limiter;
    Instant now{};
    for (int i = 0; i < 8; ++i) {
        EXPECT_FALSE(limiter.refused("10.0.0.1", "ann", now)) << i;
        limiter.failed("10.0.0.1", "ann", now);
    }
    const auto wait = limiter.refused("10.0.0.1", "ann", now);
    ASSERT_TRUE(wait);
    EXPECT_GT(wait->count(), 0);
    EXPECT_TRUE(limiter.refused("10.0.0.1", "bob", now));   // the address, whatever the name
    EXPECT_FALSE(limiter.refused("10.0.0.2", "ann", now));  // the name is not locked out by it
    EXPECT_FALSE(limiter.refused("10.0.0.1", "ann", now + *wait));
    // Many addresses on one name are slowed together.
    for (int i = 0; i < 40; ++i) limiter.failed(fmt::format("10.1.0.{}", i), "ann", now);
    EXPECT_TRUE(limiter.refused("10.9.9.9", "ann", now));
    limiter.succeeded("10.0.0.1", "ann");
    EXPECT_FALSE(limiter.refused("10.0.0.1", "ann", now));
}

TEST(LoginLimiter, ItsMemoryIsBounded) {
    LoginLimiter limiter;
    Instant now{};
    for (size_t i = 0; i < LoginLimiter::kBucketsMax * 2; ++i) {
        limiter.failed(fmt::format("address-{}", i), fmt::format("name-{}", i % 7), now);
    }
    EXPECT_LE(limiter.bucket_count(), LoginLimiter::kBucketsMax);
}

class HttpsTest : public testing::Test {
  protected:
    HttpsTest() {
        std::string pattern = testing::TempDir() + "https-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
        files_ = {directory_ + "/cert.pem", directory_ + "/key.pem"};
    }
    ~HttpsTest() override { std::filesystem::remove_all(directory_); }
    std::string directory_;
    HttpsFiles files_;
};

TEST_F(HttpsTest, TheSelfMadeCertificateServes) {
    ASSERT_TRUE(make_self_signed(files_, {"host.example", "127.0.0.1", "::1"}));
    struct stat info {};
    ASSERT_EQ(::stat(files_.key.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    const auto context = make_https(files_, TlsLeast::v1_3);
    ASSERT_TRUE(context) << context.error().to_string();
    EXPECT_EQ(SSL_CTX_get_min_proto_version((*context)->native_handle()), TLS1_3_VERSION);
    const auto older = make_https(files_, TlsLeast::v1_2);
    ASSERT_TRUE(older);
    EXPECT_EQ(SSL_CTX_get_min_proto_version((*older)->native_handle()), TLS1_2_VERSION);
    const auto facts = facts_of(files_.certificate);
    ASSERT_TRUE(facts);
    EXPECT_TRUE(facts->self_signed);
    EXPECT_THAT(facts->subject, HasSubstr("CN=host.example"));
    EXPECT_EQ(facts->fingerprint.size(), 95u);
    const auto again = make_self_signed(files_, {"other"});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, Errc::already_exists);  // never over the customer's own
}

TEST_F(HttpsTest, WhatIsWrongWithTheFilesIsNamed) {
    auto refused = make_https(files_, TlsLeast::v1_3);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr(files_.certificate));
    ASSERT_TRUE(make_self_signed(files_, {"a"}));
    std::filesystem::permissions(files_.key, std::filesystem::perms::others_read,
                                 std::filesystem::perm_options::add);
    refused = make_https(files_, TlsLeast::v1_3);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr("everybody may read this private key"));
    std::filesystem::permissions(files_.key, std::filesystem::perms::others_read,
                                 std::filesystem::perm_options::remove);
    const HttpsFiles other{directory_ + "/other.pem", directory_ + "/other.key"};
    ASSERT_TRUE(make_self_signed(other, {"b"}));
    refused = make_https({files_.certificate, other.key}, TlsLeast::v1_3);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr("is not the key of"));
    std::ofstream(files_.certificate) << "no certificate";
    refused = make_https(files_, TlsLeast::v1_3);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().context, HasSubstr("is no PEM certificate"));
}

}  // namespace
}  // namespace antipode::web
