#include "tiebreaker/ca/authority.h"

#include <openssl/pem.h>
#include <sys/stat.h>

#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker {
namespace {

using testing::TempDirectory;

Subject site(const char* name, std::vector<std::string> pairs = {}) {
    return {{env::PeerRole::site, Name::literal(name), std::move(pairs)}, {}};
}

class AuthorityTest : public ::testing::Test {
  protected:
    AuthorityTest() {
        auto made = Authority::init(path_, "Test CA", Authority::Days(100));
        EXPECT_TRUE(made.has_value()) << made.error().to_string();
        if (made) authority_.emplace(std::move(*made));
    }
    void open_again() {
        authority_.reset();
        auto opened = Authority::open(path_);
        ASSERT_TRUE(opened.has_value()) << opened.error().to_string();
        authority_.emplace(std::move(*opened));
    }
    mode_t mode_of(const std::string& name) {
        struct stat info {};
        EXPECT_EQ(::stat((path_ + "/" + name).c_str(), &info), 0) << name;
        return info.st_mode & 07777u;
    }
    TempDirectory directory_;
    std::string path_ = directory_ / "ca";
    std::optional<Authority> authority_;
};

TEST_F(AuthorityTest, KeysAreTheOwnersOnly) {
    EXPECT_EQ(mode_of("ca.key"), 0600u);
    EXPECT_EQ(mode_of("."), 0700u);
    EXPECT_EQ(mode_of("index"), 0600u);
    EXPECT_EQ(mode_of("ca.pem"), 0644u);
}

TEST_F(AuthorityTest, IsNotMadeTwice) {
    authority_.reset();
    const auto again = Authority::init(path_, "Other", Authority::Days(1));
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code, Errc::already_exists);
}

TEST_F(AuthorityTest, KeepsOthersOutWhileItLives) {
    const auto second = Authority::open(path_);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::busy);
}

// What a crash before the last step of init leaves behind.
TEST_F(AuthorityTest, WithoutItsKeyItIsNoneAndInitMayRunAgain) {
    authority_.reset();
    ASSERT_EQ(::unlink((path_ + "/ca.key").c_str()), 0);
    EXPECT_FALSE(Authority::open(path_).has_value());
    EXPECT_TRUE(Authority::init(path_, "Test CA", Authority::Days(1)).has_value());
}

TEST_F(AuthorityTest, IndexSurvivesOpening) {
    const KeyPointer key = make_key();
    const auto a =
        authority_->issue(site("site-a", {"web1", "db-*"}), key.get(), Authority::Days(9));
    const Subject server{{env::PeerRole::tiebreaker, Name::literal("tb"), {}},
                         {"tb.example", "10.0.0.3", "fd00::3"}};
    const auto b = authority_->issue(server, key.get(), Authority::Days(9));
    ASSERT_TRUE(a && b);
    ASSERT_TRUE(authority_->revoke(a->serial, "key-compromise"));
    open_again();
    ASSERT_EQ(authority_->index().size(), 2u);
    EXPECT_EQ(authority_->index()[0].subject, site("site-a", {"web1", "db-*"}));
    EXPECT_TRUE(authority_->index()[0].revoked());
    EXPECT_EQ(authority_->index()[0].reason, "key-compromise");
    EXPECT_EQ(authority_->index()[1].subject, server);
    EXPECT_EQ(authority_->index()[1].not_after, b->not_after);
    EXPECT_FALSE(authority_->index()[1].revoked());
}

