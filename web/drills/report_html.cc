// The report as a page of paper: no script, one style sheet, everything that the JSON says.
#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <cctype>
#include <ctime>
#include <openssl/evp.h>

#include "web/drills/report.h"

namespace antipode::web {
namespace {

constexpr std::string_view kStyle = R"(
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#16202b;background:#fff}
body{max-width:52rem;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.6rem;margin:0 0 .2rem}
h2{font-size:1.1rem;margin:1.8rem 0 .5rem;border-bottom:1px solid #c9d2dc;padding-bottom:.2rem}
p{margin:.3rem 0}.muted{color:#55636f}
.verdict{display:inline-block;font-weight:700;border:2px solid currentColor}
.verdict{border-radius:.4rem;padding:.15rem .7rem;margin:.6rem 0}
.passed{color:#0d6b3c}.failed{color:#a31621}.stopped{color:#7a5200}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0}
th,td{border-bottom:1px solid #e3e8ee}
td{overflow-wrap:anywhere}
th{font-weight:600;white-space:nowrap;width:1%}
.numbers{display:flex;flex-wrap:wrap;gap:1rem;margin:.6rem 0}
.numbers div{border:1px solid #c9d2dc;border-radius:.4rem;padding:.5rem .9rem}
.numbers div{flex:1 1 12rem}
.numbers b{display:block;font-size:1.35rem}
code,pre{font:13px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}
pre{white-space:pre-wrap;background:#f4f6f8;border:1px solid #e3e8ee}
pre{border-radius:.3rem;padding:.6rem}
@page{margin:18mm}
@media print{body{margin:0;max-width:none;font-size:11pt}}
@media print{h2{break-after:avoid}tr,.numbers div{break-inside:avoid}}
)";

std::string escape(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            default:
                out += c;
        }
    }
    return out;
}

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* found = object.if_contains(name);
    if (found == nullptr || found->is_null()) return "not known";
    if (found->is_string()) return escape(found->get_string());
    return escape(json::serialize(*found));
}

const json::object& part(const json::object& object, std::string_view name) {
    static const json::object kNone;
    const json::value* found = object.if_contains(name);
    return found != nullptr && found->is_object() ? found->get_object() : kNone;
}

std::string time_of(const json::object& object, std::string_view name) {
    const json::value* found = object.if_contains(name);
    if (found == nullptr || !found->is_int64()) return "not known";
    const int64_t unix_ms = found->get_int64();
    const std::time_t seconds = unix_ms / 1000;
    std::tm utc{};
    gmtime_r(&seconds, &utc);
    std::array<char, 64> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &utc);
    return fmt::format("{}.{:03} UTC", text.data(), unix_ms % 1000);
}

std::string duration(const json::object& object, std::string_view name) {
    const json::value* found = object.if_contains(name);
    if (found == nullptr || !found->is_number()) return "not measured";
    const double seconds = found->to_number<double>();
    if (seconds == 0) return "0 s";
    if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1000);
    return fmt::format("{:.2f} s", seconds);
}

void row(std::string& out, std::string_view name, std::string_view cell) {
    out += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", name, cell);
}

// What was asked for, a row each; pair and kind stand above.
void add_plan(std::string& out, const json::object& plan) {
    constexpr std::string_view kSeconds = "_seconds";
    for (const auto& [key, value] : plan) {
        std::string text = text_of(plan, key);
        if (key == "pair" || key == "kind" || text.empty()) continue;
        std::string label(key);
        if (label.ends_with(kSeconds)) label.resize(label.size() - kSeconds.size());
        if (value.is_number()) text = fmt::format("{:g}", value.to_number<double>());
        if (label.size() != key.size()) text += " s";
        if (key == "check_seconds") label = "check within";
        std::replace(label.begin(), label.end(), '_', ' ');
        label.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(label.front())));
        row(out, escape(label), text);
    }
}

void add_numbers(std::string& out, const json::object& report) {
    const json::object& measured = part(report, "measured");
    out += "<h2>Measured</h2>\n<div class=\"numbers\">\n";
    const auto box = [&](std::string_view title, std::string_view name, std::string_view basis) {
        out += fmt::format("<div>{}<b>{}</b><span class=\"muted\">{}</span></div>\n", title,
                           duration(measured, name), basis);
    };
    box("RPO", "rpo_seconds", text_of(measured, "rpo_basis"));
    box("RTO", "rto_seconds", text_of(measured, "rto_basis"));
    if (report.if_contains("check") != nullptr && report.at("check").is_object()) {
        box("Service", "service_seconds", "from the start of the drill until its check passed");
    }
    out += "</div>\n";
}

void add_findings(std::string& out, const json::object& report) {
    const json::value* findings = report.if_contains("findings");
    if (findings == nullptr || !findings->is_array() || findings->get_array().empty()) return;
    out += "<h2>Findings</h2>\n<table>\n";
    for (const json::value& each : findings->get_array()) {
        if (each.is_object())
            row(out, text_of(each.get_object(), "severity"), text_of(each.get_object(), "text"));
    }
    out += "</table>\n";
}

