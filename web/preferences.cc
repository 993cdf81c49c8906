#include "web/preferences.h"

#include <charconv>

namespace antipode::web {
namespace {

void read_number(const std::string& text, int64_t& value) {
    int64_t read = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read);
    if (error == std::errc() && end == text.data() + text.size() && read > 0) value = read;
}

}  // namespace

Result<> Preferences::load() {
    return database_.query("SELECT name, value FROM settings", {}, [&](const SqlRow& row) {
        const std::string name = row.text(0);
        if (name == "session_idle_minutes") read_number(row.text(1), values_.session_idle_minutes);
        if (name == "session_hours") read_number(row.text(1), values_.session_hours);
        if (name == "login_banner") values_.login_banner = row.text(1);
    });
}

Result<> Preferences::store(const PreferenceValues& values) {
    auto stored = database_.transaction([&]() -> Result<> {
        const auto put = [&](std::string name, std::string value) {
            return database_.run("INSERT OR REPLACE INTO settings (name, value) VALUES (?,?)",
                                 {std::move(name), std::move(value)});
        };
        FT_TRY_VOID(put("session_idle_minutes", std::to_string(values.session_idle_minutes)));
        FT_TRY_VOID(put("session_hours", std::to_string(values.session_hours)));
        return put("login_banner", values.login_banner);
    });
    if (stored) values_ = values;
    return stored;
}

control::json::value to_json(const PreferenceValues& values) {
    control::json::object out;
    out["session_idle_minutes"] = values.session_idle_minutes;
    out["session_hours"] = values.session_hours;
    out["login_banner"] = values.login_banner;
    return out;
}

}  // namespace antipode::web
