// /etc/antipode/web.toml: everything has a default, so that an empty or missing file is a working
// page on loopback, which shows everything there and does nothing without a login.
//
// INVARIANTS: without TLS it listens on loopback only.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "web/fleet.h"
#include "web/http/server.h"
#include "web/security/https.h"

namespace antipode::web {

// This site, as others know it: what a pairing begins with. Everything may be given then instead.
struct SiteSettings {
    std::string name;                                         // of the site
    std::string address;                                      // of the line, an IP address
    std::string tiebreaker;                                   // HOST:PORT
    std::string vms = "/etc/antipode/vms";                    // a directory for each VM
    std::string credentials = "/etc/antipode/site";           // ca.pem, site.pem, site.key
    std::string replicator = "/usr/bin/antipode-replicator";  // makes the keys
};

// Whom to tell of an event (web/hooks/hooks.h): a command or an address.
struct HookSettings {
    std::string name;
    std::vector<std::string> events;  // codes (docs/CONTROL-API.md)
    std::vector<std::string> pairs;   // empty = all
    std::vector<std::string> command;
    std::string url;         // https, or http on loopback
    std::string token_file;  // for url: sent as a bearer token
    std::chrono::milliseconds time_limit = std::chrono::seconds(30);
    int attempts = 5;
};

struct Settings {
    SiteSettings site;
    std::map<std::string, std::vector<std::string>> drill_checks;  // commands, by name
    std::vector<HookSettings> hooks;
    ServerSettings server;
    FleetSettings fleet;
    size_t subscribers_max = 256;
    int64_t events_max = 100'000;
    std::string state_directory;  // empty = nothing is kept over a restart, and nobody can log in
    bool loopback_read = true;    // reading over loopback needs no login
    bool tls = false;
    HttpsFiles https;            // by default in the state directory, made at the first start
    bool https_is_ours = false;  // the default: ours to make
    TlsLeast tls_least = TlsLeast::v1_3;
    // Names under which a browser may ask for us, beside the listen address and localhost: a page
    // of somebody else must not reach us through a name it controls (DNS rebinding).
    std::vector<std::string> host_names;
};

// A missing file is an error only when `required`.
enum class Missing { is_fine, is_error };
Result<Settings> load_settings(const std::string& path, Missing missing);
Result<Settings> parse_settings(std::string_view text, const std::string& path);
std::string database_path(const Settings& settings);

}  // namespace antipode::web
