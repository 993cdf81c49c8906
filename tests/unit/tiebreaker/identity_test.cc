#include "common/env/posix/tls.h"
#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/atomic_file.h"

namespace antipode::env {
namespace {

using tiebreaker::Existing;
using tiebreaker::write_file;
using tiebreaker::testing::Certificates;
using tiebreaker::testing::TempDirectory;

TEST(CertificateIdentity, UriComesBackAsItWas) {
    for (const char* uri :
         {"antipode://site/site-a", "antipode://site/site-a?pairs=web1", "antipode://tiebreaker/tb",
          "antipode://site/site-a?pairs=web1,db-*,*", "antipode://web/site-a"}) {
        const auto identity = CertificateIdentity::parse(uri);
        ASSERT_TRUE(identity.has_value()) << uri << ": " << identity.error().context;
        EXPECT_EQ(identity->uri(), uri);
    }
}

TEST(CertificateIdentity, WhatIsNoUriOfOursIsRefused) {
    for (const char* uri :
         {"", "http://site/a", "antipode://site", "antipode://site/", "antipode://root/a",
          "antipode://site/UPPER", "antipode://site/a?pairs=", "antipode://site/a?pairs=a,,b",
          "antipode://site/a?pairs=a,", "antipode://site/a?all=1", "antipode://site/a/b",
          "antipode://tiebreaker/a?pairs=b", "antipode://site/a?pairs=a*b",
          "antipode://site/a?pairs=../x", "antipode://site/a?pairs=a b"}) {
        EXPECT_FALSE(CertificateIdentity::parse(uri).has_value()) << uri;
    }
}

TEST(CertificateIdentity, CoversWhatItsPatternsSay) {
    const auto identity = *CertificateIdentity::parse("antipode://site/a?pairs=web1,db-*");
    EXPECT_TRUE(identity.covers(Name::literal("web1")));
    EXPECT_TRUE(identity.covers(Name::literal("db-7")));
    EXPECT_FALSE(identity.covers(Name::literal("web10")));
    EXPECT_FALSE(identity.covers(Name::literal("web")));
    EXPECT_FALSE(identity.covers(Name::literal("db7")));
    EXPECT_FALSE(CertificateIdentity::parse("antipode://site/a")->covers(Name::literal("a")));
    EXPECT_TRUE(
        CertificateIdentity::parse("antipode://site/a?pairs=*")->covers(Name::literal("x")));
}

class TlsFilesTest : public ::testing::Test {
  protected:
    // The error's text, or "" if the files are sound.
    static std::string error_of(TlsRole role, const TlsFiles& files) {
        const auto made = make_mutual_tls(role, files);
        return made ? std::string() : made.error().context;
    }
    void expect(const TlsFiles& files, std::string_view says) {
        const std::string text = error_of(TlsRole::client, files);
        EXPECT_NE(text.find(says), std::string::npos) << text << ", expected: " << says;
    }
    TempDirectory directory_;
    Certificates certificates_{directory_};
};

TEST_F(TlsFilesTest, SoundFilesAreTaken) {
    certificates_.site("site-a");
    certificates_.tiebreaker("tb");
    EXPECT_EQ(error_of(TlsRole::client, certificates_.files("site-a")), "");
    EXPECT_EQ(error_of(TlsRole::server, certificates_.files("tb")), "");
}

TEST_F(TlsFilesTest, EachThingThatCanBeWrongIsNamed) {
    certificates_.site("site-a");
    certificates_.site("site-b");
    certificates_.tiebreaker("tb");
    const TlsFiles good = certificates_.files("site-a");
    TlsFiles files = good;
    files.key = certificates_.files("site-b").key;
    expect(files, "belongs to another certificate");
    files = good;
    files.certificate = directory_ / "absent.pem";
    expect(files, "absent.pem: No such file");
    ASSERT_TRUE(write_file(directory_ / "garbage.pem", "no PEM at all", 0600, Existing::keep));
    files = good;
    files.certificate = directory_ / "garbage.pem";
    expect(files, "is no certificate in PEM");
    files = good;
    files.key = directory_ / "garbage.pem";
    expect(files, "is no private key in PEM");
    files = good;
    files.crl = directory_ / "garbage.pem";
    expect(files, "is no revocation list in PEM");
    files = good;
    files.ca = files.certificate;
    expect(files, "was not issued by the authority");
    expect(certificates_.files("tb"), "is not meant for a client");
    ASSERT_EQ(::chmod(good.key.c_str(), 0644), 0);
    expect(good, "everybody may read it");
}

TEST_F(TlsFilesTest, ACertificateOutOfItsTimeIsRefused) {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    certificates_.between("late", now - std::chrono::hours(2), now - std::chrono::hours(1));
    expect(certificates_.files("late"), "expired on");
    certificates_.between("early", now + std::chrono::hours(1), now + std::chrono::hours(2));
    expect(certificates_.files("early"), "is not valid before");
}

}  // namespace
}  // namespace antipode::env
