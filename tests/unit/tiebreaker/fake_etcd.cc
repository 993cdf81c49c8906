#include "tests/unit/tiebreaker/fake_etcd.h"

#include <gtest/gtest.h>

#include "common/base/base64.h"

namespace antipode::tiebreaker::testing {

namespace json = boost::json;
using etcd::Reply;

namespace {

std::string text(const json::object& from, std::string_view key) {
    const json::value* value = from.if_contains(key);
    if (value == nullptr) return {};
    return std::string(value->as_string());
}

std::string bytes(const json::object& from, std::string_view key) {
    auto decoded = from_base64(text(from, key));
    EXPECT_TRUE(decoded.has_value());
    return decoded ? *decoded : std::string();
}

uint64_t number(const json::object& from, std::string_view key) {
    const std::string digits = text(from, key);
    return digits.empty() ? 0 : std::stoull(digits);
}

}  // namespace

class FakeEtcd::FakeGateway final : public etcd::Gateway {
  public:
    explicit FakeGateway(FakeEtcd& etcd) : etcd_(etcd) {}
    uint64_t cluster_id() const override { return cluster_id_; }
    size_t endpoint_count() const override { return 2; }
    Reply call(const std::string& path, std::string body) override {
        const uint64_t cluster_id = etcd_.state().cluster_id;
        if (cluster_id_ == 0) cluster_id_ = cluster_id;
        if (cluster_id_ != cluster_id) return {Reply::Kind::not_sent, {}, "another cluster"};
        return etcd_.call(path, body);
    }
    void leave() override {}

  private:
    FakeEtcd& etcd_;
    uint64_t cluster_id_ = 0;
};

std::unique_ptr<etcd::Gateway> FakeEtcd::gateway() {
    return std::make_unique<FakeGateway>(*this);
}

void FakeEtcd::next(std::initializer_list<Mishap> mishaps) {
    const std::lock_guard lock(mutex_);
    next_.assign(mishaps);
}

void FakeEtcd::before_next_write(Hook function) {
    const std::lock_guard lock(mutex_);
    before_next_write_ = std::move(function);
}

void FakeEtcd::after_next_write(Hook function) {
    const std::lock_guard lock(mutex_);
    after_next_write_ = std::move(function);
}

FakeEtcd::State FakeEtcd::state() const {
    const std::lock_guard lock(mutex_);
    return state_;
}

void FakeEtcd::put_back(State state) {
    const std::lock_guard lock(mutex_);
    state_ = std::move(state);
}

std::string FakeEtcd::value_of(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto found = state_.keys.find(key);
    return found == state_.keys.end() ? std::string() : found->second.value;
}

void FakeEtcd::put(const std::string& key, const std::string& value) {
    const std::lock_guard lock(mutex_);
    state_.keys[key] = {value, ++state_.revision};
}

void FakeEtcd::erase(const std::string& key) {
    const std::lock_guard lock(mutex_);
    state_.keys.erase(key);
    ++state_.revision;
}

size_t FakeEtcd::calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
}

void FakeEtcd::run(Hook& hook) {
    Hook function;
    {
        const std::lock_guard lock(mutex_);
        function = std::exchange(hook, nullptr);
    }
    if (function) function();  // may use this etcd
}

Reply FakeEtcd::call(const std::string& path, const std::string& body) {
    const bool writes = body.find("request_put") != std::string::npos;
    if (writes) run(before_next_write_);
    Reply reply;
    {
        const std::lock_guard lock(mutex_);
        ++calls_;
        if (const auto late = std::exchange(late_, std::nullopt)) {
            (void)transaction(json::parse(*late).as_object());
        }
        const auto last = std::exchange(last_, std::nullopt);
        reply = call_now(path, body, writes);
        if (last) (void)transaction(json::parse(*last).as_object());
    }
    if (writes) run(after_next_write_);
    return reply;
}

