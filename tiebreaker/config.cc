#include "tiebreaker/config.h"

#include "common/base/toml_section.h"

namespace antipode::tiebreaker {
namespace {

using Need = TomlSection::Need;

Result<> read_tls(TomlSection section, Config& config) {
    FT_TRY_VOID(section.path("ca", config.tls.ca));
    FT_TRY_VOID(section.path("crl", config.tls.crl));
    FT_TRY_VOID(section.path("certificate", config.tls.certificate));
    FT_TRY_VOID(section.path("key", config.tls.key));
    FT_TRY_VOID(section.needs({"ca", "certificate", "key"}));
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

Result<> read_store(TomlSection section, Config& config) {
    std::string kind = "sqlite";
    FT_TRY_VOID(section.text("kind", kind));
    FT_TRY_VOID(section.path("path", config.database));
    etcd::ClientSettings& client = config.etcd.client;
    FT_TRY_VOID(section.texts("endpoints", client.endpoints));
    FT_TRY_VOID(section.path("ca", client.ca));
    FT_TRY_VOID(section.path("certificate", client.certificate));
    FT_TRY_VOID(section.path("key", client.key));
    FT_TRY_VOID(section.text("prefix", config.etcd.prefix));
    FT_TRY_VOID(section.path("mark", config.etcd.mark));
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
        FT_TRY_VOID(section.needs({"path"}));
    } else if (kind == "etcd") {
        config.store = StoreKind::etcd;
        if (section.has("path")) return only_for("sqlite", "path");
        FT_TRY_VOID(section.needs({"endpoints", "ca", "certificate", "key", "mark"}));
        FT_TRY_VOID(check_etcd(config));
    } else {
        return fail(Errc::invalid_argument, "{}: store.kind is '{}', expected sqlite or etcd",
                    config.path, kind);
    }
    return {};
}

Result<> read_limits(TomlSection section, Config& config) {
    ServerLimits& server = config.server;
    SessionLimits& session = server.session;
    FT_TRY_VOID(section.number("connections", server.connections_max, 1, 1'000'000));
    server.connections_per_site_max = server.connections_max;
    FT_TRY_VOID(
        section.number("connections_per_site", server.connections_per_site_max, 1, 1'000'000));
    FT_TRY_VOID(section.number("pairs", config.service.pairs_max, 1, 1'000'000));
    FT_TRY_VOID(section.number("watches_per_connection", config.service.watches_per_client_max, 1,
                               100'000));
    FT_TRY_VOID(section.number("changes_per_second", config.service.changes_per_second, 0.01, 1e7));
    FT_TRY_VOID(section.number("changes_burst", config.service.changes_burst, 10, 1e7));
    FT_TRY_VOID(section.number("requests_per_second", session.requests_per_second, 0.1, 1'000'000));
    FT_TRY_VOID(section.number("requests_burst", session.requests_burst, 1, 1'000'000));
    FT_TRY_VOID(
        section.number("site_requests_per_second", server.site_requests_per_second, 1, 1e7));
    FT_TRY_VOID(section.number("site_requests_burst", server.site_requests_burst, 1, 1e7));
    FT_TRY_VOID(section.number("handshakes", config.listener.handshakes_max, 1, 100'000));
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
    TomlSection top(file, path);
    FT_TRY_VOID(top.text("listen", config.listener.listen, Need::required));
    if (auto endpoint = listen_endpoint(config.listener.listen); !endpoint) {
        return fail(std::move(endpoint).error().within(path));
    }
    FT_TRY(TomlSection tls, top.section("tls", Need::required));
    FT_TRY(TomlSection store, top.section("store", Need::required));
    FT_TRY(TomlSection limits, top.section("limits"));
    FT_TRY(TomlSection admin, top.section("admin"));
    FT_TRY_VOID(read_tls(std::move(tls), config));
    FT_TRY_VOID(read_store(std::move(store), config));
    FT_TRY_VOID(read_limits(std::move(limits), config));
    FT_TRY_VOID(admin.path("socket", config.admin_socket));
    FT_TRY_VOID(admin.nothing_else());
    FT_TRY_VOID(top.nothing_else());
    return config;
}

}  // namespace

Result<Config> load_config(const std::string& path) {
    FT_TRY(const toml::table file, load_toml(path));
    return from_table(file, path);
}

}  // namespace antipode::tiebreaker
