#include "tiebreaker/ca/authority.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <openssl/ec.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "common/base/check.h"
#include "tiebreaker/atomic_file.h"
#include "tiebreaker/ca/x509.h"

namespace antipode::tiebreaker {
namespace {

using std::chrono::sys_seconds;

constexpr size_t kFileBytesMax = 64 << 20;
constexpr std::string_view kIndexHead =
    "# antipode-ca index 1: serial state not_after revoked_at reason uri hosts";
constexpr std::chrono::minutes kClockSkew(10);  // a certificate is valid a little before it is made

struct Reason {
    const char* word;
    int code;  // RFC 5280, 5.3.1
};
constexpr std::array kReasons{Reason{"unspecified", 0}, Reason{"key-compromise", 1},
                              Reason{"superseded", 4}, Reason{"decommissioned", 5}};

sys_seconds now() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

bool is_host(std::string_view host) {
    return !host.empty() && host.size() <= 253 && std::all_of(host.begin(), host.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '.' || c == ':';
    });
}

template <typename Certificate, typename Add>
void add_extensions(Certificate* certificate, X509V3_CTX* context, const Subject& subject,
                    Add add) {
    const auto put = [&](int nid, const char* value) {
        FT_CHECK(add(certificate, extension(context, nid, value).get(), -1) == 1, "extension");
    };
    put(NID_basic_constraints, "critical,CA:FALSE");
    put(NID_key_usage, "critical,digitalSignature");
    switch (subject.identity.role) {
        case env::PeerRole::site:
            put(NID_ext_key_usage, "clientAuth");
            break;
        case env::PeerRole::tiebreaker:
            put(NID_ext_key_usage, "serverAuth");
            break;
        case env::PeerRole::web:
            put(NID_ext_key_usage, "serverAuth,clientAuth");
            break;
    }
    put(NID_subject_key_identifier, "hash");
    put(NID_authority_key_identifier, "keyid:always");
}

// One line of the index, fields separated by blanks, '-' for nothing.
std::string line_of(const IndexEntry& entry) {
    std::string hosts;
    for (const auto& host : entry.subject.hosts) hosts += (hosts.empty() ? "" : ",") + host;
    return fmt::format("{} {} {} {} {} {} {}\n", entry.serial,
                       entry.revoked() ? "revoked" : "valid", text_of(entry.not_after),
                       entry.revoked() ? text_of(entry.revoked_at) : "-",
                       entry.reason.empty() ? "-" : entry.reason, entry.subject.identity.uri(),
                       hosts.empty() ? "-" : hosts);
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> out;
    while (true) {
        const size_t at = text.find(separator);
        out.emplace_back(text.substr(0, at));
        if (at == std::string_view::npos) return out;
        text.remove_prefix(at + 1);
    }
}

Result<IndexEntry> entry_from(std::string_view line) {
    const auto fields = split(line, ' ');
    if (fields.size() != 7) return fail(Errc::corrupt, "{} fields, expected 7", fields.size());
    IndexEntry entry;
    entry.serial = fields[0];
    if (entry.serial.empty() ||
        entry.serial.find_first_not_of("0123456789ABCDEF") != std::string::npos) {
        return fail(Errc::corrupt, "serial '{}' is not hexadecimal", entry.serial);
    }
    FT_TRY(entry.not_after, time_from_text(fields[2]));
    if (fields[1] == "revoked") {
        FT_TRY(entry.revoked_at, time_from_text(fields[3]));
    } else if (fields[1] != "valid") {
        return fail(Errc::corrupt, "state '{}' is neither valid nor revoked", fields[1]);
    }
    if (fields[4] != "-") entry.reason = fields[4];
    FT_TRY(entry.subject.identity, env::CertificateIdentity::parse(fields[5]));
    if (fields[6] != "-") entry.subject.hosts = split(fields[6], ',');
    return entry;
}

Result<std::string> make_ca_certificate(EVP_PKEY* key, const std::string& name,
                                        Authority::Days life) {
    const env::X509Pointer made(X509_new());
    X509* certificate = made.get();
    X509_set_version(certificate, X509_VERSION_3);
    X509_set_serialNumber(certificate, serial_from(random_serial()).get());
    X509_set1_notBefore(certificate, time_from(now() - kClockSkew).get());
    X509_set1_notAfter(certificate, time_from(now() + life).get());
    set_name(X509_get_subject_name(certificate), name);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_set_pubkey(certificate, key);
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
    const auto put = [&](int nid, const char* value) {
        FT_CHECK(X509_add_ext(certificate, extension(&context, nid, value).get(), -1) == 1, "ext");
    };
    put(NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    put(NID_key_usage, "critical,keyCertSign,cRLSign");
    put(NID_subject_key_identifier, "hash");
    if (X509_sign(certificate, key, EVP_sha256()) == 0) {
        return fail(Errc::io, "signing the authority's certificate: {}", env::take_tls_errors());
    }
    return pem_text([&](BIO* out) { PEM_write_bio_X509(out, certificate); });
}

}  // namespace

KeyPointer make_key() {
    KeyPointer key(EVP_EC_gen("P-256"));
    FT_CHECK(key != nullptr, "making a P-256 key: {}", env::take_tls_errors());
    return key;
}

std::string key_pem(EVP_PKEY* key) {
    return pem_text([&](BIO* out) {
        PEM_write_bio_PKCS8PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
    });
}

Result<> check_subject(const Subject& subject) {
    const auto& identity = subject.identity;
    if (identity.name.empty()) return fail(Errc::invalid_argument, "certificate: has no name");
    if (identity.role == env::PeerRole::site) {
        if (!subject.hosts.empty()) {
            return fail(Errc::invalid_argument, "site {}: a site's certificate names no hosts",
                        identity.name);
        }
    } else if (subject.hosts.empty()) {
        return fail(Errc::invalid_argument,
                    "{} {}: needs the host names or addresses that clients dial (--host)",
                    to_string(identity.role), identity.name);
    }
    for (const std::string& host : subject.hosts) {
        if (!is_host(host)) {
            return fail(Errc::invalid_argument, "--host {}: is no host name or address", host);
        }
    }
    for (const std::string& pattern : identity.pairs) {
        FT_TRY_VOID(env::check_pair_pattern(pattern));
    }
    auto same = env::CertificateIdentity::parse(identity.uri());  // its length, above all
    if (!same) return fail(std::move(same).error());
    return {};
}

Result<std::string> request_pem(const Subject& subject, EVP_PKEY* key) {
    FT_TRY_VOID(check_subject(subject));
    const RequestPointer request(X509_REQ_new());
    X509_REQ_set_version(request.get(), X509_REQ_VERSION_1);
    set_name(X509_REQ_get_subject_name(request.get()), std::string(subject.identity.name.view()));
    X509_REQ_set_pubkey(request.get(), key);
    STACK_OF(X509_EXTENSION)* extensions = sk_X509_EXTENSION_new_null();
    const NamesPointer names = alternative_names(subject);
    FT_CHECK(
        X509V3_add1_i2d(&extensions, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1,
        "names");
    X509_REQ_add_extensions(request.get(), extensions);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    if (X509_REQ_sign(request.get(), key, EVP_sha256()) == 0) {
        return fail(Errc::io, "signing the request: {}", env::take_tls_errors());
    }
    return pem_text([&](BIO* out) { PEM_write_bio_X509_REQ(out, request.get()); });
}

Result<SigningRequest> read_request(const std::string& path) {
    FT_TRY(const std::string text, read_file(path, 1 << 20));
    const BioPointer bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    const RequestPointer request(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
    if (!request) {
        return fail(Errc::invalid_argument, "request {}: is no certificate request in PEM: {}",
                    path, env::take_tls_errors());
    }
    SigningRequest out{KeyPointer(X509_REQ_get_pubkey(request.get())), {}};
    if (!out.key || X509_REQ_verify(request.get(), out.key.get()) != 1) {
        (void)env::take_tls_errors();
        return fail(Errc::denied, "request {}: is not signed by the key in it", path);
    }
    STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(request.get());
    const NamesPointer names(static_cast<GENERAL_NAMES*>(
        X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr)));
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    if (!names) return fail(Errc::protocol, "request {}: asks for no names", path);
    auto subject = subject_from(names.get());
    if (!subject) return fail(std::move(subject).error().within("request " + path));
    out.subject = std::move(*subject);
    return out;
}

Result<Subject> subject_of(const X509* certificate) {
    const NamesPointer names(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    if (!names) return fail(Errc::protocol, "certificate: has no names");
    return subject_from(names.get());
}

std::vector<std::string> Authority::reasons() {
    std::vector<std::string> out;
    for (const Reason& reason : kReasons) out.emplace_back(reason.word);
    return out;
}

Result<Authority> Authority::init(const std::string& directory, const std::string& name,
                                  Days life) {
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
        return fail_errno(errno, "{}", directory);
    }
    FT_TRY(UniqueFd lock, lock_file(directory + "/lock", "antipode-ca"));
    if (::access((directory + "/ca.key").c_str(), F_OK) == 0) {
        return fail(Errc::already_exists, "{}: holds an authority already", directory);
    }
    if (::mkdir((directory + "/issued").c_str(), 0700) != 0 && errno != EEXIST) {
        return fail_errno(errno, "{}/issued", directory);
    }
    Authority authority(directory, std::move(lock));
    authority.key_ = make_key();
    FT_TRY(const std::string pem, make_ca_certificate(authority.key_.get(), name, life));
    FT_TRY_VOID(write_file(authority.ca_path(), pem, 0644, Existing::replace));
    FT_TRY(authority.certificate_, env::read_certificate(authority.ca_path()));
    FT_TRY_VOID(authority.write_index());
    FT_TRY_VOID(authority.write_crl());
    FT_TRY_VOID(
        write_file(directory + "/ca.key", key_pem(authority.key_.get()), 0600, Existing::keep));
    return authority;
}

Result<Authority> Authority::open(const std::string& directory) {
    if (::access((directory + "/ca.key").c_str(), F_OK) != 0) {
        return fail_errno(errno, "{}: is no authority (antipode-ca init makes one): {}", directory,
                          "ca.key");
    }
    FT_TRY(UniqueFd lock, lock_file(directory + "/lock", "antipode-ca"));
    Authority authority(directory, std::move(lock));
    FT_TRY_VOID(authority.load());
    return authority;
}

Result<> Authority::load() {
    const std::string key_path = directory_ + "/ca.key";
    FT_TRY(const std::string key_text, read_file(key_path, 1 << 16));
    const BioPointer bio(BIO_new_mem_buf(key_text.data(), static_cast<int>(key_text.size())));
    key_.reset(PEM_read_bio_PrivateKey(
        bio.get(), nullptr, [](char*, int, int, void*) { return 0; }, nullptr));
    if (!key_) {
        return fail(Errc::corrupt, "{}: is no private key in PEM: {}", key_path,
                    env::take_tls_errors());
    }
    FT_TRY(certificate_, env::read_certificate(ca_path()));
    if (X509_check_private_key(certificate_.get(), key_.get()) != 1) {
        (void)env::take_tls_errors();
        return fail(Errc::corrupt, "{}: is the key of another authority than {}", key_path,
                    ca_path());
    }
    const std::string index_path = directory_ + "/index";
    FT_TRY(const std::string text, read_file(index_path, kFileBytesMax));
    size_t number = 0;
    for (const std::string& line : split(text, '\n')) {
        ++number;
        if (number == 1 && line != kIndexHead) {
            return fail(Errc::version, "{}: does not begin with '{}'", index_path, kIndexHead);
        }
        if (number == 1 || line.empty()) continue;
        auto entry = entry_from(line);
        if (!entry) {
            return fail(std::move(entry).error().within(fmt::format("{}:{}", index_path, number)));
        }
        index_.push_back(std::move(*entry));
    }
    if (!crl_has_every_revocation()) return write_crl();
    return {};
}

// By content, not by the files' times: those are no finer than the kernel's tick, and clocks step.
bool Authority::crl_has_every_revocation() const {
    const auto listed = env::revoked_serials(crl_path());
    return listed.has_value() &&
           std::all_of(index_.begin(), index_.end(), [&](const IndexEntry& entry) {
               return !entry.revoked() || entry.not_after < now() || listed->contains(entry.serial);
           });
}

Result<> Authority::write_index() const {
    std::string text(kIndexHead);
    text += '\n';
    for (const IndexEntry& entry : index_) text += line_of(entry);
    return write_file(directory_ + "/index", text, 0600, Existing::replace);
}

Result<std::string> Authority::sign(const Subject& subject, EVP_PKEY* public_key,
                                    const std::string& serial, sys_seconds from,
                                    sys_seconds to) const {
    const env::X509Pointer made(X509_new());
    X509* certificate = made.get();
    X509_set_version(certificate, X509_VERSION_3);
    X509_set_serialNumber(certificate, serial_from(serial).get());
    X509_set1_notBefore(certificate, time_from(from).get());
    X509_set1_notAfter(certificate, time_from(to).get());
    set_name(X509_get_subject_name(certificate), std::string(subject.identity.name.view()));
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate_.get()));
    X509_set_pubkey(certificate, public_key);
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate_.get(), certificate, nullptr, nullptr, 0);
    add_extensions(certificate, &context, subject, X509_add_ext);
    const NamesPointer names = alternative_names(subject);
    FT_CHECK(X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0,
                               X509V3_ADD_DEFAULT) == 1,
             "names");
    if (X509_sign(certificate, key_.get(), EVP_sha256()) == 0) {
        return fail(Errc::io, "signing: {}", env::take_tls_errors());
    }
    return pem_text([&](BIO* out) { PEM_write_bio_X509(out, certificate); });
}

