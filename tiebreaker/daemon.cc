#include "tiebreaker/daemon.h"

#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <limits>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "common/base/check.h"
#include "common/base/expiry.h"
#include "common/base/log.h"
#include "tiebreaker/admin_socket.h"
#include "tiebreaker/etcd/etcd_store.h"
#include "tiebreaker/sqlite_store.h"

namespace antipode::tiebreaker {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::chrono::seconds kFilesInterval(2);
constexpr std::chrono::seconds kStoreStallMax(20);

spdlog::logger& log() {
    static spdlog::logger& instance = logger("tiebreaker");
    return instance;
}

// Changes when one of the files is replaced or rewritten.
std::string state_of(const env::TlsFiles& files) {
    std::string out;
    for (const std::string* path : {&files.ca, &files.crl, &files.certificate, &files.key}) {
        struct stat info {};
        if (path->empty() || ::stat(path->c_str(), &info) != 0) {
            out += "absent;";
            continue;
        }
        out += fmt::format("{} {} {}.{};", info.st_ino, info.st_size, info.st_mtim.tv_sec,
                           info.st_mtim.tv_nsec);
    }
    return out;
}

Result<Name> own_name(const Config& config) {
    FT_TRY(const env::X509Pointer certificate, env::read_certificate(config.tls.certificate));
    FT_TRY(const env::CertificateIdentity identity, env::identity_of(certificate.get()));
    if (identity.role != env::PeerRole::tiebreaker) {
        return fail(Errc::invalid_argument, "certificate {}: is that of {} {}, not of a tiebreaker",
                    config.tls.certificate, to_string(identity.role), identity.name);
    }
    return identity.name;
}

std::chrono::sys_seconds today() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

}  // namespace

Daemon::Daemon(asio::io_context& core, Config config)
    : core_(core), config_(std::move(config)), files_timer_(core) {}

Daemon::~Daemon() {
    stop();
}

Result<std::unique_ptr<Daemon>> Daemon::start(asio::io_context& core, Config config,
                                              std::function<void(const std::string&)> ended) {
    std::unique_ptr<Daemon> daemon(new Daemon(core, std::move(config)));
    FT_TRY_VOID(daemon->open(std::move(ended)));
    return daemon;
}

Result<> Daemon::open(std::function<void(const std::string&)> ended) {
    files_seen_ = state_of(config_.tls);
    FT_TRY(auto tls, env::make_mutual_tls(env::TlsRole::server, config_.tls));
    FT_TRY(const Name name, own_name(config_));
    FT_TRY(store_, open_store(config_, StoreUse::serve, &core_, registry_));
    service_ = std::make_unique<Service>(*store_, config_.service, registry_, std::move(ended));
    FT_TRY_VOID(service_->start());
    server_ = std::make_unique<Server>(core_, *service_, name, config_.server, registry_);
    server_->start();
    FT_TRY(listener_, Listener::start(
                          core_, std::move(tls), config_.listener, registry_,
                          [server = server_.get(), max = config_.server.connections_max] {
                              return server->count() >= max;
                          },
                          [server = server_.get()](std::unique_ptr<env::TlsStream> stream) {
                              server->adopt(std::move(stream));
                          }));
    if (!config_.admin_socket.empty()) {
        FT_TRY(admin_, env::LineSocket::start(
                           core_, kAdminSocket, config_.admin_socket,
                           [this](const env::LineSocket::Caller& caller, const std::string& line,
                                  const auto& reply) { on_admin(caller, line, reply); }));
    }
    look_at_certificates();
    watch_files();
    log().info("tiebreaker {} serves {} pairs on {} (port {}), store {:016x}", name,
               service_->pair_count(), config_.listener.listen, listener_->port(),
               store_->identity().value());
    return {};
}

void Daemon::stop() {
    if (std::exchange(stopped_, true)) return;
    files_timer_.cancel();
    admin_.reset();
    if (listener_) listener_->stop();
    if (server_) server_->stop();
    if (store_) store_->stop();
}

