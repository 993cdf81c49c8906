// The HTTPS side of the web daemon: its TLS context, and the certificate that it makes for itself
// at the first start, to be replaced by one of the customer's authority whenever he likes.
//
// Threads: functions; the context is used by the web thread.
// On failure the error names the file and what is wrong with it.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace antipode::web {

enum class TlsLeast { v1_3, v1_2 };

struct HttpsFiles {
    std::string certificate;  // PEM, with its chain
    std::string key;          // PEM
};

// Makes a P-256 key (mode 0600) and a certificate for `names` (host names and addresses), valid 825
// days. Errc::already_exists when either file is there.
Result<> make_self_signed(const HttpsFiles& files, const std::vector<std::string>& names);
// This host's name, its addresses, and localhost.
std::vector<std::string> own_names();

Result<std::shared_ptr<boost::asio::ssl::context>> make_https(const HttpsFiles& files,
                                                              TlsLeast least);

// "AB:CD:...", the SHA-256 of the certificate, as browsers show it.
Result<std::string> fingerprint_of(const std::string& certificate_path);
struct CertificateFacts {
    std::string subject;
    std::string issuer;
    std::string fingerprint;
    int64_t not_after_unix_ms = 0;
    bool self_signed = false;
};
Result<CertificateFacts> facts_of(const std::string& certificate_path);

}  // namespace antipode::web
