// `antipode drill ...` and `antipode verify-report`: rehearsals on the command line.
//
// Threads: none of its own; run() waits for the drill's end.
// On failure the error says why; a drill that has not passed is one.
#pragma once

#include <string>

#include "web/cli/client.h"

namespace antipode::web {

// What the command line gave; empty = as the server has it.
struct DrillLine {
    std::string pair, kind, network, check, command, send, expect, address, fault, site, note;
    std::string confirm, weekday, time;
    double within_seconds = 0, seconds = 0;
    bool check_only = false, wait = true, json = false;
};

Result<> run_drill(CliClient& client, const DrillLine& line);
Result<> stop_drill(CliClient& client, const std::string& id);
// The signed document, byte for byte, to standard output.
Result<> print_report(CliClient& client, const std::string& id);
Result<> schedule_drill(CliClient& client, const DrillLine& line);

struct VerifyLine {
    std::string file;         // "-" = standard input
    std::string ca;           // of the authority that the signer's certificate must be of
    std::string fingerprint;  // or the SHA-256 of the signer's certificate
    bool json = false;
};
// Needs no page and no network.
Result<> verify_report_file(const VerifyLine& line);

}  // namespace antipode::web
