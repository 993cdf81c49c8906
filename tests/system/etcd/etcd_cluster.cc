#include "tests/system/etcd/etcd_cluster.h"

#include <arpa/inet.h>
#include <boost/json.hpp>
#include <csignal>
#include <filesystem>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/random.h"
#include "tiebreaker/etcd/kv.h"

namespace antipode::tiebreaker::testing {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr const char* kEtcd = "/usr/bin/etcd";
constexpr const char* kEtcdctl = "/usr/bin/etcdctl";

// Free now, and below the range from which connections take theirs: a member that was killed finds
// it free again.
uint16_t free_port() {
    static Random random(static_cast<uint64_t>(::getpid()) ^
                         static_cast<uint64_t>(MonotonicClock::now().time_since_epoch().count()));
    for (int tries = 0; tries < 100; ++tries) {
        const auto port = static_cast<uint16_t>(random.between(20000, 32000));
        const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
            return port;
        }
    }
    ADD_FAILURE() << "no free port";
    return 0;
}

}  // namespace

bool etcd_is_installed() {
    return ::access(kEtcd, X_OK) == 0 && ::access(kEtcdctl, X_OK) == 0;
}

EtcdCluster::EtcdCluster(size_t members) {
    certificates_.web("etcd");
    certificates_.web("client");
    for (size_t i = 0; i < members; ++i) {
        MemberProcess member;
        member.name = fmt::format("member-{}", i);
        member.client_port = free_port();
        member.peer_port = free_port();
        members_.push_back(std::move(member));
    }
}

std::string EtcdCluster::client_url(const MemberProcess& member) const {
    return fmt::format("https://127.0.0.1:{}", member.client_port);
}

std::string EtcdCluster::peer_url(const MemberProcess& member) const {
    return fmt::format("https://127.0.0.1:{}", member.peer_port);
}

std::string EtcdCluster::initial_cluster() const {
    std::string out;
    for (const MemberProcess& member : members_) {
        if (!out.empty()) out += ',';
        out += member.name + "=" + peer_url(member);
    }
    return out;
}

void EtcdCluster::start(size_t index) {
    MemberProcess& member = members_[index];
    const env::TlsFiles files = certificates_.files("etcd");
    std::vector<std::string> arguments{kEtcd,
                                       "--name",
                                       member.name,
                                       "--data-dir",
                                       path(member.name),
                                       "--listen-client-urls",
                                       client_url(member),
                                       "--advertise-client-urls",
                                       client_url(member),
                                       "--listen-peer-urls",
                                       peer_url(member),
                                       "--initial-advertise-peer-urls",
                                       peer_url(member),
                                       "--initial-cluster",
                                       initial_cluster(),
                                       "--initial-cluster-token",
                                       "antipode-test"};
    for (const char* prefix : {"--", "--peer-"}) {
        const std::string before(prefix);
        for (auto& argument :
             {before + "cert-file", files.certificate, before + "key-file", files.key,
              before + "trusted-ca-file", files.ca, before + "client-cert-auth"}) {
            arguments.push_back(argument);
        }
    }
    for (const char* argument : {"--heartbeat-interval", "50", "--election-timeout", "500",
                                 "--logger", "zap", "--log-outputs", "stderr"}) {
        arguments.emplace_back(argument);
    }
    member.process = std::make_unique<DaemonProcess>(directory_.path(), arguments);
}

void EtcdCluster::start_all() {
    for (size_t i = 0; i < members_.size(); ++i) start(i);
    for (MemberProcess& member : members_) {
        ASSERT_NE(member.process->await("READY=1"), "") << member.process->log();
    }
}

void EtcdCluster::kill(size_t index) {
    MemberProcess& member = members_[index];
    ASSERT_NE(member.process, nullptr);
    member.process->signal(SIGKILL);
    EXPECT_EQ(member.process->wait(), -SIGKILL);
    member.process.reset();
}

void EtcdCluster::kill_all() {
    for (size_t i = 0; i < members_.size(); ++i) {
        if (members_[i].process) kill(i);
    }
}

EtcdSettings EtcdCluster::settings(const std::string& mark) const {
    EtcdSettings out;
    for (const MemberProcess& member : members_) out.client.endpoints.push_back(client_url(member));
    const env::TlsFiles files = certificates_.files("client");
    out.client.ca = files.ca;
    out.client.certificate = files.certificate;
    out.client.key = files.key;
    out.mark = mark;
    return out;
}

size_t EtcdCluster::leader() {
    for (int tries = 0; tries < 200; ++tries) {
        for (size_t i = 0; i < members_.size(); ++i) {
            if (!members_[i].process) continue;
            etcd::ClientSettings one = settings("").client;
            one.endpoints = {client_url(members_[i])};
            etcd::Client client(one);
            const etcd::Reply reply = client.call("/v3/maintenance/status", "{}");
            if (reply.kind != etcd::Reply::Kind::answered) continue;
            const json::object status = json::parse(reply.body).as_object();
            const json::value* leader = status.if_contains("leader");
            if (leader == nullptr) continue;
            if (*leader == status.at("header").as_object().at("member_id")) return i;
        }
        ::usleep(50'000);  // an election is under way
    }
    ADD_FAILURE() << "the cluster has no leader";
    return 0;
}

void EtcdCluster::save(const std::string& name) {
    for (const MemberProcess& member : members_) {
        fs::copy(path(member.name), path(name + "-" + member.name), fs::copy_options::recursive);
    }
}

void EtcdCluster::put_back(const std::string& name) {
    for (const MemberProcess& member : members_) {
        fs::remove_all(path(member.name));
        fs::copy(path(name + "-" + member.name), path(member.name), fs::copy_options::recursive);
    }
}

Finished EtcdCluster::etcdctl(std::vector<std::string> arguments) {
    const env::TlsFiles files = certificates_.files("client");
    std::vector<std::string> all{"/usr/bin/env",          "ETCDCTL_API=3", kEtcdctl, "--endpoints",
                                 client_url(members_[0]), "--cacert",      files.ca, "--cert",
                                 files.certificate,       "--key",         files.key};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run(directory_.path(), all);
}

void EtcdCluster::restore_snapshot(const std::string& file) {
    ASSERT_EQ(members_.size(), 1u);
    fs::remove_all(path(members_[0].name));
    const Finished restored = run(
        directory_.path(), {"/usr/bin/env", "ETCDCTL_API=3", kEtcdctl, "snapshot", "restore", file,
                            "--name", members_[0].name, "--data-dir", path(members_[0].name),
                            "--initial-cluster", initial_cluster(), "--initial-advertise-peer-urls",
                            peer_url(members_[0]), "--initial-cluster-token", "antipode-test"});
    ASSERT_EQ(restored.exit_code, 0) << restored.error;
}

}  // namespace antipode::tiebreaker::testing
