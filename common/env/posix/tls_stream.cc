#include "common/env/posix/tls_stream.h"

#include <boost/asio/post.hpp>
#include <cerrno>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "common/base/check.h"

namespace antipode::env {
namespace {

// OpenSSL's own socket BIO writes without MSG_NOSIGNAL, and a library must not change a process's
// signals. The descriptor stays the socket's.
int descriptor_of(BIO* bio) {
    return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
}

bool would_block(int error_number) {
    return error_number == EAGAIN || error_number == EWOULDBLOCK || error_number == EINTR;
}

int bio_write(BIO* bio, const char* data, int bytes) {
    BIO_clear_retry_flags(bio);
    const auto sent =
        ::send(descriptor_of(bio), data, static_cast<size_t>(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && would_block(errno)) BIO_set_retry_write(bio);
    return static_cast<int>(sent);
}

int bio_read(BIO* bio, char* data, int bytes) {
    BIO_clear_retry_flags(bio);
    const auto got = ::recv(descriptor_of(bio), data, static_cast<size_t>(bytes), MSG_DONTWAIT);
    if (got < 0 && would_block(errno)) BIO_set_retry_read(bio);
    if (got == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return static_cast<int>(got);
}

long bio_ctrl(BIO* bio, int command, long, void*) {
    switch (command) {
        case BIO_CTRL_FLUSH:
            return 1;
        case BIO_CTRL_EOF:
            return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
        default:
            return 0;
    }
}

const BIO_METHOD* socket_method() {
    static const BIO_METHOD* method = [] {
        BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "antipode tcp");
        FT_CHECK(made != nullptr, "BIO_meth_new");
        BIO_meth_set_write(made, bio_write);
        BIO_meth_set_read(made, bio_read);
        BIO_meth_set_ctrl(made, bio_ctrl);
        return made;
    }();
    return method;
}

Result<> expect_host(SSL* ssl, std::string_view host) {
    const std::string text(host);
    boost::system::error_code not_numeric;
    (void)boost::asio::ip::make_address(text, not_numeric);
    if (!not_numeric) {
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), text.c_str()) != 1) {
            return fail(Errc::invalid_argument, "TLS: {} is no address", host);
        }
        return {};
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(ssl, text.c_str()) != 1 || SSL_set_tlsext_host_name(ssl, text.c_str()) != 1) {
        return fail(Errc::invalid_argument, "TLS: {} is no host name", host);
    }
    return {};
}

}  // namespace

TlsStream::TlsStream(Socket socket, std::shared_ptr<boost::asio::ssl::context> context, SSL* ssl)
    : socket_(std::move(socket)), context_(std::move(context)), ssl_(ssl) {}

TlsStream::~TlsStream() = default;

Result<std::unique_ptr<TlsStream>> TlsStream::create(
    Socket socket, const std::shared_ptr<boost::asio::ssl::context>& context, TlsRole role,
    std::string_view host) {
    boost::system::error_code error;
    const auto endpoint = socket.remote_endpoint(error);
    if (error) return fail_errno(error.value(), "TLS: peer is gone");
    socket.non_blocking(true, error);
    if (!error) socket.set_option(boost::asio::ip::tcp::no_delay(true), error);
    if (error) return fail_errno(error.value(), "TLS: socket");
    const int descriptor = socket.native_handle();
    std::unique_ptr<TlsStream> stream(
        new TlsStream(std::move(socket), context, SSL_new(context->native_handle())));
    const std::string address = endpoint.address().to_string();
    stream->peer_address_ = endpoint.address().is_v6()
                                ? fmt::format("[{}]:{}", address, endpoint.port())
                                : fmt::format("{}:{}", address, endpoint.port());
    SSL* ssl = stream->ssl_.get();
    BIO* bio = BIO_new(socket_method());
    FT_CHECK(ssl != nullptr && bio != nullptr, "out of memory for a TLS connection");
    BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(descriptor)));
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    // A read returns after each record that brings no data. Otherwise it goes on as long as there
    // are more, and a peer that sends key updates without end keeps it there.
    SSL_clear_mode(ssl, SSL_MODE_AUTO_RETRY);
    if (role == TlsRole::client) {
        SSL_set_connect_state(ssl);
        if (!host.empty()) FT_TRY_VOID(expect_host(ssl, host));
    } else {
        SSL_set_accept_state(ssl);
    }
    return stream;
}

