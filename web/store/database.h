// A small shell around SQLite, for what the web daemon must remember over a restart: accounts,
// sessions, the audit log, events, tasks.
//
// Threads: the web thread only; the command line opens the same file in a process of its own (WAL).
// INVARIANTS: every value is bound, never pasted into SQL; a failure names the file and what SQLite
// said.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace antipode::web {

using SqlValue = std::variant<std::nullptr_t, int64_t, double, std::string>;

class SqlRow {
  public:
    explicit SqlRow(sqlite3_stmt* statement) : statement_(statement) {}
    int64_t number(int column) const;
    double real(int column) const;
    std::string text(int column) const;  // NULL = empty
    bool is_null(int column) const;

  private:
    sqlite3_stmt* statement_;
};

class Database {
  public:
    // ":memory:" keeps nothing. Creates the file (mode 0600) and brings its tables up to date.
    static Result<std::unique_ptr<Database>> open(const std::string& path);
    ~Database();
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    Result<> run(std::string_view sql, const std::vector<SqlValue>& values = {});
    Result<> query(std::string_view sql, const std::vector<SqlValue>& values,
                   const std::function<void(const SqlRow&)>& each);
    int64_t last_row_id() const;
    int64_t changed_rows() const;  // by the last run()
    // Runs `work` in a transaction: all of it, or nothing. May be nested.
    Result<> transaction(const std::function<Result<>()>& work);

  private:
    Database(sqlite3* handle, std::string path) : handle_(handle), path_(std::move(path)) {}
    Result<> migrate();
    Result<> execute(const char* script);
    Error failure(std::string_view what) const;

    sqlite3* handle_;
    const std::string path_;
    int depth_ = 0;  // of transactions
};

}  // namespace antipode::web
