// Session: one site's TLS connection to the tiebreaker, and the limits that keep it from hurting
// others.
//
// Life: adopted by the server after its handshake; says hello; then asks, watches and pings until
// it hangs up, breaks a rule or a deadline, its certificate expires or is revoked, or the server
// ends.
//
// Threads: the core thread only. INVARIANTS
//   - Bounded: what it may have sent us and we have not looked at (one frame and one read),
//     requests under way, bytes on the way out. Whoever does not read his answers is read no more,
//     then cut.
//   - Each turn is short, whatever is sent: frames, and records that hold none.
//   - Reading pauses, and nothing is lost, while a rate limit or a bound is reached.
//   - After close() nothing is delivered; the service forgets its watches at once.
// A broken rule is answered with one error frame that names it, where that can still be sent.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "common/env/posix/tls_stream.h"
#include "tiebreaker/rate_limit.h"
#include "tiebreaker/service.h"

namespace antipode::tiebreaker {

struct SessionLimits {
    std::chrono::milliseconds hello_limit{5000};   // from the handshake to the hello
    std::chrono::milliseconds frame_limit{5000};   // from a frame's first byte to its last
    std::chrono::milliseconds idle_limit{20000};   // between frames
    std::chrono::milliseconds write_limit{10000};  // for the peer to take what we send
    double requests_per_second = 50;
    double requests_burst = 100;
    size_t under_way_max = 8;
    size_t out_bytes_max = 32768;  // above it nothing more is read
};

class Session;

// What a session needs of the server that holds it.
class SessionHost {
  public:
    virtual ~SessionHost() = default;
    virtual Service& service() = 0;
    virtual const Name& tiebreaker_name() const = 0;
    virtual boost::asio::io_context& context() = 0;
    // What all of a site's sessions take from.
    virtual TokenBucket& site_bucket(const Name& site) = 0;
    virtual void closed(Session& session, const std::string& reason) = 0;
};

class Session final : public Client, public std::enable_shared_from_this<Session> {
  public:
    Session(SessionHost& host, std::unique_ptr<env::TlsStream> stream,
            env::CertificateIdentity identity, const SessionLimits& limits);

    void start();
    // Sends an error frame that belongs to no request, and closes.
    void refuse(Errc code, const std::string& text);
    void close(const std::string& reason);
    // Looks at the deadlines; may close.
    void check_deadlines(Instant now, std::chrono::sys_seconds date);

    const env::CertificateIdentity& identity() const override { return identity_; }
    const std::string& described() const override { return described_; }
    const std::string& serial() const { return serial_; }
    std::chrono::sys_seconds not_after() const { return not_after_; }
    void deliver(uint64_t number, wire::ArbiterBody body) override;
    void push(const wire::ArbiterRecord& record) override;

  private:
    using Needs = env::TlsStream::Needs;

    void read();
    bool take_frames();
    void on_frame(wire::ArbiterFrame frame);
    void on_hello(const wire::ArbiterHello& hello);
    bool may_take_request();
    void pause_for(Duration wait);
    void resume();
    void send(uint64_t number, wire::ArbiterBody body);
    void flush();
    void send_pushes();

    SessionHost& host_;
    std::unique_ptr<env::TlsStream> stream_;
    const env::CertificateIdentity identity_;
    const SessionLimits& limits_;
    std::string serial_;
    std::string described_;
    std::chrono::sys_seconds not_after_;

    wire::ArbiterFrameBuffer in_;
    std::string out_;
    std::map<Name, wire::ArbiterRecord> pushes_;  // that wait for room; the newest of each pair
    bool greeted_ = false;
    bool closed_ = false;
    bool reading_ = false;  // within read(): it flushes at its end
    bool writing_ = false;  // waits for the socket to take more
    bool paused_ = false;   // reading goes on when something calls resume()
    size_t under_way_ = 0;
    TokenBucket bucket_;
    TokenBucket fruitless_;  // it was readable, and nothing came of it
    std::unique_ptr<boost::asio::steady_timer> pause_timer_;  // made when first needed

    Instant last_frame_;
    std::optional<Instant> partial_since_;  // a frame has begun and is not whole
    std::optional<Instant> write_since_;    // bytes wait since, and none has moved
};

}  // namespace antipode::tiebreaker
