#include "tiebreaker/history_limit.h"

#include <algorithm>
#include <set>

#include "common/base/check.h"

namespace antipode::tiebreaker {
namespace {

// So many beyond the limit gather before they are taken out together.
size_t slack_of(size_t lines_max) {
    return std::max<size_t>(1, lines_max / 8);
}

}  // namespace

struct HistoryLimit::Statements {
    Statement chain;
    Statement run_before;
    Statement put_run;
    Statement drop_run;
    Statement drop_line;
};

HistoryLimit::HistoryLimit() = default;
HistoryLimit::~HistoryLimit() = default;

Decided HistoryLimit::line_of(const Added& last, uint64_t taken_out) {
    Decided line = remark(last.at, kTakenOutBy, last.pair, last.epoch);
    line.unlisted = taken_out;
    return line;
}

Result<> HistoryLimit::prepare(Database& database) {
    FT_TRY(Statement chain, database.prepare("SELECT chain FROM history WHERE sequence = ?1"));
    FT_TRY(Statement run_before, database.prepare("SELECT first, last, chain FROM pruned "
                                                  "WHERE first <= ?1 ORDER BY first DESC LIMIT 1"));
    FT_TRY(Statement put_run,
           database.prepare("INSERT OR REPLACE INTO pruned (first, last, chain) VALUES (?1, ?2, "
                            "?3)"));
    FT_TRY(Statement drop_run, database.prepare("DELETE FROM pruned WHERE first = ?1"));
    FT_TRY(Statement drop_line, database.prepare("DELETE FROM history WHERE sequence = ?1"));
    statements_.reset(new Statements{std::move(chain), std::move(run_before), std::move(put_run),
                                     std::move(drop_run), std::move(drop_line)});
    return {};
}

Result<> HistoryLimit::load(Database& database) {
    pairs_.clear();
    FT_TRY(Statement all, database.prepare("SELECT sequence, pair, record IS NULL, by, unlisted "
                                           "FROM history ORDER BY sequence"));
    while (true) {
        FT_TRY(const Statement::Row row, all.step());
        if (row == Statement::Row::none) return {};
        Lines& lines = pairs_[std::string(all.bytes(1))];
        auto& list = all.integer(2) == 0 ? lines.changes : lines.others;
        list.push_back(static_cast<uint64_t>(all.integer(0)));
        if (all.bytes(3) == kTakenOutBy) lines.taken_out = static_cast<uint64_t>(all.integer(4));
    }
}

void HistoryLimit::added(const Decided& line, uint64_t sequence) {
    const Name& pair = line.request.pair;
    Lines& lines = pairs_[std::string(pair.view())];
    (line.record ? lines.changes : lines.others).push_back(sequence);
    added_.push_back({pair, line.record.has_value(), line.at, line.epoch});
}

Result<> HistoryLimit::prune(Statement& append, HistoryEnd& end) {
    const std::vector<Added> before = added_;  // grows by the lines that say what was taken out
    std::set<Name> seen;
    for (auto last = before.rbegin(); last != before.rend(); ++last) {
        if (!seen.insert(last->pair).second) continue;
        Taken taken{std::string(last->pair.view()), 0, 0};
        const Lines& lines = pairs_.at(taken.pair);
        FT_TRY(taken.changes, take_out_oldest(lines.changes, limits_.changes_max));
        FT_TRY(taken.others, take_out_oldest(lines.others, limits_.others_max));
        const size_t count = taken.changes + taken.others;
        if (count == 0) continue;
        taken_.push_back(taken);
        const Decided line = line_of(*last, lines.taken_out + count);
        FT_TRY_VOID(append_history_line(append, line, end));
        HistoryLimit::added(line, end.sequence);
    }
    return {};
}

// How many of them were taken out: none, or so many that the limit is kept with room to spare.
Result<size_t> HistoryLimit::take_out_oldest(const std::vector<uint64_t>& lines, size_t lines_max) {
    if (lines.size() <= lines_max + slack_of(lines_max)) return size_t{0};
    const size_t count = lines.size() - lines_max;
    for (size_t i = 0; i < count; ++i) FT_TRY_VOID(take_out(lines[i]));
    return count;
}

// Widens or joins the runs of missing lines around it, then drops it: the trigger lets nothing go
// that no run names.
Result<> HistoryLimit::take_out(uint64_t sequence) {
    struct Run {
        int64_t first = 0;
        int64_t last = 0;
        std::string chain;
    };
    const auto number = static_cast<int64_t>(sequence);
    const auto run_at_or_before = [&](int64_t at) -> Result<std::optional<Run>> {
        Statement& find = statements_->run_before;
        find.bind(1, at);
        auto row = find.step();
        std::optional<Run> run;
        if (row && *row == Statement::Row::there) {
            run = Run{find.integer(0), find.integer(1), std::string(find.bytes(2))};
        }
        find.reset();
        if (!row) return fail(std::move(row).error());
        return run;
    };
    Statement& chain = statements_->chain;
    chain.bind(1, number);
    auto row = chain.step();
    Run run{number, number, {}};
    if (row && *row == Statement::Row::there) run.chain = chain.bytes(0);
    chain.reset();
    if (!row) return fail(std::move(row).error());
    if (run.chain.empty()) return fail(Errc::corrupt, "history line {}: is missing", sequence);
    FT_TRY(const std::optional<Run> before, run_at_or_before(number));
    if (before && before->last == number - 1) run.first = before->first;
    FT_TRY(const std::optional<Run> after, run_at_or_before(number + 1));
    if (after && after->first == number + 1) {
        run.last = after->last;
        run.chain = after->chain;
        statements_->drop_run.bind(1, after->first);
        FT_TRY_VOID(statements_->drop_run.run());
    }
    statements_->put_run.bind(1, run.first);
    statements_->put_run.bind(2, run.last);
    statements_->put_run.bind_blob(3, run.chain);
    FT_TRY_VOID(statements_->put_run.run());
    statements_->drop_line.bind(1, number);
    return statements_->drop_line.run();
}

size_t HistoryLimit::committed() {
    size_t count = 0;
    for (const Taken& taken : taken_) {
        Lines& lines = pairs_.at(taken.pair);
        lines.changes.erase(lines.changes.begin(),
                            lines.changes.begin() + static_cast<long>(taken.changes));
        lines.others.erase(lines.others.begin(),
                           lines.others.begin() + static_cast<long>(taken.others));
        lines.taken_out += taken.changes + taken.others;
        count += taken.changes + taken.others;
    }
    taken_.clear();
    added_.clear();
    return count;
}

void HistoryLimit::rolled_back() {
    for (const Added& line : added_) {
        Lines& lines = pairs_.at(std::string(line.pair.view()));
        (line.change ? lines.changes : lines.others).pop_back();
    }
    taken_.clear();
    added_.clear();
}

}  // namespace antipode::tiebreaker
