// What stands in etcd under the tiebreaker's prefix, and how it is encoded.
//
//     PREFIX store              JSON: format, identity and cluster in hexadecimal, and, once it may
//                               not be followed any more, "condemned" with the reason
//     PREFIX end                where history ends: sequence and chain of its last line, how many
//                               pairs there are, and the nonce of the transaction that wrote it
//     PREFIX pair/NAME          the pair's record, as on the wire
//     PREFIX history/SEQUENCE   the lines that one transaction added; SEQUENCE, in twenty digits,
//                               is that of the last one
//
// `end` is 68 bytes, little endian: magic "APEE", sequence (8), pairs (8), chain (32), nonce (16).
// It counts the pairs so that a key that somebody deleted is missed at start. History is
// magic "APEH", format (2), count (2), chain behind the last line (32), nonce (16), then each line
// as its length (4) and its bytes (history_line.h).
//
// Threads: pure. Decoding refuses what it does not know entirely.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/name.h"
#include "common/base/result.h"
#include "common/wire/arbiter_messages.h"

namespace antipode::tiebreaker::etcd {

class Keys {
  public:
    explicit Keys(std::string prefix) : prefix_(std::move(prefix)) {}
    const std::string& prefix() const { return prefix_; }
    std::string store() const { return prefix_ + "store"; }
    std::string end() const { return prefix_ + "end"; }
    std::string pairs() const { return prefix_ + "pair/"; }
    std::string pair(const Name& name) const { return pairs() + std::string(name.view()); }
    std::string histories() const { return prefix_ + "history/"; }
    std::string history(uint64_t last_sequence) const;

  private:
    std::string prefix_;
};
// Begins and ends with '/', at most 64 letters, digits and "-_./".
Result<> check_prefix(const std::string& prefix);

struct StoreInfo {
    wire::StoreIdentity identity;
    uint64_t cluster_id = 0;  // of the etcd cluster that it was made in
    std::string condemned;    // empty: it may be followed
    friend bool operator==(const StoreInfo&, const StoreInfo&) = default;
};
std::string encode(const StoreInfo& info);
Result<StoreInfo> decode_store(std::string_view bytes);

struct End {
    uint64_t sequence = 0;
    uint64_t pairs = 0;
    std::string chain = std::string(32, '\0');
    std::string nonce = std::string(16, '\0');
    friend bool operator==(const End&, const End&) = default;
};
std::string encode(const End& end);
Result<End> decode_end(std::string_view bytes);

struct Lines {
    std::string chain = std::string(32, '\0');
    std::string nonce = std::string(16, '\0');
    std::vector<std::string> lines;
    friend bool operator==(const Lines&, const Lines&) = default;
};
std::string encode(const Lines& lines);
Result<Lines> decode_lines(std::string_view bytes);

}  // namespace antipode::tiebreaker::etcd
