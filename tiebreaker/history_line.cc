#include "tiebreaker/history_line.h"

#include <boost/endian/conversion.hpp>
#include <cstring>
#include <openssl/evp.h>

#include "common/base/check.h"
#include "common/wire/arbiter_frames.h"

namespace antipode::tiebreaker {
namespace {

constexpr const char* kColumns =
    "sequence, at_ms, pair, by, request, kind, reason, epoch, unlisted, record, chain";

// A row as it stands in the table.
struct Row {
    int64_t sequence = 0;
    int64_t at_ms = 0;
    std::string pair, by, request;
    int64_t kind = 0, reason = 0, epoch = 0, unlisted = 0;
    std::string record;  // empty: NULL
};

// Every field in a fixed order: numbers in 8 bytes, little endian; texts behind their length.
std::string encoded(const Row& row) {
    std::string text;
    const auto number = [&](int64_t value) {
        const uint64_t little = boost::endian::native_to_little(static_cast<uint64_t>(value));
        text.append(reinterpret_cast<const char*>(&little), sizeof(little));
    };
    const auto bytes = [&](const std::string& value) {
        number(static_cast<int64_t>(value.size()));
        text += value;
    };
    number(row.sequence);
    number(row.at_ms);
    for (const auto* value : {&row.pair, &row.by, &row.request}) bytes(*value);
    for (const int64_t value : {row.kind, row.reason, row.epoch, row.unlisted}) number(value);
    bytes(row.record);
    return text;
}

// The reverse of encoded().
class RowReader {
  public:
    explicit RowReader(std::string_view bytes) : rest_(bytes) {}
    Result<Row> read() {
        Row row;
        for (int64_t* out : {&row.sequence, &row.at_ms}) FT_TRY_VOID(number(*out));
        for (std::string* out : {&row.pair, &row.by, &row.request}) FT_TRY_VOID(bytes(*out));
        for (int64_t* out : {&row.kind, &row.reason, &row.epoch, &row.unlisted}) {
            FT_TRY_VOID(number(*out));
        }
        FT_TRY_VOID(bytes(row.record));
        if (!rest_.empty()) return fail(Errc::corrupt, "has {} bytes too many", rest_.size());
        return row;
    }

  private:
    Result<> number(int64_t& out) {
        uint64_t little = 0;
        if (rest_.size() < sizeof(little)) return fail(Errc::corrupt, "is cut short");
        std::memcpy(&little, rest_.data(), sizeof(little));
        out = static_cast<int64_t>(boost::endian::little_to_native(little));
        rest_.remove_prefix(sizeof(little));
        return {};
    }
    Result<> bytes(std::string& out) {
        int64_t size = 0;
        FT_TRY_VOID(number(size));
        if (size < 0 || static_cast<uint64_t>(size) > rest_.size()) {
            return fail(Errc::corrupt, "is cut short");
        }
        out = rest_.substr(0, static_cast<size_t>(size));
        rest_.remove_prefix(static_cast<size_t>(size));
        return {};
    }
    std::string_view rest_;
};

Row row_of(const Decided& line, uint64_t sequence) {
    Row row;
    row.sequence = static_cast<int64_t>(sequence);
    row.at_ms = line.at.time_since_epoch().count();
    row.pair = line.request.pair.view();
    row.by = line.by;
    wire::encode(wire::ArbiterFrame{0, line.request.store, line.request}, row.request);
    row.kind = static_cast<int64_t>(line.kind);
    row.reason = static_cast<int64_t>(line.reason);
    row.epoch = static_cast<int64_t>(line.epoch.value());
    row.unlisted = static_cast<int64_t>(line.unlisted);
    if (line.record) row.record = wire::encode_record(*line.record);
    return row;
}

Row row_of(const Statement& from) {
    Row row;
    row.sequence = from.integer(0);
    row.at_ms = from.integer(1);
    row.pair = from.bytes(2);
    row.by = from.bytes(3);
    row.request = from.bytes(4);
    row.kind = from.integer(5);
    row.reason = from.integer(6);
    row.epoch = from.integer(7);
    row.unlisted = from.integer(8);
    if (!from.is_null(9)) row.record = from.bytes(9);
    return row;
}

Result<Decided> decided_from(const Row& row) {
    Decided line;
    line.sequence = static_cast<uint64_t>(row.sequence);
    line.at = UnixTime(std::chrono::milliseconds(row.at_ms));
    line.by = row.by;
    FT_TRY(const wire::ArbiterFrame frame,
           wire::decode_arbiter_frame(std::as_bytes(std::span(row.request))));
    const auto* request = std::get_if<wire::Request>(&frame.body);
    if (request == nullptr || request->pair.view() != row.pair) {
        return fail(Errc::corrupt, "its request is none of pair {}", row.pair);
    }
    line.request = *request;
    if (row.kind < 1 || row.kind > static_cast<int64_t>(wire::AnswerKind::refused) ||
        row.reason < 1 || row.reason > static_cast<int64_t>(wire::RefusalReason::malformed)) {
        return fail(Errc::corrupt, "its answer is not known");
    }
    line.kind = static_cast<wire::AnswerKind>(row.kind);
    line.reason = static_cast<wire::RefusalReason>(row.reason);
    line.epoch = Epoch(static_cast<uint64_t>(row.epoch));
    line.unlisted = static_cast<uint64_t>(row.unlisted);
    if (!row.record.empty()) {
        FT_TRY(line.record, wire::decode_record(std::as_bytes(std::span(row.record))));
    }
    return line;
}

}  // namespace

std::string chain_after(const std::string& chain, std::string_view line) {
    std::string text = chain;
    text += line;
    std::string digest(32, '\0');
    unsigned length = 0;
    FT_CHECK(EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(digest.data()),
                        &length, EVP_sha256(), nullptr) == 1 &&
                 length == digest.size(),
             "SHA-256");
    return digest;
}

