// Two sites' services in one process, over TLS on loopback, with clients in many threads: what the
// threads of a Group do to each other. Also run under the thread sanitizer.
#include "disksync/service/group.h"

#include <arpa/inet.h>
#include <fstream>
#include <future>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/base/random.h"
#include "disksync/service/control_socket.h"
#include "tests/unit/disksync/test_disk.h"
#include "tiebreaker/ca/authority.h"

namespace antipode::disksync {
namespace {

using tiebreaker::Authority;

constexpr uint64_t kSize = uint64_t{16} << 20;
constexpr uint64_t kBlock = 4096;
constexpr size_t kClients = 6;
constexpr std::chrono::seconds kPatience(60);

uint16_t free_port() {
    const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(probe.get(), any, length) != 0 || ::getsockname(probe.get(), any, &length) != 0) {
        std::abort();
    }
    return ntohs(address.sin_port);
}

class Pair {
  public:
    Pair() : port_(std::to_string(free_port())) {
        auto authority = Authority::init(folder_.file("ca"), "Test CA", Authority::Days(30));
        if (!authority) std::abort();
        ca_ = authority->ca_path();
        for (const char* name : {"site-a", "site-b"}) certify(*authority, name);
        for (size_t site = 0; site < 2; ++site) {
            configs_[site] = config_of(site);
            const auto created = create_group(configs_[site], FirstContents::empty);
            EXPECT_TRUE(created) << created.error().context;
        }
    }
    void start(size_t site) {
        auto started = Group::start(configs_[site]);
        ASSERT_TRUE(started) << started.error().context;
        groups_[site] = std::move(*started);
    }
    void stop(size_t site) { groups_[site].reset(); }
    Group& group(size_t site) { return *groups_[site]; }
    std::string ask(size_t site, const std::string& line) {
        return env::LineSocket::ask(kControlSocket, configs_[site].control_socket, line)
            .value_or("");
    }
    bool eventually(size_t site, const std::string& wanted) {
        const Instant end = MonotonicClock::now() + kPatience;
        while (MonotonicClock::now() < end) {
            if (ask(site, "status").find(wanted) != std::string::npos) return true;
            std::this_thread::yield();
        }
        return false;
    }
    std::vector<char> image(size_t site) const {
        std::ifstream file(configs_[site].disks[0].store, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    }

  private:
    void certify(Authority& authority, const std::string& name) {
        const tiebreaker::KeyPointer key = tiebreaker::make_key();
        const auto issued =
            authority.issue({{env::PeerRole::web, Name::literal(name), {}}, {"127.0.0.1"}},
                            key.get(), Authority::Days(1));
        ASSERT_TRUE(issued) << issued.error().context;
        std::ofstream(folder_.file(name + ".pem")) << issued->pem;
        const std::string path = folder_.file(name + ".key");
        std::ofstream(path) << tiebreaker::key_pem(key.get());
        std::filesystem::permissions(path, std::filesystem::perms::owner_read);
    }
    GroupConfig config_of(size_t site) const {
        GroupConfig config;
        const std::string letter = site == 0 ? "a" : "b";
        config.path = folder_.file(letter + ".toml");
        config.node.pair = Name::literal("web1");
        config.node.mode = Mode::semi_sync;
        config.peer = Name::literal(site == 0 ? "site-b" : "site-a");
        config.tls = {ca_, "", folder_.file("site-" + letter + ".pem"),
                      folder_.file("site-" + letter + ".key")};
        config.listens = site == 0;
        config.address = {"127.0.0.1", port_};
        config.control_socket = folder_.file(letter + ".sock");
        config.journal = folder_.file(letter + ".events");
        DiskPaths disk;
        disk.name = Name::literal("sda");
        disk.store = folder_.image(letter + ".img", kSize);
        disk.metadata = disk.store + ".antipode";
        disk.undo = disk.metadata + ".undo";
        config.disks.push_back(disk);
        return config;
    }

    TemporaryDirectory folder_;
    const std::string port_;
    std::string ca_;
    std::array<GroupConfig, 2> configs_;
    std::array<std::unique_ptr<Group>, 2> groups_;
};

Result<wire::SharedBytes> execute(Group& group, Group::Request&& request) {
    std::promise<Result<wire::SharedBytes>> promise;
    auto future = promise.get_future();
    group.submit(std::move(request), [&](Result<> result, const wire::SharedBytes& data) {
        promise.set_value(result ? Result<wire::SharedBytes>(data)
                                 : Result<wire::SharedBytes>(fail(result.error())));
    });
    return future.get();
}

// Writes, reads back what it wrote, flushes; each client in blocks of its own.
void be_a_client(Group& group, size_t client, uint64_t seed, size_t operations) {
    Random random(seed);
    std::map<uint64_t, uint64_t> written;
    for (size_t done = 0; done < operations; ++done) {
        Group::Request request;
        const uint64_t slot = random.below(kSize / kBlock / kClients);
        request.offset_bytes = (slot * kClients + client) * kBlock;
        request.length_bytes = kBlock;
        const auto known = written.find(slot);
        if (random.chance(0.02)) {
            request.operation = StoreOperation::flush;
            request.offset_bytes = request.length_bytes = 0;
            EXPECT_OK(execute(group, std::move(request)));
        } else if (known != written.end() && random.chance(0.4)) {
            const auto data = execute(group, std::move(request));
            ASSERT_TRUE(data) << data.error().context;
            uint64_t held = 0;
            std::memcpy(&held, data->data(), sizeof(held));
            EXPECT_EQ(held, known->second);
        } else {
            const uint64_t stamp = random.next();
            request.operation = StoreOperation::write;
            request.data = wire::SharedBytes::make(kBlock);
            std::memcpy(request.data.data(), &stamp, sizeof(stamp));
            std::memset(request.data.data() + sizeof(stamp), 0, kBlock - sizeof(stamp));
            request.fua = random.chance(0.05) ? Fua::yes : Fua::no;
            EXPECT_OK(execute(group, std::move(request)));
            written[slot] = stamp;
        }
    }
}

void run_clients(Group& group, uint64_t seed, size_t operations) {
    std::vector<std::thread> clients;
    for (size_t client = 0; client < kClients; ++client) {
        clients.emplace_back([&group, client, seed, operations] {
            be_a_client(group, client, seed + client, operations);
        });
    }
    for (std::thread& client : clients) client.join();
}

TEST(Group, ClientsInManyThreadsAndAPeerThatComesAndGoes) {
    Pair pair;
    pair.start(0);
    pair.start(1);
    ASSERT_TRUE(pair.eventually(0, R"("link":"connected")"));
    ASSERT_OK(pair.group(0).open_for_writing());
    ASSERT_TRUE(pair.eventually(0, R"("role":"primary")"));
    run_clients(pair.group(0), 1, 300);
    std::thread peer([&] {
        pair.stop(1);
        ASSERT_TRUE(pair.eventually(0, R"("link":"disconnected")"));
        pair.start(1);
        ASSERT_TRUE(pair.eventually(0, R"("link":"connected")"));
    });
    run_clients(pair.group(0), 100, 600);
    peer.join();
    EXPECT_NE(pair.ask(0, "verify sda").find("ok"), std::string::npos);
    EXPECT_TRUE(pair.eventually(0, R"("phase":"idle")"));
    EXPECT_TRUE(pair.eventually(0, R"("marked_blocks":0)"));
    pair.stop(0);
    pair.stop(1);
    EXPECT_EQ(pair.image(0), pair.image(1));
}

TEST(Group, WhatComesAfterItsEndIsRefused) {
    Pair pair;
    pair.start(0);
    pair.start(1);
    ASSERT_TRUE(pair.eventually(0, R"("link":"connected")"));
    ASSERT_OK(pair.group(0).open_for_writing());
    pair.group(0).stop();
    Group::Request request;
    request.length_bytes = kBlock;
    EXPECT_ERROR(execute(pair.group(0), std::move(request)), Errc::closed);
}

TEST(Group, ASecondaryRefusesToWrite) {
    Pair pair;
    pair.start(0);
    Group::Request request;
    request.operation = StoreOperation::write;
    request.length_bytes = kBlock;
    request.data = wire::SharedBytes::make(kBlock);
    EXPECT_FALSE(execute(pair.group(0), std::move(request)));
}

}  // namespace
}  // namespace antipode::disksync
