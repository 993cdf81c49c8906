#include "common/env/posix/tls.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <memory>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <optional>
#include <sys/stat.h>

#include "common/base/check.h"

namespace antipode::env {
namespace {

constexpr std::string_view kScheme = "antipode://";
constexpr std::string_view kPairs = "?pairs=";
constexpr size_t kUriBytesMax = 8192;

using BioPointer = std::unique_ptr<BIO, Freer<BIO_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;

Result<BioPointer> open_file(const std::string& path, const char* what) {
    if (path.empty()) return fail(Errc::invalid_argument, "{}: no file is named", what);
    ERR_clear_error();
    errno = 0;
    BioPointer bio(BIO_new_file(path.c_str(), "re"));
    if (!bio) {
        const int error_number = errno;
        ERR_clear_error();
        return fail_errno(error_number, "{} {}", what, path);
    }
    return bio;
}

// A daemon has nobody to ask for a passphrase.
int no_passphrase(char*, int, int, void*) {
    return 0;
}

Result<KeyPointer> read_key(const std::string& path) {
    FT_TRY(const BioPointer file, open_file(path, "key"));
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return fail_errno(errno, "key {}", path);
    if ((info.st_mode & S_IRWXO) != 0) {
        return fail(Errc::denied, "key {}: mode is {:04o}, everybody may read it; chmod 0600", path,
                    info.st_mode & 07777u);
    }
    KeyPointer key(PEM_read_bio_PrivateKey(file.get(), nullptr, no_passphrase, nullptr));
    if (!key) {
        return fail(Errc::invalid_argument, "key {}: is no private key in PEM: {}", path,
                    take_tls_errors());
    }
    return key;
}

struct Material {
    X509Pointer ca;
    X509Pointer certificate;
    KeyPointer key;
};

std::string date_of(const ASN1_TIME* time) {
    BioPointer out(BIO_new(BIO_s_mem()));
    ASN1_TIME_print(out.get(), time);
    char* text = nullptr;
    const long bytes = BIO_get_mem_data(out.get(), &text);
    return {text, static_cast<size_t>(bytes)};
}

Result<> check_usable(const Material& material, TlsRole role, const TlsFiles& files) {
    const X509* certificate = material.certificate.get();
    if (X509_check_private_key(certificate, material.key.get()) != 1) {
        ERR_clear_error();
        return fail(Errc::invalid_argument, "key {}: belongs to another certificate than {}",
                    files.key, files.certificate);
    }
    FT_TRY(KeyPointer authority_key, [&]() -> Result<KeyPointer> {
        KeyPointer key(X509_get_pubkey(material.ca.get()));
        if (!key) return fail(Errc::corrupt, "CA {}: {}", files.ca, take_tls_errors());
        return key;
    }());
    if (X509_verify(material.certificate.get(), authority_key.get()) != 1) {
        ERR_clear_error();
        return fail(Errc::denied, "certificate {}: was not issued by the authority of {}",
                    files.certificate, files.ca);
    }
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
        return fail(Errc::denied, "certificate {}: expired on {}", files.certificate,
                    date_of(X509_get0_notAfter(certificate)));
    }
    if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
        return fail(Errc::denied, "certificate {}: is not valid before {}; is the clock right?",
                    files.certificate, date_of(X509_get0_notBefore(certificate)));
    }
    const int purpose = role == TlsRole::server ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT;
    if (X509_check_purpose(material.certificate.get(), purpose, 0) != 1) {
        return fail(Errc::denied, "certificate {}: is not meant for a {}", files.certificate,
                    role == TlsRole::server ? "server" : "client");
    }
    auto identity = identity_of(certificate);
    if (!identity) return fail(std::move(identity).error().within(files.certificate));
    return {};
}

using CrlPointer = std::unique_ptr<X509_CRL, Freer<X509_CRL_free>>;
Result<CrlPointer> read_crl(const std::string& path) {
    FT_TRY(const BioPointer file, open_file(path, "CRL"));
    CrlPointer crl(PEM_read_bio_X509_CRL(file.get(), nullptr, no_passphrase, nullptr));
    if (!crl) {
        return fail(Errc::invalid_argument, "CRL {}: is no revocation list in PEM: {}", path,
                    take_tls_errors());
    }
    return crl;
}

