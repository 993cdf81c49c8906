// The subcommands of antipode-web: what must be possible on the host itself, before or without the
// page.
//
//     antipode-web init                 makes the certificate and the state directory
//     antipode-web user add|password|list
//     antipode-web token add             for a program, or for the command line on this host
//     antipode-web vm add               a VM's folder, with the rights that pairing it needs
//     antipode-web fingerprint          what a browser will show
//
// Threads: none; a process of their own, beside a running daemon.
#pragma once

#include <string>

#include "web/settings.h"

namespace antipode::web {

Result<> init_command(const Settings& settings);
// Makes the certificate if it is ours to make and is not there yet; what init and the first start
// do.
Result<> prepare_certificate(const Settings& settings);
// Reads the new password from the terminal, twice and without echo, or one line of standard input.
Result<> add_user_command(const Settings& settings, const std::string& name,
                          const std::string& role);
Result<> password_command(const Settings& settings, const std::string& name);
// Prints the token, the only time that it is shown.
Result<> add_token_command(const Settings& settings, const std::string& name,
                           const std::string& role);
Result<> add_vm_command(const Settings& settings, const std::string& name,
                        const std::string& definition_file);
Result<> list_users_command(const Settings& settings);
Result<> fingerprint_command(const Settings& settings);

}  // namespace antipode::web
