#include "web/cli/drills.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "replicator/control/control_api.h"
#include "web/cli/table.h"
#include "web/drills/signature.h"
#include "web/pairing/seal.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

using http::verb;
using Kind = Column::Kind;

// What is typed on a console ends with Enter, which a shell's $(...) takes away.
std::string entered(std::string typed) {
    if (!typed.empty() && typed.back() != '\n') typed += '\n';
    return typed;
}

json::object body_of(const DrillLine& line) {
    json::object body;
    put_text(body, "pair", line.pair);
    put_text(body, "kind", line.kind);
    put_text(body, "network", line.network);
    put_text(body, "check", line.check);
    put_text(body, "command", line.command);
    put_text(body, "send", entered(line.send));
    put_text(body, "expect", line.expect);
    put_text(body, "address", line.address);
    put_text(body, "fault", line.fault);
    put_text(body, "site", line.site);
    put_text(body, "note", line.note);
    if (line.within_seconds > 0) body["check_seconds"] = line.within_seconds;
    if (line.seconds > 0) body["duration_seconds"] = line.seconds;
    return body;
}

std::string text_of(const json::value& document, std::string_view field) {
    return cell(document, {"", std::string(field)});
}

Result<> preflight(const json::value& said) {
    std::string against;
    for (const json::value& finding : said.at("findings").as_array()) {
        against += (against.empty() ? "" : "; ") + text_of(finding, "text");
    }
    if (!against.empty()) return fail(Errc::busy, "{}", against);
    return {};
}

Result<> follow(CliClient& client, const DrillLine& line, const std::string& id) {
    std::string last;
    for (;;) {
        FT_TRY(const json::value now, client.get("/drills/" + id));
        const std::string verdict = text_of(now, "verdict");
        const std::string step = text_of(now, "step");
        if (verdict == "-") {
            if (step != last && !line.json) std::cout << step << std::endl;
            last = step;
            std::this_thread::sleep_for(std::chrono::milliseconds(300));
            continue;
        }
        if (line.json) {
            std::cout << json::serialize(now) << "\n";
        } else {
            std::cout << "RPO " << cell(now, {"", "rpo_seconds", Kind::seconds}) << ", RTO "
                      << cell(now, {"", "rto_seconds", Kind::seconds})
                      << "; its report: antipode drill report " << id << "\n";
        }
        if (verdict == "passed") return {};
        return fail(Errc::io, "{}: {}", verdict, step);
    }
}

Result<std::string> read_document(const std::string& path) {
    std::ostringstream text;
    if (path == "-") {
        text << std::cin.rdbuf();
        return text.str();
    }
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno(errno, "{}", path);
    text << file.rdbuf();
    return text.str();
}

// When the report says that it was made: a certificate counts if it was good then.
Result<json::object> report_of(const VerifiedReport& verified) {
    FT_TRY(json::value parsed, control::parse_json(verified.report));
    if (!parsed.is_object()) return fail(Errc::corrupt, "report: is no object");
    return std::move(parsed.get_object());
}

Result<> check_signer(const VerifyLine& line, const std::string& document,
                      const VerifiedReport& verified, const json::object& report) {
    if (!line.fingerprint.empty()) {
        const std::string wanted = from_hex(line.fingerprint);
        if (wanted.size() != 32 || wanted != from_hex(verified.fingerprint)) {
            return fail(Errc::denied, "signed by another: {}", verified.fingerprint);
        }
        return {};
    }
    const json::value* ended = report.if_contains("ended_unix_ms");
    if (ended == nullptr || !ended->is_int64()) {
        return fail(Errc::corrupt, "report: ended_unix_ms: is missing");
    }
    FT_TRY_VOID(verify_report(document, line.ca, ended->get_int64()));
    return {};
}

}  // namespace

Result<> run_drill(CliClient& client, const DrillLine& line) {
    json::object body = body_of(line);
    body["check_only"] = true;
    FT_TRY(const json::value said, client.ask(verb::post, "/drills", body));
    if (line.check_only) {
        std::cout << json::serialize(said) << "\n";
        return preflight(said);
    }
    FT_TRY_VOID(preflight(said));
    const std::string wanted = text_of(said, "confirm");
    if (wanted != "-" && line.confirm != wanted) {
        return fail(Errc::invalid_argument, "it can end in a failover: needs --confirm {}", wanted);
    }
    body.erase("check_only");
    if (wanted != "-") body["confirm"] = line.confirm;
    FT_TRY(const json::value started, client.ask(verb::post, "/drills", body, random_secret()));
    const std::string id = text_of(started, "id");
    if (!line.wait) {
        std::cout << (line.json ? json::serialize(started) : id) << "\n";
        return {};
    }
    return follow(client, line, id);
}

Result<> stop_drill(CliClient& client, const std::string& id) {
    FT_TRY_VOID(client.ask(verb::post, "/drills/" + id + "/stop", json::object()));
    return {};
}

Result<> print_report(CliClient& client, const std::string& id) {
    FT_TRY(const json::value document, client.get("/drills/" + id + "/report"));
    std::cout << json::serialize(document) << "\n";
    return {};
}

Result<> schedule_drill(CliClient& client, const DrillLine& line) {
    json::object body = body_of(line);
    body["weekday"] = line.weekday;
    body["time"] = line.time;
    FT_TRY(const json::value kept, client.ask(verb::put, "/drill-schedules", body));
    if (line.json) {
        std::cout << json::serialize(kept) << "\n";
    } else {
        std::cout << "next on " << cell(kept, {"", "next_unix_ms", Kind::time}) << "\n";
    }
    return {};
}

Result<> verify_report_file(const VerifyLine& line) {
    FT_TRY(const std::string document, read_document(line.file));
    FT_TRY(const VerifiedReport verified, verify_report(document));
    FT_TRY(const json::object report, report_of(verified));
    FT_TRY_VOID(check_signer(line, document, verified, report));
    if (line.json) {
        std::cout << verified.report << "\n";
        return {};
    }
    const json::value shown(report);
    std::cout << "good: drill of " << text_of(shown, "pair") << " at " << text_of(shown, "site")
              << ", ended " << cell(shown, {"", "ended_unix_ms", Kind::time}) << ", "
              << text_of(shown, "verdict") << "\n"
              << "signed by " << verified.subject << ", SHA-256 " << verified.fingerprint << "\n";
    return {};
}

}  // namespace antipode::web
