#include "tiebreaker/config.h"

#include <set>
#include <toml++/toml.h>

#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;

// One table of the file. Remembers which keys were read, so that the rest can be refused.
class Section {
  public:
    Section(const toml::table* table, std::string name, const std::string& path)
        : table_(table), name_(std::move(name)), path_(path) {}

    bool there() const { return table_ != nullptr; }
    bool has(const char* key) const { return table_ != nullptr && table_->contains(key); }

    Result<> text(const char* key, std::string& out) {
        const toml::node* node = find(key);
        if (node == nullptr) return {};
        const auto value = node->value_exact<std::string>();
        if (!value || value->empty()) return bad(key, "is no text in quotes");
        out = *value;
        return {};
    }
    Result<> file(const char* key, std::string& out) {
        FT_TRY_VOID(text(key, out));
        if (has(key) && out.front() != '/') {
            const size_t slash = path_.rfind('/');
            if (slash != std::string::npos) out = path_.substr(0, slash + 1) + out;
        }
        return {};
    }
    template <typename Number>
    Result<> number(const char* key, Number& out, double low, double high) {
        const toml::node* node = find(key);
        if (node == nullptr) return {};
        const auto value = node->value<double>();
        const bool whole = std::is_floating_point_v<Number> || node->is_integer();
        if (!value || !whole || *value < low || *value > high) {
            return bad(key, fmt::format("is no {} from {} to {}", whole ? "number" : "whole number",
                                        low, high));
        }
        out = static_cast<Number>(*value);
        return {};
    }
    Result<> seconds(const char* key, std::chrono::milliseconds& out, double low, double high) {
        double value = static_cast<double>(out.count()) / 1000;
        FT_TRY_VOID(number(key, value, low, high));
        out = std::chrono::milliseconds(static_cast<int64_t>(value * 1000));
        return {};
    }
    Result<> texts(const char* key, std::vector<std::string>& out) {
        const toml::node* node = find(key);
        if (node == nullptr) return {};
        const toml::array* array = node->as_array();
        if (array == nullptr) return bad(key, "is no list of texts");
        for (const toml::node& one : *array) {
            const auto value = one.value_exact<std::string>();
            if (!value) return bad(key, "is no list of texts");
            out.push_back(*value);
        }
        return {};
    }
    Result<> nothing_else() const {
        if (table_ == nullptr) return {};
        for (const auto& [key, node] : *table_) {
            if (read_.contains(std::string(key.str()))) continue;
            return fail(Errc::invalid_argument, "{}:{}: {} is not known", path_,
                        node.source().begin.line, where(std::string(key.str())));
        }
        return {};
    }
    Failure missing(const char* key) const {
        return fail(Errc::invalid_argument, "{}: {} is missing", path_, where(key));
    }
    const toml::table* table(const char* key) {
        const toml::node* node = find(key);
        return node == nullptr ? nullptr : node->as_table();
    }

  private:
    const toml::node* find(const char* key) {
        read_.insert(key);
        return table_ == nullptr ? nullptr : table_->get(key);
    }
    std::string where(const std::string& key) const {
        return name_.empty() ? key : name_ + "." + key;
    }
    Failure bad(const char* key, const std::string& what) const {
        const toml::node* node = table_->get(key);
        return fail(Errc::invalid_argument, "{}:{}: {} {}", path_, node->source().begin.line,
                    where(key), what);
    }

    const toml::table* table_;
    std::string name_;
    const std::string& path_;
    std::set<std::string> read_;
};

Result<> read_tls(Section section, Config& config) {
    FT_TRY_VOID(section.file("ca", config.tls.ca));
    FT_TRY_VOID(section.file("crl", config.tls.crl));
    FT_TRY_VOID(section.file("certificate", config.tls.certificate));
    FT_TRY_VOID(section.file("key", config.tls.key));
    for (const char* key : {"ca", "certificate", "key"}) {
        if (!section.has(key)) return section.missing(key);
    }
    return section.nothing_else();
}

// What can be said without opening a file.
Result<> check_etcd(const Config& config) {
    const auto& endpoints = config.etcd.client.endpoints;
    if (endpoints.empty() || endpoints.size() > etcd::kEndpointsMax) {
        return fail(Errc::invalid_argument, "{}: store.endpoints names {}, expected 1 to {}",
                    config.path, endpoints.size(), etcd::kEndpointsMax);
    }
    const std::string where = config.path + ": store";
    for (const std::string& url : endpoints) {
        if (auto parsed = etcd::Endpoint::parse(url); !parsed) {
            return fail(std::move(parsed).error().within(where));
        }
    }
    if (auto good = etcd::check_prefix(config.etcd.prefix); !good) {
        return fail(std::move(good).error().within(where));
    }
    return {};
}