std::string encode_history_line(const Decided& line, uint64_t sequence) {
    return encoded(row_of(line, sequence));
}

Result<Decided> decode_history_line(std::string_view bytes) {
    FT_TRY(const Row row, RowReader(bytes).read());
    return decided_from(row);
}

Result<HistoryEnd> last_history_line(Database& database) {
    FT_TRY(Statement last,
           database.prepare("SELECT sequence, chain FROM history ORDER BY sequence DESC LIMIT 1"));
    FT_TRY(const Statement::Row row, last.step());
    if (row == Statement::Row::none) return HistoryEnd{};
    HistoryEnd end{static_cast<uint64_t>(last.integer(0)), std::string(last.bytes(1))};
    if (end.chain.size() != HistoryEnd{}.chain.size()) {
        return fail(Errc::corrupt, "database {}: history line {}: its chain has {} bytes",
                    database.path(), end.sequence, end.chain.size());
    }
    return end;
}

Result<Statement> prepare_append(Database& database) {
    return database.prepare(
        fmt::format("INSERT INTO history ({}) "
                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                    kColumns));
}

Result<> append_history_line(Statement& insert, const Decided& line, HistoryEnd& end) {
    const Row row = row_of(line, end.sequence + 1);
    std::string chain = chain_after(end.chain, encoded(row));
    insert.bind(1, row.sequence);
    insert.bind(2, row.at_ms);
    insert.bind(3, row.pair);
    insert.bind(4, row.by);
    insert.bind_blob(5, row.request);
    insert.bind(6, row.kind);
    insert.bind(7, row.reason);
    insert.bind(8, row.epoch);
    insert.bind(9, row.unlisted);
    if (row.record.empty()) {
        insert.bind_null(10);
    } else {
        insert.bind_blob(10, row.record);
    }
    insert.bind_blob(11, chain);
    FT_TRY_VOID(insert.run());
    end.sequence += 1;
    end.chain = std::move(chain);
    return {};
}

Result<std::vector<Decided>> read_history(Database& database, const Name& pair, size_t lines_max) {
    FT_TRY(Statement lines,
           database.prepare(fmt::format("SELECT {} FROM history WHERE ?1 = '' OR pair = ?1 "
                                        "ORDER BY sequence DESC LIMIT ?2",
                                        kColumns)));
    lines.bind(1, pair.view());
    lines.bind(2, static_cast<int64_t>(lines_max));
    std::vector<Decided> out;
    while (true) {
        FT_TRY(const Statement::Row row, lines.step());
        if (row == Statement::Row::none) break;
        auto line = decided_from(row_of(lines));
        if (!line) {
            return fail(std::move(line).error().within(
                fmt::format("database {}: history line {}", database.path(), lines.integer(0))));
        }
        out.push_back(std::move(*line));
    }
    std::reverse(out.begin(), out.end());
    return out;
}

void HistoryCheck::found(std::string_view what) {
    out_.findings.push_back(fmt::format("history line {}: {}", end_.sequence, what));
}

