// The audit log: who did, or tried, what, from where, and how it ended. Every change through the
// web daemon is written here before it is answered; what cannot be written down is not done.
//
// Threads: the web thread only.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "web/store/database.h"

namespace antipode::web {

struct AuditEntry {
    int64_t id = 0;
    int64_t time_unix_ms = 0;
    std::string actor;
    std::string via;      // session, token, command line
    std::string remote;   // address
    std::string action;   // "login", "pair.switchover", "user.add"
    std::string target;   // what it was done to
    std::string outcome;  // "ok", "refused", "failed"
    std::string detail;
};

boost::json::object to_json(const AuditEntry& entry);

struct AuditFilter {
    int64_t before = 0;  // id; 0 = from the newest
    int64_t limit = 100;
};

class AuditLog {
  public:
    static constexpr int64_t kKept = 200'000;

    explicit AuditLog(Database& database) : database_(database) {}
    Result<> add(const AuditEntry& entry);
    // Newest first.
    Result<std::vector<AuditEntry>> find(const AuditFilter& filter) const;

  private:
    Database& database_;
};

}  // namespace antipode::web