Reply FakeEtcd::call_now(const std::string& path, const std::string& body, bool writes) {
    Mishap mishap = Mishap::none;
    if (writes && !next_.empty()) {
        mishap = next_.front();
        next_.pop_front();
    }
    if (path == "/v3/maintenance/status") {
        const json::object status{{"header", header()},
                                  {"dbSize", std::to_string(4096 * state_.revision)}};
        return {Reply::Kind::answered, json::serialize(status), {}};
    }
    const bool is_transaction = path == "/v3/kv/txn";
    switch (mishap) {
        case Mishap::not_sent:
            return {Reply::Kind::not_sent, {}, "no connection"};
        case Mishap::request_lost:
            return {Reply::Kind::doubtful, {}, "no answer"};
        case Mishap::refused:
            return {Reply::Kind::refused, {}, "database space exceeded"};
        case Mishap::done_later:
        case Mishap::done_last:
            (mishap == Mishap::done_later ? late_ : last_) = body;
            return {Reply::Kind::doubtful, {}, "no answer"};
        case Mishap::none:
        case Mishap::answer_lost:
        case Mishap::garbage:
            break;
    }
    const json::object asked = json::parse(body).as_object();
    std::string answer = is_transaction ? transaction(asked) : range(asked);
    if (mishap == Mishap::answer_lost) return {Reply::Kind::doubtful, {}, "no answer"};
    if (mishap == Mishap::garbage) answer = "{\"header\":{}}";
    return {Reply::Kind::answered, std::move(answer), {}};
}

json::object FakeEtcd::header() const {
    return {{"cluster_id", std::to_string(state_.cluster_id)},
            {"revision", std::to_string(state_.revision)}};
}

bool FakeEtcd::holds(const json::object& compare) const {
    const auto found = state_.keys.find(bytes(compare, "key"));
    const bool there = found != state_.keys.end();
    if (text(compare, "target") == "VALUE") {
        return there && found->second.value == bytes(compare, "value");
    }
    return (there ? found->second.mod_revision : 0) == number(compare, "mod_revision");
}

json::object FakeEtcd::read(const json::object& range) const {
    json::object out{{"header", header()}};
    json::array keys;
    const std::string begin = bytes(range, "key");
    const std::string end = range.contains("range_end") ? bytes(range, "range_end") : begin + '\0';
    const uint64_t keys_max = number(range, "limit");
    std::vector<std::pair<std::string, Value>> found;
    for (auto it = state_.keys.lower_bound(begin); it != state_.keys.end() && it->first < end;
         ++it) {
        if (it->second.mod_revision >= number(range, "min_mod_revision")) found.push_back(*it);
    }
    if (text(range, "sort_order") == "DESCEND") std::reverse(found.begin(), found.end());
    if (keys_max != 0 && found.size() > keys_max) {
        found.resize(keys_max);
        out["more"] = true;
    }
    for (const auto& [key, value] : found) {
        keys.push_back(json::object{{"key", base64(key)},
                                    {"value", base64(value.value)},
                                    {"mod_revision", std::to_string(value.mod_revision)}});
    }
    if (!keys.empty()) out["kvs"] = std::move(keys);
    return out;
}

std::string FakeEtcd::range(const json::object& body) {
    return json::serialize(read(body));
}

std::string FakeEtcd::transaction(const json::object& body) {
    const json::array& puts = body.at("success").as_array();
    EXPECT_LE(body.at("compare").as_array().size(), 128u);
    EXPECT_LE(puts.size(), 128u);
    EXPECT_LE(body.at("failure").as_array().size(), 128u);
    bool all = true;
    for (const json::value& compare : body.at("compare").as_array()) {
        all = all && holds(compare.as_object());
    }
    json::array responses;
    if (all) {
        if (!puts.empty()) ++state_.revision;
        for (const json::value& put : puts) {
            const json::object& what = put.as_object().at("request_put").as_object();
            Value& value = state_.keys[bytes(what, "key")];
            EXPECT_NE(value.mod_revision, state_.revision) << "a key is put twice";
            value = {bytes(what, "value"), state_.revision};
            responses.push_back(json::object{{"response_put", json::object()}});
        }
    } else {
        for (const json::value& get : body.at("failure").as_array()) {
            const json::object& what = get.as_object().at("request_range").as_object();
            responses.push_back(json::object{{"response_range", read(what)}});
        }
    }
    json::object out{{"header", header()}};
    if (all) out["succeeded"] = true;
    if (!responses.empty()) out["responses"] = std::move(responses);
    return json::serialize(out);
}

}  // namespace antipode::tiebreaker::testing
