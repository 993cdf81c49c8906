#include "web/security/https.h"

#include <array>
#include <ctime>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/freer.h"
#include "common/base/unique_fd.h"
#include "web/security/gate.h"

namespace antipode::web {
namespace {

namespace ssl = boost::asio::ssl;

using KeyPointer = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using CertificatePointer = std::unique_ptr<X509, Freer<X509_free>>;
using BioPointer = std::unique_ptr<BIO, Freer<BIO_free>>;
using ExtensionPointer = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;

constexpr long kValidSeconds = 825L * 24 * 3600;

std::string openssl_error() {
    std::string out;
    std::array<char, 256> text{};
    while (const unsigned long code = ERR_get_error()) {
        ERR_error_string_n(code, text.data(), text.size());
        if (out.empty()) out = text.data();
    }
    return out.empty() ? "no reason given" : out;
}

Failure openssl_failure(Errc code, std::string_view what) {
    return fail(code, "{}: {}", what, openssl_error());
}

Result<> write_new_file(const std::string& path, std::string_view text, mode_t mode) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (!fd) return fail_errno(errno, "{}", path);
    while (!text.empty()) {
        const ssize_t written = ::write(fd.get(), text.data(), text.size());
        if (written < 0) return fail_errno(errno, "{}: write", path);
        text.remove_prefix(static_cast<size_t>(written));
    }
    if (::fsync(fd.get()) != 0) return fail_errno(errno, "{}: fsync", path);
    return {};
}

std::string taken(BIO* bio) {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio, &bytes);
    return {bytes, static_cast<size_t>(size)};
}

Result<> add_extension(X509* certificate, int id, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
    const ExtensionPointer extension(X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str()));
    if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1) {
        return openssl_failure(Errc::invalid_argument, "certificate extension " + value);
    }
    return {};
}

Result<CertificatePointer> build(EVP_PKEY* key, const std::vector<std::string>& names) {
    CertificatePointer certificate(X509_new());
    X509_set_version(certificate.get(), 2);
    std::array<unsigned char, 16> serial{};
    RAND_bytes(serial.data(), static_cast<int>(serial.size()));
    serial[0] &= 0x7f;
    BIGNUM* number = BN_bin2bn(serial.data(), static_cast<int>(serial.size()), nullptr);
    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate.get()));
    BN_free(number);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);  // clocks differ
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), kValidSeconds);
    X509_NAME* subject = X509_get_subject_name(certificate.get());
    const std::string common = names.front().substr(0, 64);
    X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>("Antipode"), -1, -1, 0);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(common.c_str()), -1, -1, 0);
    X509_set_issuer_name(certificate.get(), subject);
    X509_set_pubkey(certificate.get(), key);
    std::string alternatives;
    for (const std::string& name : names) {
        alternatives += (alternatives.empty() ? "" : ",");
        alternatives += (is_address(name) ? "IP:" : "DNS:") + name;
    }
    FT_TRY_VOID(add_extension(certificate.get(), NID_subject_alt_name, alternatives));
    FT_TRY_VOID(add_extension(certificate.get(), NID_basic_constraints, "critical,CA:FALSE"));
    FT_TRY_VOID(add_extension(certificate.get(), NID_key_usage, "critical,digitalSignature"));
    FT_TRY_VOID(add_extension(certificate.get(), NID_ext_key_usage, "serverAuth"));
    FT_TRY_VOID(add_extension(certificate.get(), NID_subject_key_identifier, "hash"));
    if (X509_sign(certificate.get(), key, EVP_sha256()) == 0) {
        return openssl_failure(Errc::io, "signing the certificate");
    }
    return certificate;
}

Result<CertificatePointer> read_certificate(const std::string& path) {
    const BioPointer file(BIO_new_file(path.c_str(), "r"));
    if (!file) {
        ERR_clear_error();
        return fail_errno(errno, "{}", path);
    }
    CertificatePointer certificate(PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr));
    if (!certificate) return openssl_failure(Errc::corrupt, path + ": is no PEM certificate");
    return certificate;
}

