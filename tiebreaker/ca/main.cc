// antipode-ca: makes, renews and takes back the certificates of sites, tiebreakers and web daemons.
// See authority.h for what it keeps and docs/OPERATIONS.md for how it is used.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>

#include "tiebreaker/atomic_file.h"
#include "tiebreaker/ca/authority.h"
#include "tiebreaker/ca/x509.h"

namespace antipode::tiebreaker {
namespace {

struct Options {
    std::string directory = "/etc/antipode/ca";
    std::string ca_name = "Antipode CA";
    int days = 0;
    std::string site, tiebreaker, web;
    std::vector<std::string> hosts;
    std::vector<std::string> pairs;
    std::string out;
    std::string request;
    std::string certificate;
    std::string serial;
    std::string revoke_site;
    std::string reason = "unspecified";
    bool revoke_old = false;
};

constexpr int kCaDays = 20 * 365;
constexpr int kCertificateDays = 5 * 365;

Result<Subject> subject_from_options(const Options& options) {
    Subject subject;
    const auto named = [&](const std::string& text, env::PeerRole role,
                           const char* option) -> Result<> {
        if (text.empty()) return {};
        FT_TRY(subject.identity.name, Name::parse(text, option));
        subject.identity.role = role;
        return {};
    };
    FT_TRY_VOID(named(options.site, env::PeerRole::site, "--site"));
    FT_TRY_VOID(named(options.tiebreaker, env::PeerRole::tiebreaker, "--tiebreaker"));
    FT_TRY_VOID(named(options.web, env::PeerRole::web, "--web"));
    if (subject.identity.role != env::PeerRole::site && !options.pairs.empty()) {
        return fail(Errc::invalid_argument, "--pairs: only a site's certificate names pairs");
    }
    subject.identity.pairs = options.pairs;
    subject.hosts = options.hosts;
    FT_TRY_VOID(check_subject(subject));
    return subject;
}

std::string default_out(const Options& options) {
    if (!options.out.empty()) return options.out;
    return !options.site.empty() ? options.site
                                 : (!options.tiebreaker.empty() ? options.tiebreaker : options.web);
}

Result<> refuse_existing(const std::string& path) {
    if (::access(path.c_str(), F_OK) == 0) {
        return fail(Errc::already_exists, "{}: exists; move it away or name another --out", path);
    }
    return {};
}

std::string hosts_text(const Subject& subject) {
    std::string out;
    for (const auto& host : subject.hosts) out += " " + host;
    return out;
}

Result<> init(const Options& options) {
    const Authority::Days life(options.days > 0 ? options.days : kCaDays);
    FT_TRY(const Authority made, Authority::init(options.directory, options.ca_name, life));
    fmt::print(
        "made an authority in {}: copy ca.pem to every site and to the tiebreaker, ca.crl to "
        "the tiebreaker; ca.key stays here\n",
        options.directory);
    return {};
}

Result<> request(const Options& options) {
    FT_TRY(const Subject subject, subject_from_options(options));
    const std::string out = default_out(options);
    FT_TRY_VOID(refuse_existing(out + ".key"));
    const KeyPointer key = make_key();
    FT_TRY(const std::string pem, request_pem(subject, key.get()));
    FT_TRY_VOID(write_file(out + ".key", key_pem(key.get()), 0600, Existing::keep));
    FT_TRY_VOID(write_file(out + ".csr", pem, 0644, Existing::replace));
    fmt::print("made {}.key (it stays here) and {}.csr (for antipode-ca sign --request)\n", out,
               out);
    return {};
}

Result<> sign(const Options& options) {
    FT_TRY(const Subject subject, subject_from_options(options));
    FT_TRY(Authority authority, Authority::open(options.directory));
    const std::string out = default_out(options);
    FT_TRY_VOID(refuse_existing(out + ".pem"));
    KeyPointer key;
    if (options.request.empty()) {
        FT_TRY_VOID(refuse_existing(out + ".key"));
        key = make_key();
        FT_TRY_VOID(write_file(out + ".key", key_pem(key.get()), 0600, Existing::keep));
    } else {
        FT_TRY(SigningRequest asked, read_request(options.request));
        if (asked.subject != subject) {
            return fail(Errc::denied, "request {}: asks for {}{}, the command line grants {}{}",
                        options.request, asked.subject.identity.uri(), hosts_text(asked.subject),
                        subject.identity.uri(), hosts_text(subject));
        }
        key = std::move(asked.key);
    }
    const Authority::Days life(options.days > 0 ? options.days : kCertificateDays);
    FT_TRY(const Issued issued, authority.issue(subject, key.get(), life));
    FT_TRY_VOID(write_file(out + ".pem", issued.pem, 0644, Existing::keep));
    fmt::print("{} {} until {}: {}.pem{}\n", issued.serial, subject.identity.uri(),
               text_of(issued.not_after), out,
               options.request.empty() ? " and " + out + ".key" : std::string());
    return {};
}

Result<std::string> own_serial(const Authority& authority, const env::X509Pointer& certificate,
                               const std::string& path) {
    std::string serial = env::serial_of(certificate.get());
    for (const IndexEntry& entry : authority.index()) {
        if (entry.serial == serial) return serial;
    }
    return fail(Errc::not_found, "{}: was not issued by this authority", path);
}

Result<> renew(const Options& options) {
    FT_TRY(Authority authority, Authority::open(options.directory));
    FT_TRY(const env::X509Pointer old, env::read_certificate(options.certificate));
    FT_TRY(const std::string old_serial, own_serial(authority, old, options.certificate));
    for (const IndexEntry& entry : authority.index()) {
        if (entry.serial == old_serial && entry.revoked()) {
            return fail(Errc::denied, "{}: was revoked on {} and is not renewed",
                        options.certificate, text_of(entry.revoked_at));
        }
    }
    FT_TRY(const Subject subject, subject_of(old.get()));
    const KeyPointer key(X509_get_pubkey(old.get()));
    if (!key) return fail(Errc::corrupt, "{}: has no usable key", options.certificate);
    const Authority::Days life(options.days > 0 ? options.days : kCertificateDays);
    FT_TRY(const Issued issued, authority.issue(subject, key.get(), life));
    const std::string out = options.out.empty() ? options.certificate : options.out + ".pem";
    FT_TRY_VOID(write_file(out, issued.pem, 0644, Existing::replace));
    if (options.revoke_old) FT_TRY_VOID(authority.revoke(old_serial, "superseded"));
    fmt::print("{} {} until {}: {}\n", issued.serial, subject.identity.uri(),
               text_of(issued.not_after), out);
    return {};
}

Result<std::vector<std::string>> serials_to_revoke(const Options& options,
                                                   const Authority& authority) {
    if (!options.serial.empty()) return std::vector{options.serial};
    if (!options.certificate.empty()) {
        FT_TRY(const env::X509Pointer certificate, env::read_certificate(options.certificate));
        FT_TRY(const std::string serial, own_serial(authority, certificate, options.certificate));
        return std::vector{serial};
    }
    std::vector<std::string> out;
    for (const IndexEntry& entry : authority.index()) {
        const auto& identity = entry.subject.identity;
        if (identity.role == env::PeerRole::site && identity.name.view() == options.revoke_site &&
            !entry.revoked()) {
            out.push_back(entry.serial);
        }
    }
    if (out.empty()) {
        return fail(Errc::not_found, "--site {}: has no valid certificate", options.revoke_site);
    }
    return out;
}

Result<> revoke(const Options& options) {
    FT_TRY(Authority authority, Authority::open(options.directory));
    FT_TRY(const std::vector<std::string> serials, serials_to_revoke(options, authority));
    for (const std::string& serial : serials) {
        FT_TRY_VOID(authority.revoke(serial, options.reason));
        fmt::print("revoked {}\n", serial);
    }
    fmt::print("copy {} to the tiebreaker, which reads it again within seconds\n",
               authority.crl_path());
    return {};
}

Result<> list(const Options& options) {
    FT_TRY(const Authority authority, Authority::open(options.directory));
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    for (const IndexEntry& entry : authority.index()) {
        const char* state = entry.revoked()         ? "revoked"
                            : entry.not_after < now ? "expired"
                                                    : "valid";
        fmt::print("{} {:7} {} {}{}{}\n", entry.serial, state, text_of(entry.not_after),
                   entry.subject.identity.uri(), hosts_text(entry.subject),
                   entry.revoked() ? " (" + entry.reason + " " + text_of(entry.revoked_at) + ")"
                                   : std::string());
    }
    return {};
}

Result<> crl(const Options& options) {
    FT_TRY(Authority authority, Authority::open(options.directory));
    FT_TRY_VOID(authority.write_crl());
    fmt::print("wrote {}\n", authority.crl_path());
    return {};
}

using Command = Result<> (*)(const Options&);

void add_names(CLI::App& command, Options& options) {
    auto* group = command.add_option_group("who", "whom the certificate names");
    group->add_option("--site", options.site, "a site's name");
    group->add_option("--tiebreaker", options.tiebreaker, "a tiebreaker's name");
    group->add_option("--web", options.web, "a web daemon's name");
    group->require_option(1);
    command.add_option("--host", options.hosts,
                       "of a tiebreaker or web daemon: host name or address "
                       "that clients dial; may be repeated");
    command
        .add_option(
            "--pairs", options.pairs,
            "of a site: pairs it may enrol and ask about, comma-separated; a name, a "
            "beginning and '*', or '*'. Without it the site may ask about pairs that name it "
            "already and enrol none")
        ->delimiter(',');
    command.add_option("--out", options.out, "PREFIX of the files to make; default: the name");
}

int main_of(int argc, char** argv) {
    CLI::App app("antipode-ca: certificates for sites, tiebreakers and web daemons");
    app.require_subcommand(1);
    Options options;
    std::vector<std::pair<CLI::App*, Command>> commands;
    const auto add = [&](const char* name, const char* help, Command run) {
        CLI::App* command = app.add_subcommand(name, help);
        commands.emplace_back(command, run);
        if (run != request) {
            command->add_option("--directory", options.directory, "the authority's directory")
                ->capture_default_str();
        }
        return command;
    };
    const auto add_days = [&](CLI::App* command, int standard) {
        command
            ->add_option("--days", options.days, fmt::format("valid so long; default {}", standard))
            ->check(CLI::Range(1, 36500));
    };
    CLI::App* init_command = add("init", "make a new authority", init);
    init_command->add_option("--name", options.ca_name, "its name")->capture_default_str();
    add_days(init_command, kCaDays);
    CLI::App* request_command = add(
        "request", "at a site: make a key that never leaves it, and a request to sign", request);
    add_names(*request_command, options);
    CLI::App* sign_command = add("sign", "make a certificate, and its key unless --request", sign);
    add_names(*sign_command, options);
    sign_command->add_option("--request", options.request, "a request made by antipode-ca request");
    add_days(sign_command, kCertificateDays);
    CLI::App* renew_command = add("renew", "the same names and key, a new validity", renew);
    renew_command->add_option("--certificate", options.certificate, "to be renewed")->required();
    renew_command->add_option("--out", options.out, "PREFIX; default: replaces the file");
    renew_command->add_flag("--revoke-old", options.revoke_old, "and revoke the old one");
    add_days(renew_command, kCertificateDays);
    CLI::App* revoke_command = add("revoke", "take back a certificate; makes the CRL anew", revoke);
    auto* which = revoke_command->add_option_group("which");
    which->add_option("--serial", options.serial, "as shown by list");
    which->add_option("--certificate", options.certificate, "a certificate's file");
    which->add_option("--site", options.revoke_site, "all valid certificates of a site");
    which->require_option(1);
    revoke_command->add_option("--reason", options.reason)
        ->check(CLI::IsMember(Authority::reasons()))
        ->capture_default_str();
    add("list", "what was issued", list);
    add("crl", "make the CRL anew", crl);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    for (const auto& [command, run] : commands) {
        if (!command->parsed()) continue;
        const Result<> done = run(options);
        if (done) return 0;
        fmt::print(stderr, "antipode-ca: {}\n", done.error().context);
        return 1;
    }
    return 2;
}

}  // namespace
}  // namespace antipode::tiebreaker

int main(int argc, char** argv) {
    return antipode::tiebreaker::main_of(argc, argv);
}
