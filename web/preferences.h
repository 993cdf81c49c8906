// The settings that an administrator changes in the page, kept in the database; what needs a
// restart is in web.toml instead.
//
// Threads: the web thread only.
#pragma once

#include <cstdint>
#include <string>

#include "web/security/accounts.h"
#include "web/store/database.h"

namespace antipode::web {

struct PreferenceValues {
    int64_t session_idle_minutes = 60;
    int64_t session_hours = 12;
    std::string login_banner;  // shown above the login

    SessionLimits session_limits() const {
        return {session_idle_minutes * 60'000, session_hours * 3'600'000};
    }
};

class Preferences {
  public:
    explicit Preferences(Database& database) : database_(database) {}
    Result<> load();
    const PreferenceValues& values() const { return values_; }
    Result<> store(const PreferenceValues& values);

  private:
    Database& database_;
    PreferenceValues values_;
};

control::json::value to_json(const PreferenceValues& values);

}  // namespace antipode::web