void Daemon::watch_files() {
    files_timer_.expires_after(kFilesInterval);
    files_timer_.async_wait([this](const error_code& error) {
        if (error || stopped_) return;
        if (state_of(config_.tls) != files_seen_) reload();
        if (std::chrono::floor<std::chrono::days>(today()) != certificates_seen_) {
            look_at_certificates();
        }
        watch_files();
    });
}

Gauge& Daemon::expiry_gauge(const char* whose) {
    return registry_.gauge("antipode_tiebreaker_certificate_not_after_timestamp_seconds",
                           "When a certificate expires; of clients the first that is connected",
                           {{"certificate", whose}});
}

// At the start, when the files have changed, and every day: what has expired ends all protection at
// once, and nothing else tells of it before.
void Daemon::look_at_certificates() {
    const std::chrono::sys_seconds now = today();
    certificates_seen_ = std::chrono::floor<std::chrono::days>(now);
    const auto look = [&](const char* whose, const std::string& path, const char* remedy) {
        const auto not_after = env::first_not_after(path);
        if (!not_after) return log().warn("{}", not_after.error().context);
        expiry_gauge(whose).set(static_cast<double>(not_after->time_since_epoch().count()));
        if (!expires_soon(*not_after, now)) return;
        log().warn("certificate {}: {}: {}", path, expiry_text(*not_after, now), remedy);
    };
    look("own", config_.tls.certificate, "antipode-ca renew");
    look("authority", config_.tls.ca,
         "no certificate of it is good any longer then: a new authority");
    server_->warn_of_expiry(now);
}

std::string Daemon::metrics_text() {
    const auto clients = server_->first_not_after();
    expiry_gauge("client").set(clients ? static_cast<double>(clients->time_since_epoch().count())
                                       : std::numeric_limits<double>::quiet_NaN());
    return registry_.prometheus_text();
}

void Daemon::reload() {
    const std::string seen = state_of(config_.tls);
    auto tls = env::make_mutual_tls(env::TlsRole::server, config_.tls);
    files_seen_ = seen;
    if (!tls) {
        log().error("keeping the certificates and CRL that are in use: {}",
                    tls.error().to_string());
        return;
    }
    listener_->set_context(std::move(*tls));
    log().info("read certificates and CRL again");
    look_at_certificates();
    if (config_.tls.crl.empty()) return;
    const auto revoked = env::revoked_serials(config_.tls.crl);
    if (!revoked) return log().error("CRL: {}", revoked.error().context);
    server_->revoke(*revoked);
}

void Daemon::probe(std::function<void()> alive) {
    if (store_->stalled() > kStoreStallMax) {
        log().error("the store has not answered for {} s",
                    std::chrono::floor<std::chrono::seconds>(store_->stalled()).count());
        return;
    }
    listener_->probe(std::move(alive));
}

std::string Daemon::status() const {
    return fmt::format("store {:016x}\npairs {}\nconnections {}\nwatches {}\nok\n",
                       store_->identity().value(), service_->pair_count(), server_->count(),
                       service_->watch_count());
}

void Daemon::on_admin(const env::LineSocket::Caller& caller, const std::string& line,
                      const env::LineSocket::Reply& reply) {
    constexpr std::string_view kForget = "forget ";
    if (line == "status") return reply(status());
    if (line == "metrics") return reply(metrics_text() + "ok\n");
    if (!line.starts_with(kForget)) return reply("error: no such command\n");
    const auto pair = Name::parse(line.substr(kForget.size()), "pair");
    if (!pair) return reply("error: " + pair.error().context + "\n");
    service_->forget(*pair, administrator(caller.uid), [reply](Result<wire::Answer> answer) {
        if (!answer) return reply("error: " + answer.error().context + "\n");
        if (answer->kind != wire::AnswerKind::record) {
            return reply(fmt::format("error: {}\n", to_string(answer->reason)));
        }
        reply("ok\n");
    });
}