Result<TlsStream::Moved> TlsStream::outcome(int returned, const char* doing) {
    const int error_number = errno;
    switch (SSL_get_error(ssl_.get(), returned)) {
        case SSL_ERROR_NONE:
            return Moved{};
        case SSL_ERROR_WANT_READ:
            return Moved{0, Needs::readable};
        case SSL_ERROR_WANT_WRITE:
            return Moved{0, Needs::writable};
        case SSL_ERROR_ZERO_RETURN:
            broken_ = true;
            return fail(Errc::closed, "{}: the peer hung up", doing);
        case SSL_ERROR_SYSCALL:
            broken_ = true;
            ERR_clear_error();
            if (error_number == 0) return fail(Errc::closed, "{}: the peer hung up", doing);
            return fail(Errc::unreachable, "{}: {}", doing,
                        std::generic_category().message(error_number));
        default:
            break;
    }
    broken_ = true;
    const std::string reasons = take_tls_errors();
    const long verified = SSL_get_verify_result(ssl_.get());
    if (verified != X509_V_OK) {
        return fail(Errc::denied, "{}: the peer's certificate is refused: {}", doing,
                    X509_verify_cert_error_string(verified));
    }
    return fail(Errc::denied, "{}: {}", doing, reasons);
}

Result<TlsStream::Needs> TlsStream::handshake() {
    ERR_clear_error();
    errno = 0;
    const int returned = SSL_do_handshake(ssl_.get());
    if (returned == 1) return Needs::nothing;
    FT_TRY(const Moved moved, outcome(returned, "TLS handshake"));
    FT_CHECK(moved.needs != Needs::nothing, "handshake neither done nor waiting");
    return moved.needs;
}

Result<TlsStream::Moved> TlsStream::read(std::span<std::byte> into) {
    ERR_clear_error();
    errno = 0;
    size_t bytes = 0;
    const int returned = SSL_read_ex(ssl_.get(), into.data(), into.size(), &bytes);
    if (returned == 1) return Moved{bytes, Needs::nothing};
    return outcome(returned, "TLS");
}

Result<TlsStream::Moved> TlsStream::write(std::string_view from) {
    ERR_clear_error();
    errno = 0;
    size_t bytes = 0;
    const int returned = SSL_write_ex(ssl_.get(), from.data(), from.size(), &bytes);
    if (returned == 1) return Moved{bytes, Needs::nothing};
    auto moved = outcome(returned, "TLS");
    if (moved || moved.error().code != Errc::unreachable) return moved;
    // The peer closed on us. If it said why, in an alert, that is what the caller wants to know.
    std::byte ignored{};
    ERR_clear_error();
    if (SSL_read_ex(ssl_.get(), &ignored, 1, &bytes) != 1 &&
        ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL) {
        return fail(Errc::denied, "TLS: {}", take_tls_errors());
    }
    return moved;
}

void TlsStream::wait(Needs needs, WaitHandler handler) {
    FT_CHECK(needs != Needs::nothing, "waiting for nothing");
    socket_.async_wait(needs == Needs::readable ? Socket::wait_read : Socket::wait_write,
                       std::move(handler));
}

void TlsStream::expect_bulk() {
    constexpr size_t kBulkBufferBytes = size_t{256} << 10;
    SSL_set_read_ahead(ssl_.get(), 1);
    // What was read ahead does not make the socket readable.
    SSL_set_mode(ssl_.get(), SSL_MODE_AUTO_RETRY);
    SSL_set_default_read_buffer_len(ssl_.get(), kBulkBufferBytes);
}

void TlsStream::close() {
    if (!socket_.is_open()) return;
    if (!broken_ && SSL_is_init_finished(ssl_.get()) == 1) {
        ERR_clear_error();
        (void)SSL_shutdown(ssl_.get());
        ERR_clear_error();
    }
    boost::system::error_code ignored;
    // Half first: an alert on its way is not destroyed by a reset over unread bytes.
    socket_.shutdown(Socket::shutdown_send, ignored);
    socket_.close(ignored);
}

Result<CertificateIdentity> TlsStream::peer_identity() const {
    const X509* certificate = SSL_get0_peer_certificate(ssl_.get());
    if (certificate == nullptr) return fail(Errc::denied, "TLS: the peer showed no certificate");
    return identity_of(certificate);
}

std::string TlsStream::peer_serial() const {
    const X509* certificate = SSL_get0_peer_certificate(ssl_.get());
    FT_CHECK(certificate != nullptr, "serial of a peer without certificate");
    return serial_of(certificate);
}

std::chrono::sys_seconds TlsStream::peer_not_after() const {
    const X509* certificate = SSL_get0_peer_certificate(ssl_.get());
    FT_CHECK(certificate != nullptr, "expiry of a peer without certificate");
    return not_after_of(certificate);
}

Result<> TlsStream::move_to(boost::asio::io_context& context) {
    boost::system::error_code error;
    const auto protocol = socket_.local_endpoint(error).protocol();
    if (error) return fail_errno(error.value(), "TLS: {}", peer_address_);
    const int descriptor = socket_.release(error);
    if (error) return fail_errno(error.value(), "TLS: {}", peer_address_);
    Socket moved(context);
    moved.assign(protocol, descriptor, error);
    if (error) {
        ::close(descriptor);
        return fail_errno(error.value(), "TLS: {}", peer_address_);
    }
    moved.non_blocking(true, error);
    socket_ = std::move(moved);
    return {};
}

}  // namespace antipode::env