// A list that cannot hold lets nobody in any more, so it is not taken in the place of one that
// does.
Result<> check_crl(X509_CRL* crl, X509* ca, const std::string& path) {
    const KeyPointer authority_key(X509_get_pubkey(ca));
    const bool theirs = authority_key &&
                        X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(ca)) == 0 &&
                        X509_CRL_verify(crl, authority_key.get()) == 1;
    ERR_clear_error();
    if (!theirs) return fail(Errc::denied, "CRL {}: was not made by the authority in use", path);
    const ASN1_TIME* from = X509_CRL_get0_lastUpdate(crl);
    if (X509_cmp_current_time(from) > 0) {
        return fail(Errc::denied, "CRL {}: is not valid before {}; is the clock right?", path,
                    date_of(from));
    }
    const ASN1_TIME* until = X509_CRL_get0_nextUpdate(crl);
    if (until != nullptr && X509_cmp_current_time(until) < 0) {
        return fail(Errc::denied, "CRL {}: expired on {}", path, date_of(until));
    }
    return {};
}

Result<> load_crl(SSL_CTX* context, const std::string& path, X509* ca) {
    FT_TRY(const CrlPointer crl, read_crl(path));
    FT_TRY_VOID(check_crl(crl.get(), ca, path));
    X509_STORE* store = SSL_CTX_get_cert_store(context);
    if (X509_STORE_add_crl(store, crl.get()) != 1) {
        return fail(Errc::invalid_argument, "CRL {}: {}", path, take_tls_errors());
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return {};
}

std::string text_of(const ASN1_INTEGER* serial) {
    const std::unique_ptr<BIGNUM, Freer<BN_free>> number(ASN1_INTEGER_to_BN(serial, nullptr));
    FT_CHECK(number != nullptr, "certificate serial number");
    char* text = BN_bn2hex(number.get());
    std::string out(text);
    OPENSSL_free(text);
    return out;
}

Result<> set_policy(SSL_CTX* context) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_verify_depth(context, 1);
    const bool set = SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
                     SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
                     SSL_CTX_set_num_tickets(context, 0) == 1 &&
                     SSL_CTX_set_ciphersuites(context,
                                              "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                              "TLS_CHACHA20_POLY1305_SHA256") == 1 &&
                     SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1 &&
                     SSL_CTX_set1_sigalgs_list(context, "ecdsa_secp256r1_sha256") == 1;
    if (!set) return fail(Errc::unsupported, "TLS 1.3: {}", take_tls_errors());
    return {};
}

}  // namespace

std::string_view to_string(PeerRole role) {
    switch (role) {
        case PeerRole::site:
            return "site";
        case PeerRole::tiebreaker:
            return "tiebreaker";
        case PeerRole::web:
            return "web";
    }
    return "?";
}

Result<> check_pair_pattern(std::string_view pattern) {
    if (pattern == "*") return {};
    std::string_view beginning = pattern;
    if (beginning.ends_with('*')) {
        beginning.remove_suffix(1);
        while (beginning.ends_with('-')) beginning.remove_suffix(1);  // "web-*"
    }
    auto name = Name::parse(beginning, fmt::format("pair pattern '{}'", pattern));
    if (!name) return fail(std::move(name).error());
    return {};
}

Result<CertificateIdentity> CertificateIdentity::parse(std::string_view uri) {
    if (!uri.starts_with(kScheme) || uri.size() > kUriBytesMax) {
        return fail(Errc::protocol, "certificate URI: does not begin with {}", kScheme);
    }
    std::string_view rest = uri.substr(kScheme.size());
    const size_t slash = rest.find('/');
    if (slash == std::string_view::npos) {
        return fail(Errc::protocol, "certificate URI {}: has no name", uri);
    }
    const std::string_view role = rest.substr(0, slash);
    rest.remove_prefix(slash + 1);
    CertificateIdentity identity;
    if (role == "site") {
        identity.role = PeerRole::site;
    } else if (role == "tiebreaker") {
        identity.role = PeerRole::tiebreaker;
    } else if (role == "web") {
        identity.role = PeerRole::web;
    } else {
        return fail(Errc::protocol, "certificate URI {}: role is none of site, tiebreaker, web",
                    uri);
    }
    const size_t query = rest.find('?');
    FT_TRY(identity.name, Name::parse(rest.substr(0, query), "certificate URI's name"));
    if (query == std::string_view::npos) return identity;
    rest.remove_prefix(query);
    if (identity.role != PeerRole::site || !rest.starts_with(kPairs)) {
        return fail(Errc::protocol, "certificate URI {}: only a site has a query, ?pairs=", uri);
    }
    rest.remove_prefix(kPairs.size());
    while (true) {
        const size_t comma = rest.find(',');
        const std::string_view pattern = rest.substr(0, comma);
        FT_TRY_VOID(check_pair_pattern(pattern));
        identity.pairs.emplace_back(pattern);
        if (comma == std::string_view::npos) return identity;
        rest.remove_prefix(comma + 1);
    }
}

std::string CertificateIdentity::uri() const {
    std::string out = fmt::format("{}{}/{}", kScheme, to_string(role), name);
    for (size_t i = 0; i < pairs.size(); ++i) {
        out += i == 0 ? kPairs : std::string_view(",");
        out += pairs[i];
    }
    return out;
}

