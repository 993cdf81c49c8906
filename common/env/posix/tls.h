// Mutual TLS 1.3 with certificates of our own authority: the context, and who a certificate names.
//
// A certificate of ours carries one URI, antipode://ROLE/NAME, which is what the peer is: ROLE is
// site, tiebreaker or web. A site's may name pairs, antipode://site/site-a?pairs=web1,db-*: the
// pairs that it may enrol and ask about; a trailing '*' stands for any ending. Without pairs= it
// may ask about pairs that name the site already, and enrol none. Servers' certificates also carry
// their host names and addresses, which a client compares with what it dialled.
//
// Threads: functions from any thread; a context is shared by all connections once it is made.
// INVARIANTS
//   - No context of ours speaks anything but TLS 1.3, or accepts a peer without a certificate.
//   - No session is resumed: each connection's certificate is checked against the present CRL.
// On failure the error names the file and what is wrong with it.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <memory>
#include <openssl/x509.h>
#include <set>
#include <string>
#include <vector>

#include "common/base/freer.h"
#include "common/base/name.h"
#include "common/base/result.h"

namespace antipode::env {

enum class TlsRole : uint8_t { client = 1, server };
enum class PeerRole : uint8_t { site = 1, tiebreaker, web };
std::string_view to_string(PeerRole role);

struct TlsFiles {
    std::string ca;
    std::string crl;  // may be empty: nothing is revoked
    std::string certificate;
    std::string key;
};

// What a certificate says of its owner.
struct CertificateIdentity {
    PeerRole role = PeerRole::site;
    Name name;
    std::vector<std::string> pairs;  // patterns

    static Result<CertificateIdentity> parse(std::string_view uri);
    std::string uri() const;
    bool covers(const Name& pair) const;
    friend bool operator==(const CertificateIdentity&, const CertificateIdentity&) = default;
};
// A pair's name, or its beginning and a '*'.
Result<> check_pair_pattern(std::string_view pattern);

Result<CertificateIdentity> identity_of(const X509* certificate);
std::string serial_of(const X509* certificate);  // upper-case hexadecimal, as in `antipode-ca list`
std::chrono::sys_seconds not_after_of(const X509* certificate);

using X509Pointer = std::unique_ptr<X509, Freer<X509_free>>;
Result<X509Pointer> read_certificate(const std::string& path);
// When the first of all certificates in the file expires: an authority's may hold several.
Result<std::chrono::sys_seconds> first_not_after(const std::string& path);

// Serial numbers, as serial_of() writes them.
Result<std::set<std::string>> revoked_serials(const std::string& crl_path);

// Checks everything that can be wrong with the files: unreadable, not PEM, key of another
// certificate, key open to everybody, certificate of another authority, expired, of another use.
Result<std::shared_ptr<boost::asio::ssl::context>> make_mutual_tls(TlsRole role,
                                                                   const TlsFiles& files);

// Empties OpenSSL's error queue of this thread into one line.
std::string take_tls_errors();

}  // namespace antipode::env