Result<Issued> Authority::issue(const Subject& subject, EVP_PKEY* public_key, Days life) {
    const sys_seconds to =
        std::min(now() + std::chrono::seconds(life), env::not_after_of(certificate_.get()));
    return issue_between(subject, public_key, now() - kClockSkew, to);
}

Result<Issued> Authority::issue_between(const Subject& subject, EVP_PKEY* public_key,
                                        sys_seconds from, sys_seconds to) {
    FT_TRY_VOID(check_subject(subject));
    if (EVP_PKEY_get_base_id(public_key) != EVP_PKEY_EC || EVP_PKEY_get_bits(public_key) != 256) {
        return fail(Errc::invalid_argument, "{}: its key is not ECDSA P-256",
                    subject.identity.uri());
    }
    Issued issued{random_serial(), {}, to};
    FT_TRY(issued.pem, sign(subject, public_key, issued.serial, from, to));
    index_.push_back({issued.serial, subject, to, {}, {}});
    if (auto written = write_index(); !written) {
        index_.pop_back();
        return fail(std::move(written).error());
    }
    FT_TRY_VOID(write_file(fmt::format("{}/issued/{}.pem", directory_, issued.serial), issued.pem,
                           0644, Existing::keep));
    return issued;
}

Result<> Authority::revoke(const std::string& serial, const std::string& reason) {
    const auto found = std::find_if(index_.begin(), index_.end(),
                                    [&](const auto& entry) { return entry.serial == serial; });
    if (found == index_.end()) {
        return fail(Errc::not_found, "serial {}: this authority has not issued it", serial);
    }
    if (found->revoked()) {
        return fail(Errc::already_exists, "serial {}: was revoked on {}", serial,
                    text_of(found->revoked_at));
    }
    const auto known = std::any_of(kReasons.begin(), kReasons.end(),
                                   [&](const Reason& r) { return reason == r.word; });
    if (!known) return fail(Errc::invalid_argument, "--reason {}: is not known", reason);
    found->revoked_at = now();
    found->reason = reason;
    FT_TRY_VOID(write_index());
    return write_crl();
}

