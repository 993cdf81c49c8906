#include "web/cli/client.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json/serialize.hpp>
#include <cstdlib>
#include <fstream>
#include <unistd.h>

#include "replicator/control/control_api.h"
#include "web/pairing/seal.h"
#include "web/security/gate.h"
#include "web/settings.h"

namespace antipode::web {
namespace {

Result<std::string> read_token(const std::string& path) {
    std::ifstream file(path);
    if (!file) return fail_errno(errno, "{}", path);
    std::string token;
    file >> token;
    if (token.empty() || token.size() > 200) {
        return fail(Errc::invalid_argument, "{}: holds no token", path);
    }
    return token;
}

// $ANTIPODE_TOKEN, else the file that was named, else the user's own if it is there.
Result<std::string> choose_token(const std::string& token_file) {
    if (!token_file.empty()) return read_token(token_file);
    if (const char* token = std::getenv("ANTIPODE_TOKEN")) return std::string(token);
    const char* home = std::getenv("HOME");
    if (home == nullptr) return std::string();
    const std::string path = std::string(home) + "/.config/antipode/token";
    if (::access(path.c_str(), F_OK) != 0) return std::string();
    return read_token(path);
}

Errc code_of(unsigned status) {
    switch (status) {
        case 401:
        case 403:
            return Errc::denied;
        case 404:
            return Errc::not_found;
        case 503:
        case 504:
            return Errc::unreachable;
        default:
            return Errc::invalid_argument;
    }
}

}  // namespace

Result<CliTarget> find_target(const std::string& url, const std::string& fingerprint,
                              const std::string& token_file, const std::string& config) {
    CliTarget out;
    if (!url.empty()) {
        FT_TRY(HttpsUrl parsed, parse_https_url(url));
        out.target = std::move(parsed.target);
    } else {
        FT_TRY(const Settings settings, load_settings(config, Missing::is_fine));
        out.target.host = settings.server.address;
        boost::system::error_code error;
        if (out.target.host == "0.0.0.0") out.target.host = "127.0.0.1";
        if (out.target.host == "::") out.target.host = "::1";
        out.target.port = settings.server.port;
        out.target.plain = !settings.tls;
        if (settings.tls) {
            FT_TRY(const std::string own, fingerprint_of(settings.https.certificate));
            out.target.fingerprint = from_hex(own);
        }
    }
    if (!fingerprint.empty()) {
        out.target.fingerprint = from_hex(fingerprint);
        if (out.target.fingerprint.size() < 16) {
            return fail(Errc::invalid_argument, "--fingerprint: is no SHA-256 in hexadecimal");
        }
    }
    FT_TRY(out.token, choose_token(token_file));
    return out;
}

Result<json::value> CliClient::ask(http::verb method, const std::string& path,
                                   const json::value& body, const std::string& key) {
    HttpsQuestion question;
    question.method = method;
    question.path = "/api/v1" + path;
    question.time_limit = std::chrono::seconds(30);
    if (!body.is_null()) question.body = json::serialize(body);
    if (!target_.token.empty()) {
        question.headers.emplace_back("Authorization", "Bearer " + target_.token);
    }
    if (!key.empty()) question.headers.emplace_back("Idempotency-Key", key);
    boost::asio::io_context context(1);
    Result<HttpsAnswer> answer = fail(Errc::closed, "not asked");
    auto asking = ask_https(target_.target, std::move(question));
    boost::asio::co_spawn(context, std::move(asking),
                          [&](const std::exception_ptr& thrown, Result<HttpsAnswer> given) {
                              if (thrown) std::rethrow_exception(thrown);
                              answer = std::move(given);
                          });
    context.run();
    if (!answer) return fail(answer.error());
    if (answer->status == 204) return json::value(nullptr);
    auto parsed = control::parse_json(answer->body);
    if (answer->status < 400) return parsed;
    std::string detail = "the server answered " + std::to_string(answer->status);
    if (parsed && parsed->is_object()) {
        const json::value* text = parsed->get_object().if_contains("detail");
        if (text != nullptr && text->is_string()) detail = std::string(text->get_string());
    }
    return fail(code_of(answer->status), "{}", detail);
}

}  // namespace antipode::web
