// Who is not let in, and who is thrown out: certificates that are wrong, and protocols that are not
// ours.
#include <openssl/err.h>

#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker::testing {
namespace {

class CertificateErrors : public ::testing::Test {
  protected:
    CertificateErrors() {
        certificates_.tiebreaker("tb");
        certificates_.site("site-a");
        Config config = test_config(directory_, certificates_);
        config.listener.handshake_limit = std::chrono::milliseconds(1000);
        daemon_.emplace(std::move(config));
    }
    // A TLS 1.3 client has shaken hands before the server has judged its certificate: the refusal
    // comes as an alert in place of the first bytes.
    void expect_alert(const env::TlsFiles& files, std::string_view alert,
                      int version_max = TLS1_3_VERSION) {
        const auto context = raw_context(files, version_max);
        RawClient client(daemon_->port(), context.get());
        if (client.shook_hands()) {
            client.send(0, wire::ArbiterHello{Name::literal("site-a")});
            EXPECT_TRUE(client.hung_up());
        }
        EXPECT_NE(client.error().find(alert), std::string::npos) << client.error();
        EXPECT_EQ(session_count(), 0u);
    }
    size_t session_count() {
        const std::string text = daemon_->on_core([](Daemon& d) { return d.metrics_text(); });
        constexpr std::string_view kLine = "\nantipode_tiebreaker_sessions_total ";
        const auto at = text.find(kLine);
        EXPECT_NE(at, std::string::npos);
        return std::stoul(text.substr(at + kLine.size()));
    }
    void expect_welcome(const std::string& name) {
        const auto context = raw_context(certificates_.files(name));
        RawClient client(daemon_->port(), context.get());
        client.hello(name.c_str());
    }
    void expect_revoked(const std::string& name) {
        const auto context = raw_context(certificates_.files(name));
        RawClient client(daemon_->port(), context.get());
        EXPECT_TRUE(client.hung_up());
        EXPECT_NE(client.error().find("revoked"), std::string::npos) << client.error();
    }
    TempDirectory directory_;
    Certificates certificates_{directory_};
    std::optional<RunningDaemon> daemon_;
};

TEST_F(CertificateErrors, ASoundOneIsWelcome) {
    expect_welcome("site-a");
}

TEST_F(CertificateErrors, None) {
    expect_alert({}, "certificate required");
}

TEST_F(CertificateErrors, OldTls) {
    expect_alert(certificates_.files("site-a"), "protocol version", TLS1_2_VERSION);
}

TEST_F(CertificateErrors, OfAnotherAuthority) {
    const TempDirectory elsewhere;
    Certificates others(elsewhere);
    others.site("site-a");
    expect_alert(others.files("site-a"), "unknown ca");
}

TEST_F(CertificateErrors, Expired) {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    certificates_.between("late", now - std::chrono::hours(2), now - std::chrono::hours(1));
    expect_alert(certificates_.files("late"), "certificate expired");
}

TEST_F(CertificateErrors, NotYetValid) {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    certificates_.between("early", now + std::chrono::hours(1), now + std::chrono::hours(2));
    expect_alert(certificates_.files("early"), "bad certificate");
}

TEST_F(CertificateErrors, OfAServer) {
    expect_alert(certificates_.files("tb"), "unsupported certificate");
}

// It may connect to servers, but it is no site.
TEST_F(CertificateErrors, OfAWebDaemon) {
    const KeyPointer key = make_key();
    const Subject subject{{env::PeerRole::web, Name::literal("site-a"), {}}, {"localhost"}};
    const auto issued = certificates_.authority().issue(subject, key.get(), Authority::Days(1));
    ASSERT_TRUE(issued);
    const auto files = certificates_.files("web");
    ASSERT_TRUE(write_file(files.certificate, issued->pem, 0644, Existing::keep));
    ASSERT_TRUE(write_file(files.key, key_pem(key.get()), 0600, Existing::keep));
    const auto context = raw_context(files);
    RawClient client(daemon_->port(), context.get());
    const auto error = client.expect<wire::ArbiterError>(0);
    EXPECT_EQ(error.code, Errc::denied);
    EXPECT_NE(error.text.find("not of a site"), std::string::npos);
    EXPECT_TRUE(client.hung_up());
}

TEST_F(CertificateErrors, RevokedWhileConnectedAndAfter) {
    const std::string serial = certificates_.site("site-b");
    const auto context_a = raw_context(certificates_.files("site-a"));
    const auto context_b = raw_context(certificates_.files("site-b"));
    RawClient a(daemon_->port(), context_a.get());
    RawClient b(daemon_->port(), context_b.get());
    a.hello("site-a");
    b.hello("site-b");
    ASSERT_TRUE(certificates_.authority().revoke(serial, "key-compromise"));
    // The daemon notices that the file has changed by itself.
    const auto error = b.expect<wire::ArbiterError>(0);
    EXPECT_EQ(error.text, "the certificate was revoked");
    EXPECT_TRUE(b.hung_up());
    RawClient again(daemon_->port(), context_b.get());
    EXPECT_TRUE(again.hung_up());
    EXPECT_NE(again.error().find("revoked"), std::string::npos) << again.error();
    a.send(7, wire::ArbiterPing{});
    (void)a.expect<wire::ArbiterPong>(7);
}

// The handshake is judged by the list that was there when it began; the session by the newest.
TEST_F(CertificateErrors, RevokedInTheMiddleOfItsHandshake) {
    const std::string serial = certificates_.site("site-b");
    daemon_.reset();
    Config patient = test_config(directory_, certificates_);
    patient.listener.handshake_limit = std::chrono::minutes(5);
    daemon_.emplace(std::move(patient));
    const auto context = raw_context(certificates_.files("site-b"));
    RawClient b(daemon_->port(), context.get(), RawClient::HoldLastFlight());
    ASSERT_TRUE(b.shook_hands()) << b.error();
    ASSERT_TRUE(certificates_.authority().revoke(serial, "key-compromise"));
    daemon_->on_core([](Daemon& d) { d.reload(); });
    b.send_last_flight();
    const auto error = b.expect<wire::ArbiterError>(0);
    EXPECT_EQ(error.text, "the certificate was revoked");
    EXPECT_TRUE(b.hung_up());
    expect_welcome("site-a");
}

// A CRL that is being replaced must not let everybody in, nor shut everybody out.
TEST_F(CertificateErrors, ABrokenCrlLeavesTheOldOneInUse) {
    const std::string serial = certificates_.site("site-b");
    ASSERT_TRUE(certificates_.authority().revoke(serial, "unspecified"));
    daemon_->on_core([](Daemon& d) { d.reload(); });
    ASSERT_TRUE(
        write_file(certificates_.authority().crl_path(), "half a f", 0644, Existing::replace));
    daemon_->on_core([](Daemon& d) { d.reload(); });
    expect_welcome("site-a");
    expect_revoked("site-b");
}

// A list of another authority, or one that is out of date, would let nobody in.
TEST_F(CertificateErrors, ACrlThatCannotHoldLeavesTheOldOneInUse) {
    const std::string serial = certificates_.site("site-b");
    ASSERT_TRUE(certificates_.authority().revoke(serial, "unspecified"));
    daemon_->on_core([](Daemon& d) { d.reload(); });
    const TempDirectory elsewhere;
    Certificates other(elsewhere);
    const auto theirs = read_file(other.authority().crl_path(), 1 << 20);
    ASSERT_TRUE(theirs.has_value());
    ASSERT_TRUE(write_file(certificates_.authority().crl_path(), *theirs, 0644, Existing::replace));
    env::TlsFiles files = certificates_.files("site-a");
    const auto refused = env::make_mutual_tls(env::TlsRole::client, files);
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().context.find("was not made by the authority"), std::string::npos)
        << refused.error().context;
    daemon_->on_core([](Daemon& d) { d.reload(); });
    expect_welcome("site-a");
    expect_revoked("site-b");
}

