// What is said to etcd: transactions and ranges of its v3 API, as values, and their JSON (the
// gateway's: keys and values in base64, 64-bit numbers as text).
//
// Threads: pure. What etcd answers is not trusted: its shape is checked, and an error says what is
// missing. Source: etcd 3.4, api/etcdserverpb/rpc.proto.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace antipode::tiebreaker::etcd {

struct Header {
    uint64_t cluster_id = 0;
    uint64_t revision = 0;  // of the whole store; rises with each transaction that writes
};

struct KeyValue {
    std::string key;
    std::string value;
    uint64_t mod_revision = 0;  // the transaction that wrote it last; 0: absent
    bool there() const { return mod_revision != 0; }
};

// "The key was last written in this transaction (0: is absent) and, if named, has this value."
struct Compare {
    std::string key;
    uint64_t mod_revision = 0;
    std::optional<std::string> value;
};

struct Put {
    std::string key;
    std::string value;
};

// If all compares hold, all puts happen; otherwise the keys of `otherwise` are read. All at once.
struct Transaction {
    std::vector<Compare> compares;
    std::vector<Put> puts;
    std::vector<std::string> otherwise;
};

struct TransactionAnswer {
    Header header;  // its revision is that of the puts, if they happened
    bool succeeded = false;
    std::vector<KeyValue> read;  // of `otherwise`, in its order; absent ones have mod_revision 0
};

struct Range {
    std::string key;
    std::string end;  // empty: this key only; else up to here, not included
    uint64_t keys_max = 0;
    uint64_t revision = 0;       // 0: now
    uint64_t written_since = 0;  // 0: any
    bool newest_first = false;   // by key, descending
};

struct RangeAnswer {
    Header header;
    std::vector<KeyValue> keys;
    bool more = false;
};

std::string encode(const Transaction& transaction);
Result<TransactionAnswer> decode_transaction(std::string_view json, const Transaction& asked);
std::string encode(const Range& range);
Result<RangeAnswer> decode_range(std::string_view json);

// What an answer with another status than 200 says: etcd's code and message.
struct Refusal {
    int code = 0;  // of gRPC; 0: it says none
    std::string message;
};
Refusal decode_refusal(std::string_view json);

// Of a member's status: the bytes of its database, which etcd ends writing at (2 GB, unless it is
// told otherwise).
Result<uint64_t> decode_size(std::string_view json);

// The first key behind all keys that begin with `prefix`.
std::string end_of(std::string prefix);

}  // namespace antipode::tiebreaker::etcd
