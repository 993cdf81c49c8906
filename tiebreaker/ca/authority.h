// Authority: our own small certificate authority, in a directory.
//
//   ca.key (0600)  ca.pem  ca.crl  index  issued/SERIAL.pem  lock
//
// It signs ECDSA P-256 certificates whose URI says what their owner is (common/env/posix/tls.h),
// and keeps a list of what it signed and what it took back. Life of a directory: init writes index,
// CRL and certificate first and the key last, so that a directory without ca.key is no authority
// and init may be run again. A certificate is entered in the index before it is handed out: an
// issued certificate that nobody knows of cannot be revoked. A revocation is in the index before it
// is in the CRL; open() makes the CRL anew if a revocation of the index is missing in it.
//
// Threads: one; other processes are kept out by a lock while an Authority lives.
// INVARIANTS: serial numbers are random and unique; a revoked certificate stays in the CRL until it
// would have expired by itself; the CRL does not expire before the authority (an expired CRL would
// shut every site out).
#pragma once

#include <chrono>
#include <memory>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string>
#include <vector>

#include "common/base/freer.h"
#include "common/base/unique_fd.h"
#include "common/env/posix/tls.h"

namespace antipode::tiebreaker {

using KeyPointer = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;

// What a certificate is to say.
struct Subject {
    env::CertificateIdentity identity;
    std::vector<std::string> hosts;  // DNS names and addresses, of servers
    friend bool operator==(const Subject&, const Subject&) = default;
};

// A key pair's public half and the names that its owner wants signed.
struct SigningRequest {
    KeyPointer key;
    Subject subject;
};

struct IndexEntry {
    std::string serial;
    Subject subject;
    std::chrono::sys_seconds not_after;
    std::chrono::sys_seconds revoked_at{};  // the epoch: it is not
    std::string reason;
    bool revoked() const { return revoked_at != std::chrono::sys_seconds(); }
};

struct Issued {
    std::string serial;
    std::string pem;
    std::chrono::sys_seconds not_after;
};

KeyPointer make_key();
std::string key_pem(EVP_PKEY* key);
Result<> check_subject(const Subject& subject);
Result<std::string> request_pem(const Subject& subject, EVP_PKEY* key);
// Checks that the request is signed by the key in it.
Result<SigningRequest> read_request(const std::string& path);
// A certificate's names, as they were asked for.
Result<Subject> subject_of(const X509* certificate);

class Authority {
  public:
    using Days = std::chrono::days;
    static Result<Authority> init(const std::string& directory, const std::string& name, Days life);
    static Result<Authority> open(const std::string& directory);

    Result<Issued> issue(const Subject& subject, EVP_PKEY* public_key, Days life);
    // For tests and repairs: the validity is given, not counted from now.
    Result<Issued> issue_between(const Subject& subject, EVP_PKEY* public_key,
                                 std::chrono::sys_seconds from, std::chrono::sys_seconds to);
    Result<> revoke(const std::string& serial, const std::string& reason);
    const std::vector<IndexEntry>& index() const { return index_; }
    std::string ca_path() const { return directory_ + "/ca.pem"; }
    std::string crl_path() const { return directory_ + "/ca.crl"; }
    Result<> write_crl();
    // Words that --reason takes.
    static std::vector<std::string> reasons();

  private:
    Authority(std::string directory, UniqueFd lock)
        : directory_(std::move(directory)), lock_(std::move(lock)) {}
    Result<> load();
    Result<> write_index() const;
    bool crl_has_every_revocation() const;
    Result<std::string> sign(const Subject& subject, EVP_PKEY* public_key,
                             const std::string& serial, std::chrono::sys_seconds from,
                             std::chrono::sys_seconds to) const;

    std::string directory_;
    UniqueFd lock_;
    KeyPointer key_;
    env::X509Pointer certificate_;
    std::vector<IndexEntry> index_;
};

}  // namespace antipode::tiebreaker