TEST_F(CertificateErrors, Plaintext) {
    RawClient client(daemon_->port(), nullptr);
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    char first = 0;
    const ssize_t got = ::recv(client.descriptor(), &first, 1, 0);
    EXPECT_TRUE(got == 0 || (got == 1 && first == 0x15)) << "closed, or a TLS alert and closed";
    expect_welcome("site-a");
}

TEST_F(CertificateErrors, AFrameWithoutTls) {
    RawClient client(daemon_->port(), nullptr);
    client.send(0, wire::ArbiterHello{Name::literal("site-a")});
    std::string all;
    char bytes[256];
    ssize_t got = 0;
    while ((got = ::recv(client.descriptor(), bytes, sizeof(bytes), 0)) > 0) {
        all.append(bytes, static_cast<size_t>(got));
    }
    EXPECT_EQ(all.find("APTB"), std::string::npos);
}

TEST_F(CertificateErrors, AHandshakeThatDoesNotEndIsCut) {
    RawClient silent(daemon_->port(), nullptr);
    char byte = 0;
    EXPECT_EQ(::recv(silent.descriptor(), &byte, 1, 0), 0);
    // One that trickles is cut as well.
    RawClient slow(daemon_->port(), nullptr);
    slow.send(std::string("\x16\x03\x01\x02\x00", 5));
    EXPECT_LE(::recv(slow.descriptor(), &byte, 1, 0), 0);
    expect_welcome("site-a");
}

}  // namespace
}  // namespace antipode::tiebreaker::testing
