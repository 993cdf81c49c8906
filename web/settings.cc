#include "web/settings.h"

#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <fstream>
#include <sstream>
#include <toml++/toml.h>

#include "common/base/name.h"
#include "web/http/https_client.h"
#include "web/toml_table.h"

namespace antipode::web {
namespace {

// "127.0.0.1:8080" or "[::1]:8080".
Result<> split_address(const std::string& text, const std::string& path, ServerSettings& server) {
    const size_t colon = text.rfind(':');
    unsigned long port = 0;
    std::string host = text.substr(0, colon);
    if (colon != std::string::npos) {
        const std::string digits = text.substr(colon + 1);
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), port);
        if (error != std::errc() || end != digits.data() + digits.size() || port > 65535) {
            host.clear();
        }
    }
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    if (colon == std::string::npos || host.empty()) {
        return fail(Errc::invalid_argument, "{}: listen.address: '{}' is not ADDRESS:PORT", path,
                    text);
    }
    server.address = host;
    server.port = static_cast<uint16_t>(port);
    return {};
}

Result<const toml::table*> find_table(const toml::table& root, std::string_view name,
                                      const std::string& path) {
    const toml::node* node = root.get(name);
    if (node == nullptr) return nullptr;
    const toml::table* table = node->as_table();
    if (table == nullptr) {
        return fail(Errc::invalid_argument, "{}:{}: {}: expected a table, [{}]", path,
                    node->source().begin.line, name, name);
    }
    return table;
}

// Without names in the settings the certificate is ours to make, in the state directory.
Result<> choose_certificate(Settings& settings, const std::string& path) {
    HttpsFiles& files = settings.https;
    if (files.certificate.empty() != files.key.empty()) {
        return fail(Errc::invalid_argument,
                    "{}: listen.certificate and listen.key: give both or neither", path);
    }
    if (!files.certificate.empty()) return {};
    if (settings.state_directory.empty()) {
        return fail(Errc::invalid_argument,
                    "{}: listen.tls: needs listen.certificate and listen.key, or state.directory "
                    "to make them in",
                    path);
    }
    files = {settings.state_directory + "/certificate.pem", settings.state_directory + "/key.pem"};
    settings.https_is_ours = true;
    return {};
}

Result<> check_tls(Settings& settings, const std::string& least, const std::string& path) {
    if (least != "1.3" && least != "1.2") {
        return fail(Errc::invalid_argument, "{}: listen.tls_minimum: expected \"1.3\" or \"1.2\"",
                    path);
    }
    settings.tls_least = least == "1.3" ? TlsLeast::v1_3 : TlsLeast::v1_2;
    if (settings.tls) return choose_certificate(settings, path);
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address(settings.server.address, error);
    if (!error && !address.is_loopback()) {
        return fail(Errc::invalid_argument,
                    "{}: listen.address: {} is not loopback, and listen.tls is off", path,
                    settings.server.address);
    }
    return {};
}

// [drills.checks]: NAME = ["/full/path", "argument"...]
Result<> read_drill_checks(const toml::table& root, const std::string& path, Settings& settings) {
    FT_TRY(const toml::table* drills, find_table(root, "drills", path));
    if (drills == nullptr) return {};
    for (const auto& [key, node] : *drills) {
        if (key != "checks" || !node.is_table()) {
            return fail(Errc::invalid_argument, "{}:{}: drills.{}: no such setting", path,
                        node.source().begin.line, key.str());
        }
    }
    FT_TRY(const toml::table* checks, find_table(*drills, "checks", path));
    TableReader reader(checks, "drills.checks", path);
    for (const auto& [key, node] : *checks) {
        FT_TRY_VOID(Name::parse(key.str(), fmt::format("{}: drills.checks", path)));
        reader.command(key.str(), settings.drill_checks[std::string(key.str())]);
    }
    return reader.done();
}

Result<> check_hook(const HookSettings& hook, const std::string& path) {
    const std::string where = fmt::format("{}: hooks '{}'", path, hook.name);
    FT_TRY_VOID(Name::parse(hook.name, path + ": hooks.name"));
    for (const std::string& code : hook.events) {
        if (!control::from_word<control::EventCode>(code)) {
            return fail(Errc::invalid_argument, "{}: events: there is no event '{}'", where, code);
        }
    }
    if (hook.events.empty()) return fail(Errc::invalid_argument, "{}: events: is missing", where);
    if (hook.command.empty() == hook.url.empty()) {
        return fail(Errc::invalid_argument, "{}: give a command or a url", where);
    }
    if (!hook.url.empty()) {
        if (auto url = parse_https_url(hook.url); !url) {
            return fail(std::move(url).error().within(where + ": url"));
        }
    }
    return {};
}

