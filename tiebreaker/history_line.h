// A line of history: its encoding and its chain, and reading and verifying it in SQLite.
//
// chain(n) = SHA-256(chain(n-1) || every field of line n); the first line's predecessor is 32 zero
// bytes. So a line that was changed, taken out or put in is found by verify_history(); what the
// limit has taken out (history_limit.h) is told from that.
//
// Threads: that of the Database; pure without one.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tiebreaker/sqlite.h"
#include "tiebreaker/store.h"

namespace antipode::tiebreaker {

// Who wrote a line that says how many older ones of its pair were taken out (history_limit.h).
inline constexpr std::string_view kTakenOutBy = "history limit";

// Where history ends: what the next line is chained to.
struct HistoryEnd {
    uint64_t sequence = 0;
    std::string chain = std::string(32, '\0');
};

// One line as bytes, the same for every store. Golden in tests/unit/tiebreaker.
std::string encode_history_line(const Decided& line, uint64_t sequence);
Result<Decided> decode_history_line(std::string_view bytes);
// The chain behind a line whose predecessor's chain is `chain`.
std::string chain_after(const std::string& chain, std::string_view line);

Result<HistoryEnd> last_history_line(Database& database);
// For append_history_line().
Result<Statement> prepare_append(Database& database);
// Moves `end` behind the new line.
Result<> append_history_line(Statement& insert, const Decided& line, HistoryEnd& end);
Result<std::vector<Decided>> read_history(Database& database, const Name& pair, size_t lines_max);
// Follows the chain; returns each pair's last record, encoded, by name.
using LastRecords = std::map<std::string, std::string>;
Result<LastRecords> verify_history(Database& database, Verification& out);

// Looks at lines in their order, in whatever store they are.
class HistoryCheck {
  public:
    static constexpr size_t kFindingsMax = 100;
    explicit HistoryCheck(Verification& out) : out_(out) {}
    void add(std::string_view line);
    // Lines up to `last` were taken out; the chain behind them is what the store says.
    void skip(uint64_t last, std::string_view chain);
    // What the store says the chain is behind the last line; goes on from there.
    void expect_chain(std::string_view chain);
    void found(std::string_view what);  // about the last line
    bool full() const { return out_.findings.size() >= kFindingsMax; }
    const HistoryEnd& end() const { return end_; }
    const LastRecords& records() const { return records_; }
    // Of all pairs, as their lines say.
    uint64_t said_to_be_taken_out() const;

  private:
    Verification& out_;
    HistoryEnd end_;
    LastRecords records_;
    std::map<std::string, uint64_t> taken_out_;  // by pair
};
// A pair's record as it stands, against the last one in history.
void check_pair(const std::string& name, const std::string& record, const LastRecords& last,
                Verification& out);

// A line that no request made: what is to be said of a pair while its record stands at `epoch`.
Decided remark(UnixTime at, std::string_view by, const Name& pair, Epoch epoch);

}  // namespace antipode::tiebreaker
