#include "web/settings.h"

#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <fstream>
#include <sstream>
#include <toml++/toml.h>

namespace antipode::web {
namespace {

// Reads one table strictly: an unknown key is an error, as it is most often a misspelt one.
class TableReader {
  public:
    TableReader(const toml::table* table, std::string name, const std::string& path)
        : table_(table), name_(std::move(name)), path_(path) {}

    void text(std::string_view key, std::string& value) {
        if (const auto* node = take(key)) {
            if (const auto read = node->value_exact<std::string>()) {
                value = *read;
            } else {
                wrong(key, *node, "a string");
            }
        }
    }
    // It goes into files of others: nothing in it may end a quoted text there.
    void path(std::string_view key, std::string& value) {
        text(key, value);
        const bool plain = value.find_first_of("\"\\\n\r") == std::string::npos;
        if (!value.starts_with('/') || !plain) wrong(key, *table_->get(key), "a full path");
    }
    void flag(std::string_view key, bool& value) {
        if (const auto* node = take(key)) {
            if (const auto read = node->value_exact<bool>()) {
                value = *read;
            } else {
                wrong(key, *node, "true or false");
            }
        }
    }
    template <typename T>
    void number(std::string_view key, T& value, int64_t least, int64_t most) {
        if (const auto* node = take(key)) {
            const auto read = node->value_exact<int64_t>();
            if (!read || *read < least || *read > most) {
                wrong(key, *node, fmt::format("a whole number from {} to {}", least, most));
            } else {
                value = static_cast<T>(*read);
            }
        }
    }
    void seconds(std::string_view key, std::chrono::milliseconds& value, int64_t most) {
        int64_t read = value.count() / 1000;
        number(key, read, 1, most);
        if (taken(key)) value = std::chrono::seconds(read);
    }
    void texts(std::string_view key, std::vector<std::string>& value) {
        const auto* node = take(key);
        if (node == nullptr) return;
        const toml::array* array = node->as_array();
        if (array == nullptr || array->empty() || array->size() > 64) {
            wrong(key, *node, "an array of 1 to 64 strings");
            return;
        }
        value.clear();
        for (const toml::node& element : *array) {
            const auto read = element.value_exact<std::string>();
            if (!read) {
                wrong(key, element, "a string in each place");
                return;
            }
            value.push_back(*read);
        }
    }
    Result<> done() {
        if (error_) return fail(*std::move(error_));
        if (table_ == nullptr) return {};
        for (const auto& [key, node] : *table_) {
            if (!taken(key.str())) {
                return fail(Errc::invalid_argument, "{}:{}: {}.{}: no such setting", path_,
                            node.source().begin.line, name_, key.str());
            }
        }
        return {};
    }

  private:
    const toml::node* take(std::string_view key) {
        known_.emplace_back(key);
        return table_ == nullptr ? nullptr : table_->get(key);
    }
    bool taken(std::string_view key) const {
        return std::find(known_.begin(), known_.end(), key) != known_.end();
    }
    void wrong(std::string_view key, const toml::node& node, std::string_view expected) {
        if (error_) return;
        error_ = Error{Errc::invalid_argument,
                       fmt::format("{}:{}: {}.{}: expected {}", path_, node.source().begin.line,
                                   name_, key, expected)};
    }

    const toml::table* table_;
    const std::string name_;
    const std::string& path_;
    std::vector<std::string> known_;
    std::optional<Error> error_;
};

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

Result<Settings> read(const toml::table& root, const std::string& path) {
    Settings settings;
    for (const auto& [key, node] : root) {
        if (key != "listen" && key != "control" && key != "limits" && key != "state" &&
            key != "access" && key != "site") {
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