Result<> read_store(Section section, Config& config) {
    std::string kind = "sqlite";
    FT_TRY_VOID(section.text("kind", kind));
    FT_TRY_VOID(section.file("path", config.database));
    etcd::ClientSettings& client = config.etcd.client;
    FT_TRY_VOID(section.texts("endpoints", client.endpoints));
    FT_TRY_VOID(section.file("ca", client.ca));
    FT_TRY_VOID(section.file("certificate", client.certificate));
    FT_TRY_VOID(section.file("key", client.key));
    FT_TRY_VOID(section.text("prefix", config.etcd.prefix));
    FT_TRY_VOID(section.file("mark", config.etcd.mark));
    FT_TRY_VOID(section.seconds("request_seconds", client.request_limit, 0.1, 10));
    FT_TRY_VOID(section.nothing_else());
    const auto only_for = [&](const char* other, const char* key) {
        return fail(Errc::invalid_argument, "{}: store.{} is for kind = \"{}\"", config.path, key,
                    other);
    };
    if (kind == "sqlite") {
        config.store = StoreKind::sqlite;
        for (const char* key :
             {"endpoints", "ca", "certificate", "key", "prefix", "mark", "request_seconds"}) {
            if (section.has(key)) return only_for("etcd", key);
        }
        if (!section.has("path")) return section.missing("path");
    } else if (kind == "etcd") {
        config.store = StoreKind::etcd;
        if (section.has("path")) return only_for("sqlite", "path");
        for (const char* key : {"endpoints", "ca", "certificate", "key", "mark"}) {
            if (!section.has(key)) return section.missing(key);
        }
        FT_TRY_VOID(check_etcd(config));
    } else {
        return fail(Errc::invalid_argument, "{}: store.kind is '{}', expected sqlite or etcd",
                    config.path, kind);
    }
    return {};
}

Result<> read_limits(Section section, Config& config) {
    ServerLimits& server = config.server;
    SessionLimits& session = server.session;
    FT_TRY_VOID(section.number("connections", server.connections_max, 1, 1e6));
    server.connections_per_site_max = server.connections_max;
    FT_TRY_VOID(section.number("connections_per_site", server.connections_per_site_max, 1, 1e6));
    FT_TRY_VOID(section.number("pairs", config.service.pairs_max, 1, 1e6));
    FT_TRY_VOID(
        section.number("watches_per_connection", config.service.watches_per_client_max, 1, 1e5));
    FT_TRY_VOID(section.number("requests_per_second", session.requests_per_second, 0.1, 1e6));
    FT_TRY_VOID(section.number("requests_burst", session.requests_burst, 1, 1e6));
    FT_TRY_VOID(
        section.number("site_requests_per_second", server.site_requests_per_second, 1, 1e7));
    FT_TRY_VOID(section.number("site_requests_burst", server.site_requests_burst, 1, 1e7));
    FT_TRY_VOID(section.number("handshakes", config.listener.handshakes_max, 1, 1e5));
    FT_TRY_VOID(section.seconds("handshake_seconds", config.listener.handshake_limit, 0.1, 600));
    FT_TRY_VOID(section.seconds("hello_seconds", session.hello_limit, 0.1, 600));
    FT_TRY_VOID(section.seconds("frame_seconds", session.frame_limit, 0.1, 600));
    FT_TRY_VOID(section.seconds("idle_seconds", session.idle_limit, 1, 86400));
    FT_TRY_VOID(section.seconds("write_seconds", session.write_limit, 0.1, 600));
    return section.nothing_else();
}

Result<Config> from_table(const toml::table& file, const std::string& path) {
    Config config;
    config.path = path;
    Section top(&file, "", config.path);
    FT_TRY_VOID(top.text("listen", config.listener.listen));
    if (!top.has("listen")) return top.missing("listen");
    if (auto endpoint = listen_endpoint(config.listener.listen); !endpoint) {
        return fail(std::move(endpoint).error().within(path));
    }
    for (const char* name : {"tls", "store"}) {
        if (top.table(name) == nullptr) return top.missing(name);
    }
    FT_TRY_VOID(read_tls(Section(top.table("tls"), "tls", config.path), config));
    FT_TRY_VOID(read_store(Section(top.table("store"), "store", config.path), config));
    FT_TRY_VOID(read_limits(Section(top.table("limits"), "limits", config.path), config));
    Section admin(top.table("admin"), "admin", config.path);
    FT_TRY_VOID(admin.file("socket", config.admin_socket));
    FT_TRY_VOID(admin.nothing_else());
    FT_TRY_VOID(top.nothing_else());
    return config;
}

}  // namespace

Result<Config> load_config(const std::string& path) {
    FT_TRY(const std::string text, read_file(path, kFileBytesMax));
    try {
        return from_table(toml::parse(text, path), path);
    } catch (const toml::parse_error& error) {
        return fail(Errc::invalid_argument, "{}:{}: {}", path, error.source().begin.line,
                    error.description());
    }
}

}  // namespace antipode::tiebreaker
