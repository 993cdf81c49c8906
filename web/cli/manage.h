// Accounts, settings, hooks and replicated disks, on the command line: what is neither a pair's
// action nor a drill.
//
// Threads: one; it waits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "web/cli/client.h"

namespace antipode::web {

struct UserLine {
    std::string name;
    std::string role = "viewer";
    bool json = false;
};
Result<> add_user(CliClient& client, const UserLine& line);  // asks for a password
Result<> set_role(CliClient& client, const UserLine& line);
Result<> set_password(CliClient& client, const UserLine& line);  // asks for one
enum class Login { disabled = 1, enabled };
Result<> set_login(CliClient& client, const UserLine& line, Login login);
Result<> remove_user(CliClient& client, const UserLine& line);

struct SettingsLine {
    std::optional<int64_t> idle_minutes;
    std::optional<int64_t> hours;
    std::optional<std::string> banner;
    bool json = false;
};
// Changes what is given; shows all of them.
Result<> change_settings(CliClient& client, const SettingsLine& line);

// Fails if the hook did.
enum class Form { table = 1, json };
Result<> test_hook(CliClient& client, const std::string& name, Form form);

struct DiskLine {
    std::string group;
    std::string action;
    std::string disk;
    std::string mode;
    std::string confirm;
    std::string note;
    std::optional<int64_t> first;
    std::optional<int64_t> count;
    std::optional<int64_t> bytes_per_second;
    bool force = false;
    bool check = false;
    bool json = false;
};
// One group, or all: states, reasons, progress.
Result<> show_replicated(CliClient& client, const DiskLine& line);
Result<> replicated_events(CliClient& client, const DiskLine& line);
// Says first what would be ordered, and wants what has to be typed in `confirm`.
Result<> order_replicated(CliClient& client, const DiskLine& line);

}  // namespace antipode::web