Result<> Authority::write_crl() {
    const CrlPointer made(X509_CRL_new());
    X509_CRL* crl = made.get();
    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(certificate_.get()));
    X509_CRL_set1_lastUpdate(crl, time_from(now() - kClockSkew).get());
    X509_CRL_set1_nextUpdate(crl, X509_get0_notAfter(certificate_.get()));
    for (const IndexEntry& entry : index_) {
        if (!entry.revoked() || entry.not_after < now()) continue;
        X509_REVOKED* revoked = X509_REVOKED_new();
        FT_CHECK(revoked != nullptr, "X509_REVOKED_new");
        X509_REVOKED_set_serialNumber(revoked, serial_from(entry.serial).get());
        X509_REVOKED_set_revocationDate(revoked, time_from(entry.revoked_at).get());
        for (const Reason& reason : kReasons) {
            if (entry.reason != reason.word || reason.code == 0) continue;
            const std::unique_ptr<ASN1_ENUMERATED, Freer<ASN1_ENUMERATED_free>> code(
                ASN1_ENUMERATED_new());
            ASN1_ENUMERATED_set(code.get(), reason.code);
            X509_REVOKED_add1_ext_i2d(revoked, NID_crl_reason, code.get(), 0, 0);
        }
        X509_CRL_add0_revoked(crl, revoked);
    }
    X509_CRL_sort(crl);
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate_.get(), nullptr, nullptr, crl, 0);
    X509_CRL_add_ext(crl, extension(&context, NID_authority_key_identifier, "keyid:always").get(),
                     -1);
    const SerialPointer number(ASN1_INTEGER_new());
    ASN1_INTEGER_set_int64(number.get(), std::chrono::system_clock::now().time_since_epoch() /
                                             std::chrono::milliseconds(1));
    X509_CRL_add1_ext_i2d(crl, NID_crl_number, number.get(), 0, 0);
    if (X509_CRL_sign(crl, key_.get(), EVP_sha256()) == 0) {
        return fail(Errc::io, "signing the CRL: {}", env::take_tls_errors());
    }
    const std::string pem = pem_text([&](BIO* out) { PEM_write_bio_X509_CRL(out, crl); });
    return write_file(crl_path(), pem, 0644, Existing::replace);
}

}  // namespace antipode::tiebreaker