TEST_F(AuthorityTest, CertificateSaysWhatWasAskedFor) {
    const Subject server{{env::PeerRole::tiebreaker, Name::literal("tb"), {}},
                         {"tb.example", "10.0.0.3", "fd00::3"}};
    const auto issued = authority_->issue(server, make_key().get(), Authority::Days(9));
    ASSERT_TRUE(issued);
    ASSERT_TRUE(write_file(directory_ / "tb.pem", issued->pem, 0644, Existing::keep));
    const auto certificate = env::read_certificate(directory_ / "tb.pem");
    ASSERT_TRUE(certificate);
    EXPECT_EQ(*subject_of(certificate->get()), server);
    EXPECT_EQ(env::serial_of(certificate->get()), issued->serial);
    EXPECT_EQ(X509_check_host(certificate->get(), "tb.example", 0, 0, nullptr), 1);
    EXPECT_EQ(X509_check_ip_asc(certificate->get(), "10.0.0.3", 0), 1);
    EXPECT_EQ(X509_check_ip_asc(certificate->get(), "10.0.0.4", 0), 0);
}

TEST_F(AuthorityTest, NeverOutlivesItsAuthority) {
    const auto issued = authority_->issue(site("site-a"), make_key().get(), Authority::Days(5000));
    ASSERT_TRUE(issued);
    const auto ca = env::read_certificate(authority_->ca_path());
    EXPECT_EQ(issued->not_after, env::not_after_of(ca->get()));
}

TEST_F(AuthorityTest, RevokedIsInTheListAtOnceAndOnlyOnce) {
    const auto a = authority_->issue(site("site-a"), make_key().get(), Authority::Days(9));
    const auto b = authority_->issue(site("site-b"), make_key().get(), Authority::Days(9));
    ASSERT_TRUE(a && b);
    EXPECT_TRUE(env::revoked_serials(authority_->crl_path())->empty());
    ASSERT_TRUE(authority_->revoke(a->serial, "unspecified"));
    EXPECT_EQ(*env::revoked_serials(authority_->crl_path()), std::set{a->serial});
    EXPECT_EQ(authority_->revoke(a->serial, "unspecified").error().code, Errc::already_exists);
    EXPECT_EQ(authority_->revoke("ABCD", "unspecified").error().code, Errc::not_found);
    EXPECT_EQ(authority_->revoke(b->serial, "just so").error().code, Errc::invalid_argument);
}

// A crash between the index and the CRL.
TEST_F(AuthorityTest, ARevocationThatMissedTheListIsMadeUpFor) {
    const auto a = authority_->issue(site("site-a"), make_key().get(), Authority::Days(9));
    ASSERT_TRUE(a);
    const std::string old_crl = *read_file(authority_->crl_path(), 1 << 20);
    ASSERT_TRUE(authority_->revoke(a->serial, "unspecified"));
    const std::string index = *read_file(path_ + "/index", 1 << 20);
    ASSERT_TRUE(write_file(authority_->crl_path(), old_crl, 0644, Existing::replace));
    ASSERT_TRUE(write_file(path_ + "/index", index, 0600, Existing::replace));
    open_again();
    EXPECT_EQ(*env::revoked_serials(authority_->crl_path()), std::set{a->serial});
}

// The files' times say nothing: a clock that was set back made the old list the younger file.
TEST_F(AuthorityTest, AnOldListThatLooksYoungerIsMadeAnew) {
    const auto a = authority_->issue(site("site-a"), make_key().get(), Authority::Days(9));
    ASSERT_TRUE(a);
    const std::string old_crl = *read_file(authority_->crl_path(), 1 << 20);
    ASSERT_TRUE(authority_->revoke(a->serial, "unspecified"));
    ASSERT_TRUE(write_file(authority_->crl_path(), old_crl, 0644, Existing::replace));
    open_again();
    EXPECT_EQ(*env::revoked_serials(authority_->crl_path()), std::set{a->serial});
}

TEST_F(AuthorityTest, ALostOrDamagedListIsMadeAnew) {
    const auto a = authority_->issue(site("site-a"), make_key().get(), Authority::Days(9));
    ASSERT_TRUE(a && authority_->revoke(a->serial, "unspecified"));
    ASSERT_EQ(::unlink(authority_->crl_path().c_str()), 0);
    open_again();
    EXPECT_EQ(*env::revoked_serials(authority_->crl_path()), std::set{a->serial});
    ASSERT_TRUE(write_file(authority_->crl_path(), "no list", 0644, Existing::replace));
    open_again();
    EXPECT_EQ(*env::revoked_serials(authority_->crl_path()), std::set{a->serial});
}

