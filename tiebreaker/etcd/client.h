// Client: one HTTPS connection at a time to one of etcd's members, for its JSON gateway.
//
// Mutual TLS 1.3; the member must prove the host name or address that was dialled. A member that
// cannot be reached, or does not answer in time, is left for the next of the list at the next
// call. Before anything else is said on a new connection the member's cluster is asked for, so that
// nothing is ever written to another cluster than the one that is pinned. Certificates are read
// anew at each connection: renewed ones are taken up by themselves.
//
// Threads: one at a time; call() blocks, at most request_limit (and as long as a host name takes to
// be resolved: name addresses). Bounded: answer_bytes_max.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace antipode::tiebreaker::etcd {

struct Endpoint {
    std::string host;
    std::string port;
    std::string text() const;
    // https://HOST:PORT, an IPv6 address in brackets.
    static Result<Endpoint> parse(const std::string& url);
};

constexpr size_t kEndpointsMax = 9;

struct ClientSettings {
    std::vector<std::string> endpoints;
    std::string ca;
    std::string certificate;
    std::string key;
    std::chrono::milliseconds request_limit{2000};
    std::string probe_key = "/";  // is read to learn a member's cluster
};
// Everything that can be wrong with them, their files included.
Result<> check(const ClientSettings& settings);

constexpr uint64_t kAnswerBytesMax = 16 << 20;

struct Reply {
    enum class Kind : uint8_t {
        answered = 1,  // `body` is what it says
        not_sent,      // it did not leave this machine, or the member is none of ours
        refused,       // the member says that it did nothing, and will not
        doubtful,      // no answer, or one that leaves it open whether it was done
    };
    Kind kind = Kind::not_sent;
    std::string body;   // answered
    std::string error;  // else; names the endpoint
};

// The way to etcd as its user sees it; tests put an etcd of their own behind it.
class Gateway {
  public:
    virtual ~Gateway() = default;
    // Of the first member that answered: the only cluster that is talked to. 0 before that.
    virtual uint64_t cluster_id() const = 0;
    virtual size_t endpoint_count() const = 0;
    virtual Reply call(const std::string& path, std::string body) = 0;
    // Leaves this member for the next.
    virtual void leave() = 0;
    // For what may be asked twice: every member is tried, and then all of them once more.
    Result<std::string> read(const std::string& path, const std::string& body);
};

class Client final : public Gateway {
  public:
    // `settings` have passed check().
    explicit Client(ClientSettings settings);

    uint64_t cluster_id() const override { return cluster_id_; }
    size_t endpoint_count() const override { return endpoints_.size(); }
    Reply call(const std::string& path, std::string body) override;
    void leave() override;

  private:
    using Stream = boost::beast::ssl_stream<boost::beast::tcp_stream>;
    Result<> connect();
    Result<> make_context();
    Result<> check_cluster();
    Reply exchange(const std::string& path, std::string body);
    // Starts an operation and runs the loop until it has ended.
    template <typename Start>
    boost::system::error_code wait_for(Start start);
    std::string failed(std::string_view step, const boost::system::error_code& error) const;
    const Endpoint& endpoint() const { return endpoints_[next_ % endpoints_.size()]; }

    const ClientSettings settings_;
    std::vector<Endpoint> endpoints_;
    size_t next_ = 0;
    uint64_t cluster_id_ = 0;
    boost::asio::io_context io_{1};
    std::unique_ptr<boost::asio::ssl::context> context_;
    std::unique_ptr<Stream> stream_;
    boost::beast::flat_buffer buffer_;
    std::chrono::steady_clock::time_point deadline_;
};

}  // namespace antipode::tiebreaker::etcd
