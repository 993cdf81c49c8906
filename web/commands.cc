#include "web/commands.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"
#include "web/pairing/vm_files.h"
#include "web/prompt.h"
#include "web/security/accounts.h"
#include "web/security/audit.h"
#include "web/security/secrets.h"

namespace antipode::web {
namespace {

Result<std::unique_ptr<Database>> open_store(const Settings& settings) {
    if (settings.state_directory.empty()) {
        return fail(Errc::invalid_argument,
                    "state.directory is not set: there is no place to keep users in");
    }
    return Database::open(database_path(settings));
}

Result<> note(Database& database, std::string action, const std::string& name) {
    AuditEntry entry;
    entry.time_unix_ms = unix_ms_now();
    entry.actor = fmt::format("uid {}", ::getuid());
    entry.via = "command line";
    entry.action = std::move(action);
    entry.target = name;
    entry.outcome = "ok";
    return AuditLog(database).add(entry);
}

}  // namespace

Result<> init_command(const Settings& settings) {
    namespace fs = std::filesystem;
    std::error_code error;
    if (!settings.state_directory.empty()) {
        fs::create_directories(settings.state_directory, error);
        if (error) {
            return fail(errno_error(error.value(), settings.state_directory));
        }
        FT_TRY(const auto database, open_store(settings));
        std::cout << database_path(settings) << ": ready\n";
    }
    if (!settings.tls) return {};
    FT_TRY_VOID(prepare_certificate(settings));
    FT_TRY_VOID(make_https(settings.https, settings.tls_least));
    std::cout << settings.https.certificate << ": in order\n";
    return fingerprint_command(settings);
}

Result<> prepare_certificate(const Settings& settings) {
    namespace fs = std::filesystem;
    if (!settings.tls || !settings.https_is_ours) return {};
    const HttpsFiles& files = settings.https;
    if (fs::exists(files.certificate) || fs::exists(files.key)) return {};
    std::error_code error;
    fs::create_directories(settings.state_directory, error);
    std::vector<std::string> names = own_names();
    const auto add = [&](const std::string& name) {
        if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) {
            names.push_back(name);
        }
    };
    add(settings.server.address);
    add(settings.site.address);
    for (const std::string& name : settings.host_names) add(name);
    FT_TRY_VOID(make_self_signed(files, names));
    FT_TRY(const std::string fingerprint, fingerprint_of(files.certificate));
    logger("web").info("made the certificate {}, SHA-256 {}", files.certificate, fingerprint);
    return {};
}

Result<> add_user_command(const Settings& settings, const std::string& name,
                          const std::string& role_text) {
    FT_TRY(const Role role, read_role(role_text));
    FT_TRY_VOID(Name::parse(name, "name"));
    FT_TRY(const auto database, open_store(settings));
    Accounts accounts(*database);
    if (accounts.find_user(name)) {
        return fail(Errc::already_exists, "there is a user '{}' already", name);
    }
    FT_TRY(const std::string password, ask_new_password(name));
    FT_TRY(const std::string hash, hash_password(password));
    FT_TRY_VOID(note(*database, "user.add", name));
    FT_TRY_VOID(accounts.add_user(unix_ms_now(), name, role, hash));
    std::cout << "user " << name << " may log in as " << role_text << "\n";
    return {};
}

Result<> password_command(const Settings& settings, const std::string& name) {
    FT_TRY(const auto database, open_store(settings));
    Accounts accounts(*database);
    FT_TRY_VOID(accounts.find_user(name));
    FT_TRY(const std::string password, ask_new_password(name));
    Accounts::UserChange change;
    FT_TRY(change.password_hash, hash_password(password));
    change.disabled = false;
    FT_TRY_VOID(note(*database, "password.change", name));
    FT_TRY_VOID(accounts.change_user(unix_ms_now(), name, change));
    std::cout << "user " << name << " has a new password; every session of theirs is over\n";
    return {};
}

Result<> add_token_command(const Settings& settings, const std::string& name,
                           const std::string& role_text) {
    FT_TRY(const Role role, read_role(role_text));
    FT_TRY_VOID(Name::parse(name, "name"));
    FT_TRY(const auto database, open_store(settings));
    Accounts accounts(*database);
    FT_TRY_VOID(note(*database, "token.add", name));
    FT_TRY(const auto made, accounts.add_token(unix_ms_now(), name, role, "command line", {}));
    std::cout << made.secret << "\n";
    return {};
}

Result<> add_vm_command(const Settings& settings, const std::string& name,
                        const std::string& definition_file) {
    FT_TRY(const Name vm, Name::parse(name, "name"));
    const VmFiles files(settings.site.vms, settings.site.replicator);
    FT_TRY_VOID(files.add(vm, definition_file));
    std::cout << files.path(name, "vm.json") << ": ready to be paired\n";
    return {};
}

Result<> list_users_command(const Settings& settings) {
    FT_TRY(const auto database, open_store(settings));
    FT_TRY(const auto users, Accounts(*database).users());
    for (const User& user : users) {
        std::cout << fmt::format("{:<32} {:<15} {}\n", user.name, word(user.role),
                                 user.disabled ? "disabled" : "");
    }
    return {};
}

Result<> fingerprint_command(const Settings& settings) {
    if (!settings.tls)
        return fail(Errc::invalid_argument, "listen.tls is off: there is no certificate");
    FT_TRY(const std::string fingerprint, fingerprint_of(settings.https.certificate));
    std::cout << "SHA-256 " << fingerprint << "\n";
    return {};
}

}  // namespace antipode::web
