#include "tiebreaker/etcd/kv.h"

#include <boost/json.hpp>
#include <charconv>

#include "common/base/base64.h"

namespace antipode::tiebreaker::etcd {
namespace {

namespace json = boost::json;

json::value number(uint64_t value) {
    return json::value(std::to_string(value));
}

Failure wrong(std::string_view what) {
    return fail(Errc::protocol, "etcd's answer: {}", what);
}

Result<json::object> object_of(std::string_view text) {
    boost::system::error_code error;
    json::value value = json::parse(text, error);
    if (error || !value.is_object()) return wrong("is no JSON object");
    return std::move(value.as_object());
}

// The gateway leaves out what is zero, and writes 64-bit numbers as text.
Result<uint64_t> number_of(const json::object& from, std::string_view key) {
    const json::value* value = from.if_contains(key);
    if (value == nullptr) return uint64_t{0};
    const json::string* text = value->if_string();
    uint64_t out = 0;
    if (text == nullptr) return wrong(fmt::format("{} is no number in quotes", key));
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), out);
    if (error != std::errc() || end != text->data() + text->size()) {
        return wrong(fmt::format("{} is no number", key));
    }
    return out;
}

Result<std::string> bytes_of(const json::object& from, std::string_view key) {
    const json::value* value = from.if_contains(key);
    if (value == nullptr) return std::string();
    const json::string* text = value->if_string();
    if (text == nullptr) return wrong(fmt::format("{} is no text", key));
    auto bytes = from_base64(*text);
    if (!bytes) return wrong(bytes.error().context);
    return bytes;
}

Result<Header> header_of(const json::object& from) {
    const json::value* value = from.if_contains("header");
    if (value == nullptr || !value->is_object()) return wrong("has no header");
    Header header;
    FT_TRY(header.cluster_id, number_of(value->get_object(), "cluster_id"));
    FT_TRY(header.revision, number_of(value->get_object(), "revision"));
    if (header.cluster_id == 0 || header.revision == 0) return wrong("its header is incomplete");
    return header;
}

Result<std::vector<KeyValue>> keys_of(const json::object& from) {
    std::vector<KeyValue> out;
    const json::value* list = from.if_contains("kvs");
    if (list == nullptr) return out;
    if (!list->is_array()) return wrong("kvs is no list");
    for (const json::value& one : list->get_array()) {
        if (!one.is_object()) return wrong("a key is no object");
        KeyValue key;
        FT_TRY(key.key, bytes_of(one.get_object(), "key"));
        FT_TRY(key.value, bytes_of(one.get_object(), "value"));
        FT_TRY(key.mod_revision, number_of(one.get_object(), "mod_revision"));
        if (key.mod_revision == 0) return wrong("a key has no mod_revision");
        out.push_back(std::move(key));
    }
    return out;
}

Result<KeyValue> read_of(const json::value& response, const std::string& key) {
    const json::object* outer = response.if_object();
    const json::value* range = outer == nullptr ? nullptr : outer->if_contains("response_range");
    if (range == nullptr || !range->is_object()) return wrong("a read was not answered");
    FT_TRY(std::vector<KeyValue> keys, keys_of(range->get_object()));
    if (keys.empty()) return KeyValue{key, {}, 0};
    if (keys.size() != 1 || keys.front().key != key) return wrong("another key was read");
    return std::move(keys.front());
}

json::object range_json(const Range& range) {
    json::object out;
    out["key"] = base64(range.key);
    if (!range.end.empty()) out["range_end"] = base64(range.end);
    if (range.keys_max != 0) out["limit"] = number(range.keys_max);
    if (range.revision != 0) out["revision"] = number(range.revision);
    if (range.written_since != 0) out["min_mod_revision"] = number(range.written_since);
    if (range.newest_first) {
        out["sort_order"] = "DESCEND";
        out["sort_target"] = "KEY";
    }
    return out;
}

}  // namespace

std::string encode(const Transaction& transaction) {
    json::array compares;
    for (const Compare& compare : transaction.compares) {
        const std::string key = base64(compare.key);
        compares.push_back({{"target", "MOD"},
                            {"result", "EQUAL"},
                            {"key", key},
                            {"mod_revision", number(compare.mod_revision)}});
        if (!compare.value) continue;
        compares.push_back({{"target", "VALUE"},
                            {"result", "EQUAL"},
                            {"key", key},
                            {"value", base64(*compare.value)}});
    }
    json::array puts;
    for (const Put& put : transaction.puts) {
        json::object body{{"key", base64(put.key)}, {"value", base64(put.value)}};
        puts.push_back(json::object{{"request_put", std::move(body)}});
    }
    json::array reads;
    for (const std::string& key : transaction.otherwise) {
        json::object body{{"key", base64(key)}};
        reads.push_back(json::object{{"request_range", std::move(body)}});
    }
    json::object out;
    out["compare"] = std::move(compares);
    out["success"] = std::move(puts);
    out["failure"] = std::move(reads);
    return json::serialize(out);
}

Result<TransactionAnswer> decode_transaction(std::string_view text, const Transaction& asked) {
    FT_TRY(const json::object object, object_of(text));
    TransactionAnswer answer;
    FT_TRY(answer.header, header_of(object));
    if (const json::value* succeeded = object.if_contains("succeeded")) {
        if (!succeeded->is_bool()) return wrong("succeeded is no truth value");
        answer.succeeded = succeeded->get_bool();
    }
    const json::value* responses = object.if_contains("responses");
    const size_t count =
        responses != nullptr && responses->is_array() ? responses->get_array().size() : 0;
    const size_t expected = answer.succeeded ? asked.puts.size() : asked.otherwise.size();
    if (count != expected) {
        return wrong(fmt::format("{} responses, expected {}", count, expected));
    }
    if (answer.succeeded) return answer;
    for (size_t i = 0; i < count; ++i) {
        FT_TRY(KeyValue key, read_of(responses->get_array()[i], asked.otherwise[i]));
        answer.read.push_back(std::move(key));
    }
    return answer;
}

std::string encode(const Range& range) {
    return json::serialize(range_json(range));
}

Result<RangeAnswer> decode_range(std::string_view text) {
    FT_TRY(const json::object object, object_of(text));
    RangeAnswer answer;
    FT_TRY(answer.header, header_of(object));
    FT_TRY(answer.keys, keys_of(object));
    const json::value* more = object.if_contains("more");
    answer.more = more != nullptr && more->is_bool() && more->get_bool();
    return answer;
}

Result<uint64_t> decode_size(std::string_view text) {
    FT_TRY(const json::object object, object_of(text));
    FT_TRY(const uint64_t bytes, number_of(object, "dbSize"));
    if (bytes == 0) return wrong("a status without dbSize");
    return bytes;
}

Refusal decode_refusal(std::string_view text) {
    const auto object = object_of(text);
    Refusal out;
    if (!object) {
        out.message = "no reason is given";
        return out;
    }
    if (const json::value* code = object->if_contains("code"); code && code->is_int64()) {
        out.code = static_cast<int>(code->get_int64());
    }
    for (const char* key : {"message", "error"}) {
        const json::value* message = object->if_contains(key);
        if (message == nullptr || !message->is_string()) continue;
        out.message = std::string(message->get_string()).substr(0, 300);
        break;
    }
    return out;
}

std::string end_of(std::string prefix) {
    while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
    if (!prefix.empty()) prefix.back() = static_cast<char>(prefix.back() + 1);
    return prefix;
}

}  // namespace antipode::tiebreaker::etcd
