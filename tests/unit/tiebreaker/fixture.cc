#include "tests/unit/tiebreaker/fixture.h"

#include <arpa/inet.h>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <netinet/in.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker::testing {

TempDirectory::TempDirectory() {
    std::string pattern = "/tmp/antipode-tiebreaker-test-XXXXXX";
    const char* made = ::mkdtemp(pattern.data());
    EXPECT_NE(made, nullptr);
    path_ = pattern;
}

TempDirectory::~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

Certificates::Certificates(const TempDirectory& directory) : directory_(directory) {
    auto made = Authority::init(directory / "ca", "Test CA", Authority::Days(3650));
    EXPECT_TRUE(made.has_value()) << made.error().to_string();
    authority_.emplace(std::move(*made));
}

env::TlsFiles Certificates::files(const std::string& name) const {
    return {authority_->ca_path(), authority_->crl_path(), directory_ / (name + ".pem"),
            directory_ / (name + ".key")};
}

std::string Certificates::issue(const Subject& subject) {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const KeyPointer key = make_key();
    auto issued = authority_->issue_between(subject, key.get(), now - std::chrono::hours(1),
                                            now + std::chrono::days(30));
    EXPECT_TRUE(issued.has_value()) << issued.error().to_string();
    const auto files_of_it = files(std::string(subject.identity.name.view()));
    EXPECT_TRUE(write_file(files_of_it.certificate, issued->pem, 0644, Existing::replace));
    EXPECT_TRUE(write_file(files_of_it.key, key_pem(key.get()), 0600, Existing::replace));
    return issued->serial;
}

std::string Certificates::site(const std::string& name, std::vector<std::string> pairs) {
    return issue({{env::PeerRole::site, Name::literal(name), std::move(pairs)}, {}});
}

std::string Certificates::tiebreaker(const std::string& name) {
    return issue(
        {{env::PeerRole::tiebreaker, Name::literal(name), {}}, {"127.0.0.1", "localhost"}});
}

std::string Certificates::web(const std::string& name) {
    return issue({{env::PeerRole::web, Name::literal(name), {}}, {"127.0.0.1", "localhost"}});
}

std::string Certificates::between(const std::string& name, std::chrono::sys_seconds from,
                                  std::chrono::sys_seconds to) {
    const KeyPointer key = make_key();
    const Subject subject{{env::PeerRole::site, Name::literal(name), {"*"}}, {}};
    auto issued = authority_->issue_between(subject, key.get(), from, to);
    EXPECT_TRUE(issued.has_value());
    EXPECT_TRUE(write_file(files(name).certificate, issued->pem, 0644, Existing::replace));
    EXPECT_TRUE(write_file(files(name).key, key_pem(key.get()), 0600, Existing::replace));
    return issued->serial;
}

Config test_config(const TempDirectory& directory, const Certificates& certificates) {
    Config config;
    config.path = "test.toml";
    config.listener.listen = "127.0.0.1:0";
    config.tls = certificates.files("tb");
    config.database = directory / "arbiter.db";
    return config;
}

RunningDaemon::RunningDaemon(Config config) {
    auto made =
        Daemon::start(core_, std::move(config), [this](const std::string& why) { ended_ = why; });
    EXPECT_TRUE(made.has_value()) << made.error().to_string();
    daemon_ = std::move(*made);
    port_ = daemon_->port();
    thread_ = std::thread([this] { core_.run(); });
}

RunningDaemon::~RunningDaemon() {
    boost::asio::post(core_, [this] {
        daemon_->stop();
        work_.reset();
        core_.stop();
    });
    thread_.join();
    daemon_.reset();
}

SslContextPointer raw_context(const env::TlsFiles& files, int version_max) {
    SslContextPointer context(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_max_proto_version(context.get(), version_max);
    SSL_CTX_set_options(context.get(), SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (!files.certificate.empty()) {
        EXPECT_EQ(SSL_CTX_use_certificate_file(context.get(), files.certificate.c_str(),
                                               SSL_FILETYPE_PEM),
                  1);
        EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM),
                  1);
    }
    return context;
}

bool RawClient::update_keys(int times) {
    for (int i = 0; i < times; ++i) {
        if (SSL_key_update(ssl_, SSL_KEY_UPDATE_NOT_REQUESTED) != 1) return false;
        if (SSL_do_handshake(ssl_) != 1) return false;
    }
    return true;
}

