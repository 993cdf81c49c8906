// The tiebreaker's database as a file: making it, checking it, copying it and putting a copy back.
//
// Threads: that of the Database. See sqlite_store.h for the life of the file.
#pragma once

#include <string>

#include "tiebreaker/sqlite.h"
#include "tiebreaker/store.h"

namespace antipode::tiebreaker {

// Of every connection that writes: a commit is durable when COMMIT returns.
extern const char* const kPragmas;

Result<> make_database(const std::string& path, wire::StoreIdentity identity);
// Its structure, its version and its identity.
Result<wire::StoreIdentity> check_database(Database& database);
// From an older format to the present one.
Result<> upgrade_database(Database& database);
// That the file is the one it was made as, not a copy that was put back.
Result<> check_file_is_original(Database& database);
Result<Verification> verify_database(Database& database);
// A consistent copy, beside writers; there whole or not at all.
Result<> copy_database(Database& database, const std::string& path);
Result<> restore_database(const std::string& from, const std::string& path,
                          wire::StoreIdentity identity);

}  // namespace antipode::tiebreaker