void add_check(std::string& out, const json::object& report) {
    const json::object& check = part(report, "check");
    if (check.empty()) return;
    out += "<h2>Check</h2>\n<table>\n";
    row(out, "Asked", text_of(check, "asked"));
    row(out, "Outcome", text_of(check, "text"));
    out += "</table>\n";
    const std::string output = text_of(check, "output");
    if (!output.empty()) out += "<pre>" + output + "</pre>\n";
}

void add_copy(std::string& out, const json::object& report) {
    const json::object& copy = part(report, "copy");
    if (copy.empty()) return;
    out += "<h2>The copy</h2>\n<table>\n";
    row(out, "Copied", time_of(copy, "copied_unix_ms"));
    row(out, "Holds the log up to",
        fmt::format("entry {} of epoch {}", text_of(copy, "log_index"), text_of(copy, "epoch")));
    row(out, "Backup stood for", duration(copy, "copy_seconds"));
    row(out, "Network", text_of(copy, "network"));
    row(out, "Frames sent, received",
        text_of(copy, "sent_frames") + ", " + text_of(copy, "received_frames"));
    if (const json::value* disks = copy.if_contains("disks"); disks && disks->is_array()) {
        for (const json::value& each : disks->get_array()) {
            if (!each.is_object()) continue;
            const json::object& disk = each.get_object();
            row(out, "Disk " + text_of(disk, "id"),
                fmt::format("{} bytes, SHA-256 <code>{}</code>", text_of(disk, "size_bytes"),
                            text_of(disk, "sha256")));
        }
    }
    out += "</table>\n";
}

void add_protection(std::string& out, const json::object& report) {
    const json::object& protection = part(report, "protection");
    out += "<h2>Protection meanwhile</h2>\n<table>\n";
    row(out, "Protected",
        fmt::format("in {} of {} samples", text_of(protection, "samples_protected"),
                    text_of(protection, "samples")));
    row(out, "Replay's digests",
        fmt::format("{} compared, {} differed", text_of(protection, "digests_checked"),
                    text_of(protection, "digest_mismatches")));
    row(out, "Epoch",
        fmt::format("{} before, {} after", text_of(protection, "epoch_before"),
                    text_of(protection, "epoch_after")));
    out += "</table>\n";
}

void add_timeline(std::string& out, const json::object& report) {
    out += "<h2>Timeline</h2>\n<table>\n";
    const json::value* timeline = report.if_contains("timeline");
    if (timeline != nullptr && timeline->is_array()) {
        for (const json::value& each : timeline->get_array()) {
            if (!each.is_object()) continue;
            const json::object& entry = each.get_object();
            row(out, time_of(entry, "time_unix_ms"),
                fmt::format("<b>{}</b> {}: {}", text_of(entry, "source"), text_of(entry, "code"),
                            text_of(entry, "text")));
        }
    }
    out += "</table>\n";
}

}  // namespace

const std::string& report_style_source() {
    static const std::string source = [] {
        std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
        unsigned size = 0;
        EVP_Digest(kStyle.data(), kStyle.size(), digest.data(), &size, EVP_sha256(), nullptr);
        std::array<unsigned char, 64> text{};
        EVP_EncodeBlock(text.data(), digest.data(), static_cast<int>(size));
        return fmt::format("'sha256-{}'", reinterpret_cast<const char*>(text.data()));
    }();
    return source;
}

std::string report_html(const json::object& report, std::string_view signer,
                        std::string_view sha256) {
    const json::object& plan = part(report, "plan");
    const std::string pair = text_of(report, "pair");
    const std::string kind = text_of(plan, "kind");
    std::string out = fmt::format(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<title>Drill of {0}: {1}</title>\n<style>{2}</style></head><body>\n"
        "<h1>Drill of {0}</h1>\n<p class=\"muted\">{3}, run from {4}, asked by {5}</p>\n"
        "<p class=\"verdict {1}\">{1}</p>\n",
        pair, text_of(report, "verdict"), kStyle, kind, text_of(report, "site"),
        text_of(report, "actor"));
    out += "<table>\n";
    row(out, "Began", time_of(report, "started_unix_ms"));
    row(out, "Ended", time_of(report, "ended_unix_ms"));
    add_plan(out, plan);
    out += "</table>\n";
    add_numbers(out, report);
    add_findings(out, report);
    add_check(out, report);
    add_copy(out, report);
    add_protection(out, report);
    add_timeline(out, report);
    out += "<h2>Signature</h2>\n<table>\n";
    row(out, "Report", fmt::format("<code>{}</code>", text_of(report, "id")));
    row(out, "SHA-256", fmt::format("<code>{}</code>", escape(sha256)));
    row(out, "Signed by", escape(signer));
    out +=
        "</table>\n<p class=\"muted\">The signed document is the report's JSON; "
        "<code>antipode verify-report FILE</code> checks it.</p>\n</body></html>\n";
    return out;
}

}  // namespace antipode::web