bool CertificateIdentity::covers(const Name& pair) const {
    return std::any_of(pairs.begin(), pairs.end(), [&](std::string_view pattern) {
        if (!pattern.ends_with('*')) return pair.view() == pattern;
        pattern.remove_suffix(1);
        return pair.view().starts_with(pattern);
    });
}

Result<CertificateIdentity> identity_of(const X509* certificate) {
    std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>> names(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    std::string found;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type != GEN_URI) continue;
        const ASN1_IA5STRING* text = name->d.uniformResourceIdentifier;
        const std::string_view uri(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                                   static_cast<size_t>(ASN1_STRING_length(text)));
        if (!uri.starts_with(kScheme)) continue;
        if (!found.empty()) return fail(Errc::protocol, "certificate: has two {} URIs", kScheme);
        found = uri;
    }
    if (found.empty()) {
        return fail(Errc::protocol, "certificate: has no {} URI; was it made by antipode-ca?",
                    kScheme);
    }
    return CertificateIdentity::parse(found);
}

std::string serial_of(const X509* certificate) {
    return text_of(X509_get0_serialNumber(certificate));
}

Result<std::set<std::string>> revoked_serials(const std::string& crl_path) {
    FT_TRY(const CrlPointer crl, read_crl(crl_path));
    std::set<std::string> out;
    STACK_OF(X509_REVOKED)* list = X509_CRL_get_REVOKED(crl.get());
    for (int i = 0; i < sk_X509_REVOKED_num(list); ++i) {
        out.insert(text_of(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(list, i))));
    }
    return out;
}

std::chrono::sys_seconds not_after_of(const X509* certificate) {
    std::tm parts{};
    ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts);
    return std::chrono::sys_seconds(std::chrono::seconds(::timegm(&parts)));
}

Result<std::chrono::sys_seconds> first_not_after(const std::string& path) {
    FT_TRY(const BioPointer file, open_file(path, "certificate"));
    std::optional<std::chrono::sys_seconds> first;
    while (
        X509Pointer certificate{PEM_read_bio_X509(file.get(), nullptr, no_passphrase, nullptr)}) {
        const auto one = not_after_of(certificate.get());
        first = std::min(first.value_or(one), one);
    }
    const std::string errors = take_tls_errors();  // at the latest that there is no other one
    if (first) return *first;
    return fail(Errc::invalid_argument, "certificate {}: is no certificate in PEM: {}", path,
                errors);
}

Result<X509Pointer> read_certificate(const std::string& path) {
    FT_TRY(const BioPointer file, open_file(path, "certificate"));
    X509Pointer certificate(PEM_read_bio_X509(file.get(), nullptr, no_passphrase, nullptr));
    if (!certificate) {
        return fail(Errc::invalid_argument, "certificate {}: is no certificate in PEM: {}", path,
                    take_tls_errors());
    }
    return certificate;
}

Result<std::shared_ptr<boost::asio::ssl::context>> make_mutual_tls(TlsRole role,
                                                                   const TlsFiles& files) {
    Material material;
    FT_TRY(material.ca, read_certificate(files.ca));
    FT_TRY(material.certificate, read_certificate(files.certificate));
    FT_TRY(material.key, read_key(files.key));
    FT_TRY_VOID(check_usable(material, role, files));
    auto context = std::make_shared<boost::asio::ssl::context>(
        role == TlsRole::server ? boost::asio::ssl::context::tlsv13_server
                                : boost::asio::ssl::context::tlsv13_client);
    SSL_CTX* native = context->native_handle();
    FT_TRY_VOID(set_policy(native));
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(native), material.ca.get()) != 1 ||
        SSL_CTX_add_client_CA(native, material.ca.get()) != 1) {
        return fail(Errc::invalid_argument, "CA {}: {}", files.ca, take_tls_errors());
    }
    if (!files.crl.empty()) FT_TRY_VOID(load_crl(native, files.crl, material.ca.get()));
    if (SSL_CTX_use_certificate(native, material.certificate.get()) != 1 ||
        SSL_CTX_use_PrivateKey(native, material.key.get()) != 1) {
        return fail(Errc::invalid_argument, "certificate {}: {}", files.certificate,
                    take_tls_errors());
    }
    return context;
}

std::string take_tls_errors() {
    std::string out;
    while (const unsigned long code = ERR_get_error()) {
        const char* reason = ERR_reason_error_string(code);
        if (!out.empty()) out += "; ";
        out += reason != nullptr ? reason : "unnamed error";
    }
    return out.empty() ? "no reason given" : out;
}

}  // namespace antipode::env