Result<> read_hooks(const toml::table& root, const std::string& path, Settings& settings) {
    const toml::node* node = root.get("hooks");
    if (node == nullptr) return {};
    const toml::array* array = node->as_array();
    if (array == nullptr || array->size() > 64) {
        return fail(Errc::invalid_argument, "{}:{}: hooks: expected up to 64 tables, [[hooks]]",
                    path, node->source().begin.line);
    }
    for (const toml::node& element : *array) {
        const toml::table* table = element.as_table();
        if (table == nullptr) {
            return fail(Errc::invalid_argument, "{}:{}: hooks: expected tables, [[hooks]]", path,
                        element.source().begin.line);
        }
        HookSettings hook;
        TableReader reader(table, "hooks", path);
        reader.text("name", hook.name);
        reader.texts("events", hook.events);
        reader.texts("pairs", hook.pairs);
        reader.command("command", hook.command);
        reader.text("url", hook.url);
        reader.text("token_file", hook.token_file);
        reader.seconds("time_limit_seconds", hook.time_limit, 600);
        reader.number("attempts", hook.attempts, 1, 20);
        FT_TRY_VOID(reader.done());
        FT_TRY_VOID(check_hook(hook, path));
        settings.hooks.push_back(std::move(hook));
    }
    return {};
}

Result<Settings> read(const toml::table& root, const std::string& path) {
    Settings settings;
    for (const auto& [key, node] : root) {
        if (key != "listen" && key != "control" && key != "limits" && key != "state" &&
            key != "access" && key != "site" && key != "drills" && key != "hooks") {
            return fail(Errc::invalid_argument, "{}:{}: {}: no such setting", path,
                        node.source().begin.line, key.str());
        }
    }
    FT_TRY(const toml::table* listen_table, find_table(root, "listen", path));
    TableReader listen(listen_table, "listen", path);
    std::string address = fmt::format("{}:{}", settings.server.address, settings.server.port);
    listen.text("address", address);
    listen.texts("host_names", settings.host_names);
    listen.flag("tls", settings.tls);
    listen.text("certificate", settings.https.certificate);
    listen.text("key", settings.https.key);
    std::string least = "1.3";
    listen.text("tls_minimum", least);
    FT_TRY_VOID(listen.done());
    FT_TRY_VOID(split_address(address, path, settings.server));

    FT_TRY(const toml::table* state_table, find_table(root, "state", path));
    TableReader state(state_table, "state", path);
    state.text("directory", settings.state_directory);
    FT_TRY_VOID(state.done());
    FT_TRY_VOID(check_tls(settings, least, path));

    FT_TRY(const toml::table* access_table, find_table(root, "access", path));
    TableReader access(access_table, "access", path);
    access.flag("loopback_read", settings.loopback_read);
    FT_TRY_VOID(access.done());

    FT_TRY(const toml::table* site_table, find_table(root, "site", path));
    TableReader site(site_table, "site", path);
    site.text("name", settings.site.name);
    site.text("address", settings.site.address);
    site.text("tiebreaker", settings.site.tiebreaker);
    site.path("vms", settings.site.vms);
    site.path("credentials", settings.site.credentials);
    site.path("replicator", settings.site.replicator);
    FT_TRY_VOID(site.done());

    FT_TRY(const toml::table* control_table, find_table(root, "control", path));
    TableReader control(control_table, "control", path);
    control.texts("directories", settings.fleet.directories);
    FT_TRY_VOID(control.done());

    FT_TRY_VOID(read_drill_checks(root, path, settings));
    FT_TRY_VOID(read_hooks(root, path, settings));

    FT_TRY(const toml::table* limits_table, find_table(root, "limits", path));
    TableReader limits(limits_table, "limits", path);
    limits.number("connections", settings.server.connections_max, 1, 100'000);
    limits.number("connections_of_one_address", settings.server.connections_of_one_address_max, 1,
                  100'000);
    limits.number("live_subscribers", settings.subscribers_max, 1, 100'000);
    limits.number("body_bytes", settings.server.body_bytes_max, 1024, 16 << 20);
    limits.number("events", settings.events_max, 100, 1'000'000);
    limits.seconds("request_seconds", settings.server.request_limit, 600);
    limits.seconds("idle_seconds", settings.server.idle_limit, 3600);
    limits.seconds("write_seconds", settings.server.write_limit, 600);
    FT_TRY_VOID(limits.done());
    return settings;
}

}  // namespace

std::string database_path(const Settings& settings) {
    return settings.state_directory.empty() ? ":memory:" : settings.state_directory + "/web.db";
}

Result<Settings> parse_settings(std::string_view text, const std::string& path) {
    try {
        const toml::table root = toml::parse(text, path);
        return read(root, path);
    } catch (const toml::parse_error& error) {
        return fail(Errc::invalid_argument, "{}:{}: {}", path, error.source().begin.line,
                    error.description());
    }
}

Result<Settings> load_settings(const std::string& path, Missing missing) {
    std::ifstream file(path);
    if (!file) {
        if (errno == ENOENT && missing == Missing::is_fine) return Settings{};
        return fail_errno(errno, "{}", path);
    }
    std::ostringstream text;
    text << file.rdbuf();
    return parse_settings(text.str(), path);
}

}  // namespace antipode::web