TEST_F(AuthorityTest, RequestCarriesNamesAndProvesItsKey) {
    const Subject subject = site("site-a", {"web1"});
    const KeyPointer key = make_key();
    const auto pem = request_pem(subject, key.get());
    ASSERT_TRUE(pem);
    ASSERT_TRUE(write_file(directory_ / "a.csr", *pem, 0644, Existing::keep));
    const auto read = read_request(directory_ / "a.csr");
    ASSERT_TRUE(read.has_value()) << read.error().context;
    EXPECT_EQ(read->subject, subject);
    EXPECT_EQ(EVP_PKEY_eq(read->key.get(), key.get()), 1);
}

// The signature's last bytes, changed in the DER.
TEST_F(AuthorityTest, ARequestNotSignedByItsKeyIsRefused) {
    const auto pem = request_pem(site("site-a"), make_key().get());
    ASSERT_TRUE(pem);
    BIO* in = BIO_new_mem_buf(pem->data(), static_cast<int>(pem->size()));
    unsigned char* der = nullptr;
    char *name = nullptr, *header = nullptr;
    long bytes = 0;
    ASSERT_EQ(PEM_read_bio(in, &name, &header, &der, &bytes), 1);
    der[bytes - 1] = static_cast<unsigned char>(der[bytes - 1] ^ 1);
    BIO* out = BIO_new(BIO_s_mem());
    PEM_write_bio(out, name, "", der, bytes);
    char* text = nullptr;
    const long length = BIO_get_mem_data(out, &text);
    ASSERT_TRUE(write_file(directory_ / "a.csr", {text, static_cast<size_t>(length)}, 0644,
                           Existing::keep));
    BIO_free(in);
    BIO_free(out);
    OPENSSL_free(der);
    OPENSSL_free(name);
    OPENSSL_free(header);
    const auto read = read_request(directory_ / "a.csr");
    ASSERT_FALSE(read.has_value());
    EXPECT_NE(read.error().context.find("not signed by the key"), std::string::npos)
        << read.error().context;
}

TEST_F(AuthorityTest, WrongSubjectsAreRefused) {
    const KeyPointer key = make_key();
    const auto refused = [&](const Subject& subject) {
        return !authority_->issue(subject, key.get(), Authority::Days(1)).has_value();
    };
    EXPECT_TRUE(refused({{env::PeerRole::tiebreaker, Name::literal("tb"), {}}, {}}));
    EXPECT_TRUE(refused({{env::PeerRole::tiebreaker, Name::literal("tb"), {}}, {"bad host"}}));
    EXPECT_TRUE(refused({{env::PeerRole::site, Name::literal("a"), {}}, {"10.0.0.1"}}));
    EXPECT_TRUE(refused(site("a", {"not a name"})));
    EXPECT_TRUE(refused({{env::PeerRole::site, Name(), {}}, {}}));
    const KeyPointer other(EVP_EC_gen("P-384"));
    EXPECT_FALSE(authority_->issue(site("a"), other.get(), Authority::Days(1)).has_value());
    EXPECT_TRUE(authority_->index().empty());
}

TEST_F(AuthorityTest, ADamagedIndexIsNamedByLine) {
    ASSERT_TRUE(authority_->issue(site("site-a"), make_key().get(), Authority::Days(9)));
    const std::string index = *read_file(path_ + "/index", 1 << 20);
    ASSERT_TRUE(write_file(path_ + "/index", index + "garbage\n", 0600, Existing::replace));
    authority_.reset();
    const auto opened = Authority::open(path_);
    ASSERT_FALSE(opened.has_value());
    EXPECT_NE(opened.error().context.find("index:3: 1 fields"), std::string::npos)
        << opened.error().context;
}

}  // namespace
}  // namespace antipode::tiebreaker
