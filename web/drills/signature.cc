#include "web/drills/signature.h"

#include <boost/json/serialize.hpp>
#include <memory>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include "common/base/base64.h"
#include "common/base/freer.h"
#include "replicator/control/control_api.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

namespace json = boost::json;

using BioPointer = std::unique_ptr<BIO, Freer<BIO_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using CertificatePointer = std::unique_ptr<X509, Freer<X509_free>>;
using DigestPointer = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>>;

constexpr std::string_view kFormat = "antipode-signed-report";
constexpr std::string_view kAlgorithm = "ecdsa-sha256";
constexpr int64_t kVersion = 1;
constexpr size_t kDocumentBytesMax = size_t{4} << 20;

std::string signed_bytes(std::string_view report) {
    return std::string(kFormat) + " 1\n" + std::string(report);
}

Result<std::string> certificate_text(const std::string& path) {
    const BioPointer file(BIO_new_file(path.c_str(), "r"));
    const CertificatePointer certificate(
        file ? PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr) : nullptr);
    const BioPointer text(BIO_new(BIO_s_mem()));
    if (!certificate || !text || PEM_write_bio_X509(text.get(), certificate.get()) != 1) {
        return fail(Errc::io, "{}: holds no certificate that can be read", path);
    }
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(text.get(), &bytes);
    return std::string(bytes, static_cast<size_t>(size));
}

Result<CertificatePointer> parse_certificate(std::string_view text) {
    const BioPointer memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    CertificatePointer certificate(
        memory ? PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr) : nullptr);
    if (!certificate) return fail(Errc::corrupt, "report: its certificate cannot be read");
    return certificate;
}

std::string fingerprint_of(const X509* certificate) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    X509_digest(certificate, EVP_sha256(), digest.data(), &size);
    std::string out;
    for (unsigned i = 0; i < size; ++i) {
        out += fmt::format("{}{:02X}", i == 0 ? "" : ":", digest[i]);
    }
    return out;
}

std::string subject_of(const X509* certificate) {
    const BioPointer bio(BIO_new(BIO_s_mem()));
    X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &bytes);
    return control::printable(std::string_view(bytes, static_cast<size_t>(size)), 200);
}

Result<> check_chain(X509* certificate, const std::string& ca_path, int64_t signed_unix_ms) {
    using StorePointer = std::unique_ptr<X509_STORE, Freer<X509_STORE_free>>;
    using ContextPointer = std::unique_ptr<X509_STORE_CTX, Freer<X509_STORE_CTX_free>>;
    const StorePointer store(X509_STORE_new());
    const ContextPointer context(X509_STORE_CTX_new());
    if (!store || X509_STORE_load_locations(store.get(), ca_path.c_str(), nullptr) != 1) {
        return fail(Errc::io, "{}: holds no certificate that can be read", ca_path);
    }
    if (!context || X509_STORE_CTX_init(context.get(), store.get(), certificate, nullptr) != 1) {
        return fail(Errc::io, "report: out of memory");
    }
    X509_VERIFY_PARAM* rules = X509_STORE_CTX_get0_param(context.get());
    X509_VERIFY_PARAM_set_time(rules, static_cast<time_t>(signed_unix_ms / 1000));
    X509_VERIFY_PARAM_set_purpose(rules, X509_PURPOSE_ANY);
    if (X509_verify_cert(context.get()) != 1) {
        return fail(Errc::denied, "the signer, {}, is not of the authority in {}: {}",
                    subject_of(certificate), ca_path,
                    X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get())));
    }
    return {};
}

struct Parsed {
    std::string report;
    std::string signature;
    CertificatePointer certificate;
};

Result<std::string> field(const json::object& object, std::string_view name) {
    const json::value* found = object.if_contains(name);
    if (found == nullptr || !found->is_string()) {
        return fail(Errc::corrupt, "report: {}: expected a text", name);
    }
    return std::string(found->get_string());
}

