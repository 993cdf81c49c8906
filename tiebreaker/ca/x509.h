// Owners for OpenSSL's objects, and the few constructions that the authority needs.
//
// Threads: values. Failures are errors with OpenSSL's reasons; running out of memory aborts.
#pragma once

#include <chrono>
#include <memory>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string>
#include <vector>

#include "common/base/freer.h"
#include "common/base/result.h"
#include "tiebreaker/ca/authority.h"

namespace antipode::tiebreaker {

using BioPointer = std::unique_ptr<BIO, Freer<BIO_free>>;
using RequestPointer = std::unique_ptr<X509_REQ, Freer<X509_REQ_free>>;
using CrlPointer = std::unique_ptr<X509_CRL, Freer<X509_CRL_free>>;
using NamesPointer = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;
using ExtensionPointer = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;
using SerialPointer = std::unique_ptr<ASN1_INTEGER, Freer<ASN1_INTEGER_free>>;
using TimePointer = std::unique_ptr<ASN1_TIME, Freer<ASN1_TIME_free>>;

std::string random_serial();
SerialPointer serial_from(const std::string& hexadecimal);
TimePointer time_from(std::chrono::sys_seconds time);
std::string text_of(std::chrono::sys_seconds time);  // 2026-11-21T09:00:00Z
Result<std::chrono::sys_seconds> time_from_text(const std::string& text);

// A name of our own form: O=Antipode, CN=`common_name`.
void set_name(X509_NAME* name, const std::string& common_name);
NamesPointer alternative_names(const Subject& subject);
Result<Subject> subject_from(const GENERAL_NAMES* names);
ExtensionPointer extension(X509V3_CTX* context, int nid, const char* value);

template <typename Write>
std::string pem_text(Write write) {
    const BioPointer out(BIO_new(BIO_s_mem()));
    write(out.get());
    char* text = nullptr;
    const long bytes = BIO_get_mem_data(out.get(), &text);
    return {text, static_cast<size_t>(bytes)};
}

}  // namespace antipode::tiebreaker