std::string name_text(const X509_NAME* name) {
    const BioPointer bio(BIO_new(BIO_s_mem()));
    X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
    return taken(bio.get());
}

}  // namespace

std::vector<std::string> own_names() {
    std::set<std::string> names{"localhost", "127.0.0.1", "::1"};
    std::array<char, 256> host{};
    std::string first = "localhost";
    if (::gethostname(host.data(), host.size() - 1) == 0 && host[0] != '\0') {
        first = host.data();
        names.insert(first);
    }
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) == 0) {
        for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
            if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_UP) == 0) continue;
            const int family = at->ifa_addr->sa_family;
            if (family != AF_INET && family != AF_INET6) continue;
            const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
            std::array<char, NI_MAXHOST> text{};
            if (::getnameinfo(at->ifa_addr, size, text.data(), text.size(), nullptr, 0,
                              NI_NUMERICHOST) != 0) {
                continue;
            }
            const std::string address = text.data();
            if (address.find('%') == std::string::npos) names.insert(address);  // not link-local
        }
        ::freeifaddrs(list);
    }
    std::vector<std::string> out{first};
    for (const std::string& name : names) {
        if (name != first && out.size() < 64) out.push_back(name);
    }
    return out;
}

Result<> make_self_signed(const HttpsFiles& files, const std::vector<std::string>& names) {
    const KeyPointer key(EVP_EC_gen("P-256"));
    if (!key) return openssl_failure(Errc::io, "making a key");
    FT_TRY(const CertificatePointer certificate, build(key.get(), names));
    const BioPointer key_text(BIO_new(BIO_s_mem()));
    const BioPointer certificate_text(BIO_new(BIO_s_mem()));
    PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    PEM_write_bio_X509(certificate_text.get(), certificate.get());
    FT_TRY_VOID(write_new_file(files.key, taken(key_text.get()), 0600));
    auto written = write_new_file(files.certificate, taken(certificate_text.get()), 0644);
    if (!written) ::unlink(files.key.c_str());
    return written;
}

Result<std::shared_ptr<ssl::context>> make_https(const HttpsFiles& files, TlsLeast least) {
    FT_TRY_VOID(read_certificate(files.certificate));
    struct stat info {};
    if (::stat(files.key.c_str(), &info) != 0) return fail_errno(errno, "{}", files.key);
    if ((info.st_mode & 0007) != 0) {
        return fail(Errc::denied, "{}: everybody may read this private key; chmod o-rwx it",
                    files.key);
    }
    auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
    SSL_CTX* const native = context->native_handle();
    SSL_CTX_set_min_proto_version(native,
                                  least == TlsLeast::v1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_cipher_list(native, "ECDHE+AESGCM:ECDHE+CHACHA20");
    SSL_CTX_set_num_tickets(native, 0);
    SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_use_certificate_chain_file(native, files.certificate.c_str()) != 1) {
        return openssl_failure(Errc::corrupt, files.certificate);
    }
    if (SSL_CTX_use_PrivateKey_file(native, files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(native) != 1) {
        return openssl_failure(Errc::invalid_argument,
                               files.key + ": is not the key of " + files.certificate);
    }
    return context;
}

Result<CertificateFacts> facts_of(const std::string& certificate_path) {
    FT_TRY(const CertificatePointer certificate, read_certificate(certificate_path));
    CertificateFacts facts;
    facts.subject = name_text(X509_get_subject_name(certificate.get()));
    facts.issuer = name_text(X509_get_issuer_name(certificate.get()));
    facts.self_signed = facts.subject == facts.issuer;
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    X509_digest(certificate.get(), EVP_sha256(), digest.data(), &size);
    for (unsigned i = 0; i < size; ++i) {
        facts.fingerprint += fmt::format("{}{:02X}", i == 0 ? "" : ":", digest[i]);
    }
    std::tm parts{};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &parts) == 1) {
        facts.not_after_unix_ms = static_cast<int64_t>(::timegm(&parts)) * 1000;
    }
    return facts;
}

Result<std::string> fingerprint_of(const std::string& certificate_path) {
    FT_TRY(const CertificateFacts facts, facts_of(certificate_path));
    return facts.fingerprint;
}

}  // namespace antipode::web
