#include "tiebreaker/ca/x509.h"

#include <arpa/inet.h>
#include <ctime>
#include <openssl/bn.h>
#include <openssl/rand.h>

#include "common/base/check.h"

namespace antipode::tiebreaker {
namespace {

// 4 or 16 bytes, or empty: it is no address.
std::string address_bytes(const std::string& host) {
    std::string bytes(16, '\0');
    if (::inet_pton(AF_INET, host.c_str(), bytes.data()) == 1) return bytes.substr(0, 4);
    if (::inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1) return bytes;
    return {};
}

void add_name(GENERAL_NAMES* names, int type, const std::string& bytes) {
    GENERAL_NAME* name = GENERAL_NAME_new();
    FT_CHECK(name != nullptr, "GENERAL_NAME_new");
    ASN1_STRING* text = type == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
    FT_CHECK(text != nullptr, "ASN1_STRING");
    FT_CHECK(ASN1_STRING_set(text, bytes.data(), static_cast<int>(bytes.size())) == 1, "set");
    GENERAL_NAME_set0_value(name, type, text);
    FT_CHECK(sk_GENERAL_NAME_push(names, name) > 0, "push");
}

std::string bytes_of(const ASN1_STRING* text) {
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
            static_cast<size_t>(ASN1_STRING_length(text))};
}

std::string address_text(const std::string& bytes) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const int family = bytes.size() == 4 ? AF_INET : AF_INET6;
    if (::inet_ntop(family, bytes.data(), text.data(), text.size()) == nullptr) return "?";
    return text.data();
}

}  // namespace

std::string random_serial() {
    std::array<unsigned char, 16> bytes{};
    FT_CHECK(RAND_bytes(bytes.data(), bytes.size()) == 1, "no random numbers");
    bytes[0] = static_cast<unsigned char>((bytes[0] & 0x3fu) | 0x40u);  // positive, 16 bytes long
    std::string out;
    for (const unsigned char byte : bytes) out += fmt::format("{:02X}", byte);
    return out;
}

SerialPointer serial_from(const std::string& hexadecimal) {
    BIGNUM* number = nullptr;
    FT_CHECK(BN_hex2bn(&number, hexadecimal.c_str()) != 0, "serial {}", hexadecimal);
    SerialPointer serial(BN_to_ASN1_INTEGER(number, nullptr));
    BN_free(number);
    FT_CHECK(serial != nullptr, "serial {}", hexadecimal);
    return serial;
}

TimePointer time_from(std::chrono::sys_seconds time) {
    TimePointer out(ASN1_TIME_set(nullptr, time.time_since_epoch().count()));
    FT_CHECK(out != nullptr, "ASN1_TIME_set");
    return out;
}

std::string text_of(std::chrono::sys_seconds time) {
    const std::time_t seconds = time.time_since_epoch().count();
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    std::array<char, 32> text{};
    const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return {text.data(), length};
}

Result<std::chrono::sys_seconds> time_from_text(const std::string& text) {
    std::tm parts{};
    const char* rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    if (rest == nullptr || *rest != '\0') {
        return fail(Errc::corrupt, "'{}' is no time in the form 2026-11-21T09:00:00Z", text);
    }
    return std::chrono::sys_seconds(std::chrono::seconds(::timegm(&parts)));
}

void set_name(X509_NAME* name, const std::string& common_name) {
    const auto add = [&](const char* field, const std::string& value) {
        FT_CHECK(X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                            reinterpret_cast<const unsigned char*>(value.data()),
                                            static_cast<int>(value.size()), -1, 0) == 1,
                 "certificate name {}={}", field, value);
    };
    add("O", "Antipode");
    add("CN", common_name);
}

NamesPointer alternative_names(const Subject& subject) {
    NamesPointer names(GENERAL_NAMES_new());
    FT_CHECK(names != nullptr, "GENERAL_NAMES_new");
    add_name(names.get(), GEN_URI, subject.identity.uri());
    for (const std::string& host : subject.hosts) {
        const std::string address = address_bytes(host);
        if (address.empty()) {
            add_name(names.get(), GEN_DNS, host);
        } else {
            add_name(names.get(), GEN_IPADD, address);
        }
    }
    return names;
}

Result<Subject> subject_from(const GENERAL_NAMES* names) {
    Subject subject;
    bool named = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
        switch (name->type) {
            case GEN_URI: {
                if (named) return fail(Errc::protocol, "names: more than one URI");
                const std::string uri = bytes_of(name->d.uniformResourceIdentifier);
                FT_TRY(subject.identity, env::CertificateIdentity::parse(uri));
                named = true;
                break;
            }
            case GEN_DNS:
                subject.hosts.push_back(bytes_of(name->d.dNSName));
                break;
            case GEN_IPADD:
                subject.hosts.push_back(address_text(bytes_of(name->d.iPAddress)));
                break;
            default:
                return fail(Errc::protocol, "names: one is neither URI, DNS name nor address");
        }
    }
    if (!named) return fail(Errc::protocol, "names: no antipode:// URI among them");
    return subject;
}

ExtensionPointer extension(X509V3_CTX* context, int nid, const char* value) {
    ExtensionPointer made(X509V3_EXT_conf_nid(nullptr, context, nid, value));
    FT_CHECK(made != nullptr, "certificate extension {}={}: {}", nid, value,
             env::take_tls_errors());
    return made;
}

}  // namespace antipode::tiebreaker
