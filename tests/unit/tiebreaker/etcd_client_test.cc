// The client of etcd's gateway against a member that turns it away.
#include <arpa/inet.h>
#include <csignal>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <thread>

#include "common/base/unique_fd.h"
#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/etcd/client.h"

namespace antipode::tiebreaker::etcd {
namespace {

// Shakes hands with one client, whose certificate it does not take; then, with the client's request
// arriving, hangs up without reading it. The alert is followed by a reset.
class MemberThatRefuses {
  public:
    explicit MemberThatRefuses(const env::TlsFiles& files)
        : context_(SSL_CTX_new(TLS_server_method())),
          listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        SSL_CTX* context = context_.get();
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
        EXPECT_EQ(SSL_CTX_load_verify_locations(context, files.ca.c_str(), nullptr), 1);
        EXPECT_EQ(SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()), 1);
        EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM), 1);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        auto* raw = reinterpret_cast<sockaddr*>(&address);
        socklen_t length = sizeof(address);
        EXPECT_EQ(::bind(listener_.get(), raw, length), 0);
        EXPECT_EQ(::listen(listener_.get(), 1), 0);
        EXPECT_EQ(::getsockname(listener_.get(), raw, &length), 0);
        port_ = ntohs(address.sin_port);
        thread_ = std::thread([this] { serve(); });
    }
    ~MemberThatRefuses() { thread_.join(); }
    std::string url() const { return fmt::format("https://127.0.0.1:{}", port_); }

  private:
    void serve() {
        const UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        SSL* ssl = SSL_new(context_.get());
        SSL_set_fd(ssl, socket.get());
        EXPECT_NE(SSL_accept(ssl), 1);
        pollfd request{socket.get(), POLLIN, 0};
        EXPECT_EQ(::poll(&request, 1, 10'000), 1);
        SSL_free(ssl);  // the socket is closed with the request unread
    }
    testing::SslContextPointer context_;
    UniqueFd listener_;
    uint16_t port_ = 0;
    std::thread thread_;
};

// The request does not fit into the sockets' buffers: it is still being sent when the member is
// gone. What the member said before counts, not that the rest could not be sent.
TEST(EtcdClient, WhyAMemberHangsUpIsToldAlsoWhileSending) {
    std::signal(SIGPIPE, SIG_IGN);
    testing::TempDirectory ours, theirs;
    testing::Certificates known(ours), foreign(theirs);
    known.web("etcd-1");
    foreign.web("stranger");
    MemberThatRefuses member(known.files("etcd-1"));
    ClientSettings settings;
    settings.endpoints = {member.url()};
    settings.ca = known.files("etcd-1").ca;
    settings.certificate = foreign.files("stranger").certificate;
    settings.key = foreign.files("stranger").key;
    settings.request_limit = std::chrono::seconds(10);
    settings.probe_key = std::string(size_t{32} << 20, 'k');
    Client client(settings);
    const Reply reply = client.call("/v3/kv/range", "{}");
    EXPECT_EQ(reply.kind, Reply::Kind::not_sent);
    EXPECT_NE(reply.error.find("alert"), std::string::npos) << reply.error;
}

}  // namespace
}  // namespace antipode::tiebreaker::etcd
