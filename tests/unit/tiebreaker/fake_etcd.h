// An etcd in memory, behind the Gateway: transactions and ranges as etcd does them, and whatever
// can go wrong on the way to it. Shared by the gateways of several tiebreakers; thread safe.
#pragma once

#include <boost/json.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "tiebreaker/etcd/client.h"
#include "tiebreaker/etcd/kv.h"

namespace antipode::tiebreaker::testing {

class FakeEtcd {
  public:
    enum class Mishap : uint8_t {
        none = 1,
        answer_lost,   // done, but nobody says so
        request_lost,  // not done, and nobody says so
        not_sent,      // no connection
        refused,       // "database space exceeded"
        garbage,       // done, and answered with nonsense
        done_later,    // no answer now; it is done just before the next call
        done_last,     // no answer now; it is done just after the next call
    };
    struct Value {
        std::string value;
        uint64_t mod_revision = 0;
    };
    struct State {
        std::map<std::string, Value> keys;
        uint64_t revision = 1;
        uint64_t cluster_id = 0xc1;
    };

    std::unique_ptr<etcd::Gateway> gateway();
    // What happens to the next transactions that write, in order; then nothing any more.
    void next(std::initializer_list<Mishap> mishaps);
    // Around the next transaction that writes, on the thread that asks for it.
    using Hook = std::function<void()>;
    void before_next_write(Hook function);
    void after_next_write(Hook function);
    State state() const;
    void put_back(State state);
    std::string value_of(const std::string& key) const;
    void put(const std::string& key, const std::string& value);
    void erase(const std::string& key);
    size_t calls() const;

  private:
    class FakeGateway;
    etcd::Reply call(const std::string& path, const std::string& body);
    etcd::Reply call_now(const std::string& path, const std::string& body, bool writes);
    void run(Hook& hook);
    std::string transaction(const boost::json::object& body);
    std::string range(const boost::json::object& body);
    bool holds(const boost::json::object& compare) const;
    boost::json::object header() const;
    boost::json::object read(const boost::json::object& range) const;

    mutable std::mutex mutex_;
    State state_;
    std::deque<Mishap> next_;
    Hook before_next_write_, after_next_write_;
    std::optional<std::string> late_, last_;
    size_t calls_ = 0;
};

}  // namespace antipode::tiebreaker::testing
