// A line of history in SQLite: its encoding, its chain, reading and verifying.
//
// chain(n) = SHA-256(chain(n-1) || every field of line n); the first line's predecessor is 32 zero
// bytes. So a line that was changed, taken out or put in is found by verify_history().
//
// Threads: that of the Database.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tiebreaker/sqlite.h"
#include "tiebreaker/store.h"

namespace antipode::tiebreaker {

// Where history ends: what the next line is chained to.
struct HistoryEnd {
    uint64_t sequence = 0;
    std::string chain = std::string(32, '\0');
};

Result<HistoryEnd> last_history_line(Database& database);
// Moves `end` behind the new line.
Result<> append_history_line(Statement& insert, const Decided& line, HistoryEnd& end);
Result<std::vector<Decided>> read_history(Database& database, const Name& pair, size_t lines_max);
// Follows the chain; returns each pair's last record, encoded, by name.
Result<std::map<std::string, std::string>> verify_history(Database& database, Verification& out);

}  // namespace antipode::tiebreaker
