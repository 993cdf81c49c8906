// Reports of drills, signed: with the site's key, whose certificate the pair's authority has made,
// or with the page's own where the site has none yet. Anybody who has the authority's certificate,
// or the page's fingerprint, can check one, on any machine (`antipode verify-report`).
//
//     {"format":"antipode-signed-report","version":1,"report":"{...}","certificate":"PEM",
//      "algorithm":"ecdsa-sha256","signature":"base64url"}
//
// The signature covers a prefix that names the format, and the bytes of `report` as they are:
// nothing is written anew between signing and checking.
//
// Threads: functions.
// On failure the error says what is wrong: the file, the document, the signature, or the signer.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "web/security/https.h"

namespace antipode::web {

// `report` is the text of a JSON document.
Result<std::string> sign_report(const std::string& report, const HttpsFiles& signer);

struct VerifiedReport {
    std::string report;       // the text that was signed
    std::string subject;      // of the signer's certificate
    std::string fingerprint;  // "AB:CD:...", SHA-256 of it
};
// Checks the signature alone.
Result<VerifiedReport> verify_report(std::string_view document);
// ... and that the signer's certificate is of this authority (a PEM file) and was valid at
// `signed_unix_ms`.
Result<VerifiedReport> verify_report(std::string_view document, const std::string& ca_path,
                                     int64_t signed_unix_ms);

}  // namespace antipode::web