Result<Parsed> parse_document(std::string_view document) {
    if (document.size() > kDocumentBytesMax) {
        return fail(Errc::limit, "report: is larger than {} bytes", kDocumentBytesMax);
    }
    FT_TRY(const json::value value, control::parse_json(document));
    if (!value.is_object()) return fail(Errc::corrupt, "report: expected an object");
    const json::object& object = value.get_object();
    FT_TRY(const std::string format, field(object, "format"));
    FT_TRY(const std::string algorithm, field(object, "algorithm"));
    const json::value* version = object.if_contains("version");
    if (format != kFormat || algorithm != kAlgorithm || version == nullptr ||
        *version != kVersion) {
        return fail(Errc::unsupported, "report: is none of format {} {} with {}", kFormat, kVersion,
                    kAlgorithm);
    }
    Parsed parsed;
    FT_TRY(parsed.report, field(object, "report"));
    FT_TRY(const std::string certificate, field(object, "certificate"));
    FT_TRY(parsed.certificate, parse_certificate(certificate));
    FT_TRY(const std::string signature, field(object, "signature"));
    FT_TRY(parsed.signature, from_base64url(signature));
    return parsed;
}

Result<VerifiedReport> check_signature(const Parsed& parsed) {
    EVP_PKEY* key = X509_get0_pubkey(parsed.certificate.get());
    const DigestPointer context(EVP_MD_CTX_new());
    const std::string bytes = signed_bytes(parsed.report);
    const auto* signature = reinterpret_cast<const unsigned char*>(parsed.signature.data());
    const bool good =
        key != nullptr && context != nullptr && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
        EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
        EVP_DigestVerify(context.get(), signature, parsed.signature.size(),
                         reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()) == 1;
    if (!good) {
        return fail(Errc::corrupt,
                    "the signature does not fit: the report was changed, or it is "
                    "not of this certificate");
    }
    return VerifiedReport{parsed.report, subject_of(parsed.certificate.get()),
                          fingerprint_of(parsed.certificate.get())};
}

}  // namespace

Result<std::string> sign_report(const std::string& report, const HttpsFiles& signer) {
    const BioPointer file(BIO_new_file(signer.key.c_str(), "r"));
    const KeyPointer key(file ? PEM_read_bio_PrivateKey(file.get(), nullptr, nullptr, nullptr)
                              : nullptr);
    if (!key || EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_EC) {
        return fail(Errc::io, "{}: holds no elliptic-curve key that can be read", signer.key);
    }
    FT_TRY(const std::string certificate, certificate_text(signer.certificate));
    const DigestPointer context(EVP_MD_CTX_new());
    const std::string bytes = signed_bytes(report);
    const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
    size_t size = 0;
    std::string signature;
    if (!context ||
        EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) != 1 ||
        EVP_DigestSign(context.get(), nullptr, &size, data, bytes.size()) != 1) {
        return fail(Errc::io, "{}: cannot sign", signer.key);
    }
    signature.resize(size);
    if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                       data, bytes.size()) != 1) {
        return fail(Errc::io, "{}: cannot sign", signer.key);
    }
    signature.resize(size);
    json::object out;
    out["format"] = kFormat;
    out["version"] = kVersion;
    out["algorithm"] = kAlgorithm;
    out["report"] = report;
    out["certificate"] = certificate;
    out["signature"] = base64url(signature);
    // A pair of files that do not belong together is found now, not by who checks the report.
    std::string document = json::serialize(out);
    FT_TRY_VOID(verify_report(document));
    return document;
}

Result<VerifiedReport> verify_report(std::string_view document) {
    FT_TRY(const Parsed parsed, parse_document(document));
    return check_signature(parsed);
}

Result<VerifiedReport> verify_report(std::string_view document, const std::string& ca_path,
                                     int64_t signed_unix_ms) {
    FT_TRY(const Parsed parsed, parse_document(document));
    FT_TRY(VerifiedReport verified, check_signature(parsed));
    FT_TRY_VOID(check_chain(parsed.certificate.get(), ca_path, signed_unix_ms));
    return verified;
}

}  // namespace antipode::web