Result<std::unique_ptr<Store>> open_store(const Config& config, StoreUse use,
                                          asio::io_context* core, Registry& registry) {
    if (config.store == StoreKind::etcd) {
        const auto how = use == StoreUse::serve    ? EtcdStore::Use::serve
                         : use == StoreUse::change ? EtcdStore::Use::change
                                                   : EtcdStore::Use::read;
        FT_TRY(auto store, EtcdStore::open(config.etcd, how, core, registry));
        return store;
    }
    const auto how = use == StoreUse::serve    ? SqliteStore::Use::serve
                     : use == StoreUse::change ? SqliteStore::Use::change
                                               : SqliteStore::Use::read;
    FT_TRY(auto store, SqliteStore::open(config.database, how, core, registry));
    return store;
}

namespace {

// Feeds systemd's watchdog while the daemon is alive.
class Watchdog {
  public:
    Watchdog(asio::io_context& core, Daemon& daemon) : timer_(core), daemon_(daemon) {
        uint64_t interval_us = 0;
        if (::sd_watchdog_enabled(0, &interval_us) > 0) {
            interval_ = std::chrono::microseconds(interval_us / 3);
            feed();
        }
    }

  private:
    void feed() {
        daemon_.probe([] { ::sd_notify(0, "WATCHDOG=1"); });
        timer_.expires_after(interval_);
        timer_.async_wait([this](const error_code& error) {
            if (!error) feed();
        });
    }
    asio::steady_timer timer_;
    Daemon& daemon_;
    std::chrono::microseconds interval_{};
};

// Each connection is a descriptor, and a process begins with 1024 of them. Says what is short.
std::string raise_descriptor_limit(const Config& config) {
    constexpr rlim_t kOthers = 256;  // the store, the log, the loops
    const rlim_t wanted = config.server.connections_max + config.listener.handshakes_max + kOthers;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return {};
    limit.rlim_cur = std::min(wanted, limit.rlim_max);
    if (::setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted) return {};
    return fmt::format("{} descriptors are allowed, {} connections need {}: raise LimitNOFILE",
                       limit.rlim_cur, config.server.connections_max, wanted);
}

}  // namespace

int run_daemon(const std::string& config_path) {
    asio::io_context core(1);
    // Before any thread is made, so that all of them have these blocked or handled here.
    asio::signal_set stop_signals(core, SIGTERM, SIGINT);
    asio::signal_set reload_signals(core, SIGHUP);
    std::signal(SIGPIPE, SIG_IGN);
    auto config = load_config(config_path);
    if (!config) {
        log().error("{}", config.error().context);
        return 1;
    }
    const std::string short_of = raise_descriptor_limit(*config);
    int exit_code = 0;
    auto daemon = Daemon::start(core, std::move(*config), [&](const std::string& why) {
        log().critical("ending, since nobody can say what is durable: {}", why);
        exit_code = 1;
        core.stop();
    });
    if (!daemon) {
        log().error("{}", daemon.error().context);
        return 1;
    }
    if (!short_of.empty()) log().warn("{}", short_of);
    stop_signals.async_wait([&](const error_code& error, int number) {
        if (error) return;
        log().info("stopping: {}", number == SIGTERM ? "SIGTERM" : "SIGINT");
        ::sd_notify(0, "STOPPING=1");
        core.stop();
    });
    std::function<void()> await_reload = [&] {
        reload_signals.async_wait([&](const error_code& error, int) {
            if (error) return;
            (*daemon)->reload();
            await_reload();
        });
    };
    await_reload();
    const Watchdog watchdog(core, **daemon);
    ::sd_notify(0, fmt::format("READY=1\nSTATUS=serving {} pairs, store {:016x}",
                               (*daemon)->pair_count(), (*daemon)->identity().value())
                       .c_str());
    core.run();
    (*daemon)->stop();
    return exit_code;
}

}  // namespace antipode::tiebreaker
