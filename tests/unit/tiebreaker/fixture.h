// What the tiebreaker's tests share: a directory, certificates, a daemon on a thread of its own,
// and a client that sends whatever bytes a test wants.
#pragma once

#include <boost/asio/io_context.hpp>
#include <future>
#include <gtest/gtest.h>
#include <memory>
#include <openssl/ssl.h>
#include <string>
#include <thread>

#include "common/base/freer.h"
#include "common/wire/arbiter_frames.h"
#include "tiebreaker/ca/authority.h"
#include "tiebreaker/daemon.h"

namespace antipode::tiebreaker::testing {

// Removed with everything in it at the end.
class TempDirectory {
  public:
    TempDirectory();
    ~TempDirectory();
    std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

// An authority and what it signs, in a directory.
class Certificates {
  public:
    explicit Certificates(const TempDirectory& directory);
    // Makes NAME.pem and NAME.key; returns the serial.
    std::string site(const std::string& name, std::vector<std::string> pairs = {"*"});
    std::string tiebreaker(const std::string& name);
    // Good for both ends of a connection, at 127.0.0.1: what members of an etcd cluster need.
    std::string web(const std::string& name);
    std::string between(const std::string& name, std::chrono::sys_seconds from,
                        std::chrono::sys_seconds to);
    Authority& authority() { return *authority_; }
    env::TlsFiles files(const std::string& name) const;

  private:
    std::string issue(const Subject& subject);
    const TempDirectory& directory_;
    std::optional<Authority> authority_;
};

Config test_config(const TempDirectory& directory, const Certificates& certificates);

// A daemon and its core thread.
class RunningDaemon {
  public:
    explicit RunningDaemon(Config config);
    ~RunningDaemon();
    // On the core thread; waits for it.
    template <typename Function>
    auto on_core(Function function) {
        std::packaged_task<decltype(function(*daemon_))()> task([&] { return function(*daemon_); });
        auto result = task.get_future();
        boost::asio::post(core_, [&] { task(); });
        return result.get();
    }
    uint16_t port() const { return port_; }
    Daemon& daemon() { return *daemon_; }
    std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
    const std::string& ended() const { return ended_; }

  private:
    boost::asio::io_context core_{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
        core_.get_executor()};
    std::string ended_;
    std::unique_ptr<Daemon> daemon_;
    uint16_t port_ = 0;
    std::thread thread_;
};

using SslContextPointer = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
// A client's context with nothing set but what is named; empty names are left out.
SslContextPointer raw_context(const env::TlsFiles& files, int version_max = TLS1_3_VERSION);

// Blocking; every wait ends after ten seconds with a failure of the test.
class RawClient {
  public:
    RawClient(uint16_t port, SSL_CTX* context);  // context may be null: plain TCP
    // Shakes hands up to its last flight, with its certificate, which waits for send_last_flight().
    struct HoldLastFlight {};
    RawClient(uint16_t port, SSL_CTX* context, HoldLastFlight);
    ~RawClient();
    RawClient(const RawClient&) = delete;
    RawClient& operator=(const RawClient&) = delete;

    bool shook_hands() const { return shook_hands_; }
    void send_last_flight();
    void send(std::string_view bytes) { (void)try_send(bytes); }
    bool try_send(std::string_view bytes);  // false: the server has cut us
    void send(uint64_t number, wire::ArbiterBody body);
    // nullopt: the server has closed the connection. `error()` says how.
    std::optional<wire::ArbiterFrame> receive();
    // The next frame, as the kind that is expected.
    template <typename Body>
    Body expect(uint64_t number) {
        const auto frame = receive();
        if (!frame) {
            ADD_FAILURE() << "hung up: " << error_;
            return {};
        }
        EXPECT_EQ(frame->number, number);
        const auto* body = std::get_if<Body>(&frame->body);
        if (body == nullptr) {
            ADD_FAILURE() << "got " << to_string(frame->body) << text_of(*frame);
            return {};
        }
        store_ = frame->store;
        return *body;
    }
    void hello(const char* site);
    wire::Answer ask(wire::Request request);
    bool hung_up() { return !receive().has_value(); }
    // TLS's own message for new keys, so many times; false: the server has cut us.
    bool update_keys(int times);
    const std::string& error() const { return error_; }
    wire::StoreIdentity store() const { return store_; }
    int descriptor() const { return descriptor_; }

  private:
    static std::string text_of(const wire::ArbiterFrame& frame);
    bool fill(size_t bytes);
    void connect(uint16_t port);
    void send_held();
    int descriptor_ = -1;
    SSL* ssl_ = nullptr;
    bool shook_hands_ = false;
    std::string in_;
    std::string error_;
    uint64_t next_number_ = 100;
    wire::StoreIdentity store_;
};

wire::Request request(wire::RequestKind kind, const char* pair, uint64_t epoch, Member me,
                      Member other = {}, wire::StoreIdentity store = {});
Member member(const char* site, uint64_t incarnation);
// A sound record, solo at site-a, and a commit of it with its line of history.
wire::Record record_of(const std::string& pair, uint64_t epoch, wire::StoreIdentity store);
Commit commit_of(const wire::Record& record, uint64_t expected_version);

}  // namespace antipode::tiebreaker::testing
