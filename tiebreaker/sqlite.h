// Database, Statement: SQLite with owners and Results. Only what the store uses.
//
// Threads: one at a time for each Database. Errors name the file, and what SQLite says of it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <sqlite3.h>
#include <string>
#include <string_view>

#include "common/base/freer.h"
#include "common/base/result.h"

namespace antipode::tiebreaker {

class Database;

// A prepared statement. Text and blobs that are bound must live until the next reset.
class Statement {
  public:
    void bind(int index, int64_t value) { sqlite3_bind_int64(statement_.get(), index, value); }
    void bind(int index, std::string_view text) {
        sqlite3_bind_text(statement_.get(), index, text.data(), static_cast<int>(text.size()),
                          SQLITE_STATIC);
    }
    void bind_blob(int index, std::string_view bytes) {
        sqlite3_bind_blob(statement_.get(), index, bytes.data(), static_cast<int>(bytes.size()),
                          SQLITE_STATIC);
    }
    void bind_null(int index) { sqlite3_bind_null(statement_.get(), index); }

    enum class Row : uint8_t { none = 1, there };
    Result<Row> step();
    Result<> run();  // step and reset; for statements without rows
    void reset() { sqlite3_reset(statement_.get()); }

    int64_t integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
    bool is_null(int column) const {
        return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
    }
    std::string_view bytes(int column) const;  // of text or a blob; until the next step

  private:
    friend class Database;
    Statement(sqlite3_stmt* statement, const std::string& path)
        : statement_(statement), path_(path) {}
    std::unique_ptr<sqlite3_stmt, Freer<sqlite3_finalize>> statement_;
    std::string path_;
};

class Database {
  public:
    enum class Open : uint8_t { create = 1, write, read };
    static Result<Database> open(const std::string& path, Open how);

    Result<> run(const char* sql);
    Result<Statement> prepare(std::string_view sql);
    sqlite3* handle() { return database_.get(); }
    const std::string& path() const { return path_; }
    // The error that SQLite has for its last call.
    Error error() const;

  private:
    Database(sqlite3* database, std::string path) : database_(database), path_(std::move(path)) {}
    std::unique_ptr<sqlite3, Freer<sqlite3_close_v2>> database_;
    std::string path_;
};

}  // namespace antipode::tiebreaker
