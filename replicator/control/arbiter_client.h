// ArbiterClient: a replicator's line to the tiebreaker, one TLS connection that is kept open.
//
// It connects, says who it is, watches its pair's record, and carries requests; when the connection
// breaks or falls silent it connects again, with growing, jittered pauses, and sends what is still
// unanswered once more: requests are idempotent. Whatever the tiebreaker says about the pair comes
// as `answered`, asked or not (an unasked record looks like the answer to a query).
//
// Threads: all of it, and every callback, on the thread that runs the io_context; callbacks come
// from the loop, never from within a call. INVARIANTS
//   - At most in_flight_max requests wait; the oldest of those without a handler makes room.
//   - A silent connection is given up after attempt_limit; nothing waits longer without a new try.
//   - Only a certificate of our authority with the role tiebreaker that names the host we dialled
//     is talked to.
//   - While a store is pinned, an answer of another store is never handed on as an answer: its
//     requests fail with `denied`, `create` excepted, which is how one is enrolled again.
// Failures never end it: up/down tell how it is, last_error() why. stop() ends it; handlers that
// still wait get `closed`.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/base/result.h"
#include "common/wire/arbiter_messages.h"

namespace antipode::control {

struct ArbiterClientSettings {
    std::string address;  // HOST:PORT, [ADDRESS]:PORT
    std::string ca;
    std::string crl;  // may be empty
    std::string certificate;
    std::string key;
    Name pair;
    Member me;
    wire::StoreIdentity pinned_store;               // 0: any; the caller judges what `up` says
    std::chrono::milliseconds attempt_limit{2000};  // to connect; and to answer anything
    std::chrono::milliseconds ping_interval{3000};
    std::chrono::milliseconds pause_min{100};  // between attempts to connect
    std::chrono::milliseconds pause_max{5000};
    size_t in_flight_max = 16;
};

struct ArbiterClientEvents {
    std::function<void(wire::StoreIdentity)> up;
    std::function<void(const std::string& reason)> down;
    // To what was asked without a handler, and unasked at every change of the pair's record.
    std::function<void(const wire::Answer&)> answered;
};

class ArbiterClient {
  public:
    using Handler = std::function<void(Result<wire::Answer>)>;

    // Reads the certificates; an error names the file or field. Connects only after start().
    static Result<std::unique_ptr<ArbiterClient>> create(boost::asio::io_context& context,
                                                         ArbiterClientSettings settings,
                                                         Registry& registry,
                                                         ArbiterClientEvents events);
    ~ArbiterClient();
    ArbiterClient(const ArbiterClient&) = delete;
    ArbiterClient& operator=(const ArbiterClient&) = delete;

    void start();
    void stop();

    // The answer comes as `answered`. Asking again what still waits changes nothing.
    void ask(const wire::Request& request);
    // The answer, or why there is none, comes to `handler`, once; `limit` if too many wait.
    void ask(const wire::Request& request, Handler handler);
    void pin(wire::StoreIdentity store);
    // Break off and try at once, for example after an operator has repaired the line.
    void reconnect();
    // A rehearsed loss of the tiebreaker: while cut, the connection is dropped and none is made.
    enum class Line { open = 1, cut };
    void set_line(Line line);

    bool connected() const;
    const std::string& last_error() const;  // empty while connected
    wire::StoreIdentity store() const;      // of the connection; 0 while there is none
    std::optional<Duration> round_trip() const;
    std::optional<Instant> last_heard() const;
    // When this site's certificate, or its authority's, expires: whichever is first. As the files
    // were a minute ago at most.
    std::chrono::sys_seconds certificate_not_after() const;

  private:
    class Impl;
    explicit ArbiterClient(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace antipode::control