void HistoryCheck::add(std::string_view line) {
    ++out_.history_lines;
    const uint64_t expected = end_.sequence + 1;
    const auto row = RowReader(line).read();
    end_.sequence = row ? static_cast<uint64_t>(row->sequence) : expected;
    if (end_.sequence != expected) {
        found(fmt::format("lines are missing behind line {}", expected - 1));
    }
    end_.chain = chain_after(end_.chain, line);
    const auto decided = row ? decided_from(*row) : Result<Decided>(fail(row.error()));
    if (!decided) found(decided.error().context);
    if (row && !row->record.empty()) records_[row->pair] = row->record;
    if (!row || row->by != kTakenOutBy) return;
    uint64_t& taken_out = taken_out_[row->pair];
    if (static_cast<uint64_t>(row->unlisted) <= taken_out) found("takes nothing out");
    taken_out = static_cast<uint64_t>(row->unlisted);
}

void HistoryCheck::skip(uint64_t last, std::string_view chain) {
    out_.lines_taken_out += last - end_.sequence;
    end_.sequence = last;
    end_.chain = chain;
}

uint64_t HistoryCheck::said_to_be_taken_out() const {
    uint64_t sum = 0;
    for (const auto& [pair, count] : taken_out_) sum += count;
    return sum;
}

void HistoryCheck::expect_chain(std::string_view chain) {
    if (end_.chain == chain) return;
    found("was changed, or the line before it was");
    end_.chain = chain;  // so that one change is one finding
}

namespace {

struct Run {
    uint64_t last = 0;
    std::string chain;
};
using Runs = std::map<uint64_t, Run>;  // of lines that were taken out, by the first

Result<Runs> taken_out_runs(Database& database) {
    Runs out;
    FT_TRY(Statement table, database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'pruned'"));
    FT_TRY(const Statement::Row there, table.step());
    if (there == Statement::Row::none) return out;  // of format 1
    FT_TRY(Statement runs, database.prepare("SELECT first, last, chain FROM pruned"));
    while (true) {
        FT_TRY(const Statement::Row row, runs.step());
        if (row == Statement::Row::none) return out;
        out[static_cast<uint64_t>(runs.integer(0))] =
            Run{static_cast<uint64_t>(runs.integer(1)), std::string(runs.bytes(2))};
    }
}

// Over the runs that begin behind the last line.
void skip_runs(Runs& runs, HistoryCheck& check) {
    for (auto run = runs.find(check.end().sequence + 1);
         run != runs.end() && run->second.last >= run->first;
         run = runs.find(check.end().sequence + 1)) {
        check.skip(run->second.last, run->second.chain);
        runs.erase(run);
    }
}

}  // namespace

Result<LastRecords> verify_history(Database& database, Verification& out) {
    FT_TRY(Runs runs, taken_out_runs(database));
    FT_TRY(Statement lines,
           database.prepare(fmt::format("SELECT {} FROM history ORDER BY sequence", kColumns)));
    HistoryCheck check(out);
    while (!check.full()) {
        FT_TRY(const Statement::Row there, lines.step());
        if (there == Statement::Row::none) break;
        skip_runs(runs, check);
        check.add(encoded(row_of(lines)));
        check.expect_chain(lines.bytes(10));
    }
    if (check.full()) {
        out.findings.emplace_back("history: more findings are not listed");
        return check.records();
    }
    for (const auto& [first, run] : runs) {
        out.findings.push_back(
            fmt::format("history: lines {} to {} are said to be taken out", first, run.last));
    }
    if (out.lines_taken_out != check.said_to_be_taken_out()) {
        out.findings.push_back(fmt::format("history: {} lines are taken out, its lines say {}",
                                           out.lines_taken_out, check.said_to_be_taken_out()));
    }
    return check.records();
}

void check_pair(const std::string& name, const std::string& bytes, const LastRecords& last,
                Verification& out) {
    const auto found = [&](std::string_view what) {
        out.findings.push_back(fmt::format("pair {}: {}", name, what));
    };
    const auto record = wire::decode_record(std::as_bytes(std::span(bytes)));
    if (!record) return found(record.error().context);
    if (record->pair.view() != name) found("its record is of another pair");
    if (const char* rule = invalid(*record)) found(rule);
    const auto listed = last.find(name);
    if (listed == last.end()) {
        found("history does not know it");
    } else if (listed->second != bytes) {
        found("its record is not the last one in history");
    }
}

Decided remark(UnixTime at, std::string_view by, const Name& pair, Epoch epoch) {
    Decided line;
    line.at = at;
    line.by = by;
    line.request.kind = wire::RequestKind::query;
    line.request.pair = pair;
    line.kind = wire::AnswerKind::record;
    line.reason = wire::RefusalReason::none;
    line.epoch = epoch;
    return line;
}

}  // namespace antipode::tiebreaker