void RawClient::connect(uint16_t port) {
    std::signal(SIGPIPE, SIG_IGN);
    descriptor_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval limit{10, 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(descriptor_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
}

RawClient::RawClient(uint16_t port, SSL_CTX* context) {
    connect(port);
    if (context == nullptr) return;
    ssl_ = SSL_new(context);
    SSL_set_fd(ssl_, descriptor_);
    ERR_clear_error();
    shook_hands_ = SSL_connect(ssl_) == 1;
    if (!shook_hands_) error_ = env::take_tls_errors();
}

RawClient::RawClient(uint16_t port, SSL_CTX* context, HoldLastFlight) {
    connect(port);
    ssl_ = SSL_new(context);
    SSL_set_bio(ssl_, BIO_new_socket(descriptor_, BIO_NOCLOSE), BIO_new(BIO_s_mem()));
    const int flags = ::fcntl(descriptor_, F_GETFL);
    EXPECT_EQ(::fcntl(descriptor_, F_SETFL, flags | O_NONBLOCK), 0);
    while (true) {
        ERR_clear_error();
        const int done = SSL_connect(ssl_);
        shook_hands_ = done == 1;
        if (shook_hands_ || SSL_get_error(ssl_, done) != SSL_ERROR_WANT_READ) break;
        send_held();
        pollfd answer{descriptor_, POLLIN, 0};
        if (::poll(&answer, 1, 10'000) != 1) break;
    }
    EXPECT_EQ(::fcntl(descriptor_, F_SETFL, flags), 0);
    if (!shook_hands_) error_ = env::take_tls_errors();
}

void RawClient::send_held() {
    char* bytes = nullptr;
    BIO* held = SSL_get_wbio(ssl_);
    const long length = BIO_get_mem_data(held, &bytes);
    EXPECT_EQ(::send(descriptor_, bytes, static_cast<size_t>(length), MSG_NOSIGNAL), length);
    (void)BIO_reset(held);
}

void RawClient::send_last_flight() {
    send_held();
    SSL_set0_wbio(ssl_, BIO_new_socket(descriptor_, BIO_NOCLOSE));
}

RawClient::~RawClient() {
    if (ssl_ != nullptr) SSL_free(ssl_);
    ::close(descriptor_);
}

bool RawClient::try_send(std::string_view bytes) {
    if (ssl_ == nullptr) {
        return ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
               static_cast<ssize_t>(bytes.size());
    }
    const int sent = SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
    ERR_clear_error();
    return sent == static_cast<int>(bytes.size());
}

void RawClient::send(uint64_t number, wire::ArbiterBody body) {
    std::string bytes;
    wire::encode({number, {}, std::move(body)}, bytes);
    send(bytes);
}

bool RawClient::fill(size_t bytes) {
    while (in_.size() < bytes) {
        char buffer[4096];
        ERR_clear_error();
        errno = 0;
        const auto got = ssl_ != nullptr
                             ? SSL_read(ssl_, buffer, sizeof(buffer))
                             : static_cast<int>(::recv(descriptor_, buffer, sizeof(buffer), 0));
        if (got <= 0) {
            const bool late = errno == EAGAIN || errno == EWOULDBLOCK;
            EXPECT_FALSE(late) << "nothing came within ten seconds";
            error_ = ERR_peek_error() != 0 ? env::take_tls_errors() : "end of stream";
            return false;
        }
        in_.append(buffer, static_cast<size_t>(got));
    }
    return true;
}

std::optional<wire::ArbiterFrame> RawClient::receive() {
    if (!fill(wire::kArbiterHeaderBytes)) return std::nullopt;
    const auto bytes =
        wire::arbiter_frame_bytes(std::as_bytes(std::span(in_)).first(wire::kArbiterHeaderBytes));
    EXPECT_TRUE(bytes.has_value());
    if (!bytes || !fill(*bytes)) return std::nullopt;
    auto frame = wire::decode_arbiter_frame(std::as_bytes(std::span(in_)).first(*bytes));
    EXPECT_TRUE(frame.has_value()) << frame.error().to_string();
    in_.erase(0, *bytes);
    return std::move(*frame);
}

std::string RawClient::text_of(const wire::ArbiterFrame& frame) {
    const auto* error = std::get_if<wire::ArbiterError>(&frame.body);
    return error != nullptr ? ": " + error->text : std::string();
}

void RawClient::hello(const char* site) {
    send(0, wire::ArbiterHello{Name::literal(site)});
    (void)expect<wire::ArbiterWelcome>(0);
}

wire::Answer RawClient::ask(wire::Request asked) {
    const uint64_t number = next_number_++;
    send(number, asked);
    return expect<wire::Answer>(number);
}

wire::Request request(wire::RequestKind kind, const char* pair, uint64_t epoch, Member me,
                      Member other, wire::StoreIdentity store) {
    wire::Request out;
    out.kind = kind;
    out.pair = Name::literal(pair);
    out.store = store;
    out.epoch = Epoch(epoch);
    out.me = me;
    out.other = other;
    return out;
}

wire::Record record_of(const std::string& pair, uint64_t epoch, wire::StoreIdentity store) {
    wire::Record record;
    record.pair = Name::literal(pair);
    record.store = store;
    record.epoch = Epoch(epoch);
    record.mode = wire::PairMode::solo;
    record.holder = member("site-a", 1);
    record.members = {record.holder, Member{}};
    record.sites = {Name::literal("site-a"), Name::literal("site-b")};
    return record;
}

Commit commit_of(const wire::Record& record, uint64_t expected_version) {
    Commit commit;
    commit.pair = record.pair;
    commit.expected_version = expected_version;
    commit.record = record;
    Decided line;
    line.at = UnixTime(std::chrono::milliseconds(1700000000000));
    line.by = "site-a 01 10.0.0.1:1";
    line.request = request(wire::RequestKind::acquire, "x", 1, member("site-a", 1));
    line.request.pair = record.pair;
    line.kind = wire::AnswerKind::granted;
    line.epoch = record.epoch;
    line.record = record;
    commit.history = line;
    return commit;
}

Member member(const char* site, uint64_t incarnation) {
    return {Name::literal(site), Incarnation(incarnation)};
}

}  // namespace antipode::tiebreaker::testing
