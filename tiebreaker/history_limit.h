// HistoryLimit: how many lines of history the SQLite store keeps of each pair, and the taking out
// of older ones.
//
// A site that repeats decisions must not fill the disk that all pairs decide on. What changed the
// record and what did not (denials, refusals) are counted apart, so that neither pushes the other
// out, and one pair's lines never push out another's. The line of a pair's present record is the
// newest of its kind and so is always kept.
//
// What is taken out leaves two traces. The table `pruned` has, for each run of missing lines, its
// first and last sequence and the chain behind the last one, so that verify can follow the chain
// across it. And the pair gets a line `by` kTakenOutBy in the chain itself, whose `unlisted` counts
// the pair's lines that were taken out so far: verify compares the sum of these with `pruned`, so a
// run that somebody else put there is found.
//
// Threads: that of the Database. INVARIANTS: lists are as in the database after committed() or
// rolled_back(); nothing is taken out but in the transaction that says so.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tiebreaker/history_line.h"

namespace antipode::tiebreaker {

struct HistoryLimits {
    size_t changes_max = 1000;  // lines that changed the record, of one pair
    size_t others_max = 250;    // lines that did not
};

class HistoryLimit {
  public:
    HistoryLimit();
    ~HistoryLimit();

    Result<> load(Database& database);
    Result<> prepare(Database& database);
    // The line that was appended last, in the transaction under way.
    void added(const Decided& line, uint64_t sequence);
    // Takes out what is over the limits of the pairs that lines were added to, through `append`.
    Result<> prune(Statement& append, HistoryEnd& end);
    size_t committed();  // how many lines were taken out
    void rolled_back();
    void set_limits(const HistoryLimits& limits) { limits_ = limits; }

  private:
    struct Lines {
        std::vector<uint64_t> changes;  // sequences, rising
        std::vector<uint64_t> others;
        uint64_t taken_out = 0;  // ever
    };
    struct Taken {
        std::string pair;
        size_t changes = 0;
        size_t others = 0;
    };
    struct Added {
        Name pair;
        bool change = false;
        UnixTime at{};
        Epoch epoch;
    };
    struct Statements;

    static Decided line_of(const Added& last, uint64_t taken_out);
    Result<size_t> take_out_oldest(const std::vector<uint64_t>& lines, size_t lines_max);
    Result<> take_out(uint64_t sequence);

    HistoryLimits limits_;
    std::unordered_map<std::string, Lines> pairs_;
    std::vector<Added> added_;
    std::vector<Taken> taken_;
    std::unique_ptr<Statements> statements_;
};

}  // namespace antipode::tiebreaker
