// antipode-web: the page, the REST API and the metrics of one site. It talks to replicators over
// their control sockets only, so that nothing it does can touch a heartbeat.
#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <iostream>
#include <systemd/sd-daemon.h>

#include "common/base/log.h"
#include "web/app.h"
#include "web/commands.h"

namespace antipode::web {
namespace {

struct Options {
    std::string config = "/etc/antipode/web.toml";
    bool config_given = false;
    std::string listen;
    std::vector<std::string> directories;
    std::string state;
    std::string user;
    std::string role = "admin";
    std::string definition;
};

Result<Settings> settings_of(const Options& options) {
    FT_TRY(
        Settings settings,
        load_settings(options.config, options.config_given ? Missing::is_error : Missing::is_fine));
    if (!options.listen.empty()) {
        FT_TRY(
            const Settings parsed,
            parse_settings(fmt::format("[listen]\naddress = '{}'\n", options.listen), "--listen"));
        settings.server.address = parsed.server.address;
        settings.server.port = parsed.server.port;
    }
    if (!options.directories.empty()) settings.fleet.directories = options.directories;
    if (!options.state.empty()) settings.state_directory = options.state;
    return settings;
}

// Half of the time that systemd gives us between two signs of life.
void keep_watchdog(boost::asio::steady_timer& timer) {
    uint64_t limit_us = 0;
    if (::sd_watchdog_enabled(0, &limit_us) <= 0) return;
    ::sd_notify(0, "WATCHDOG=1");
    timer.expires_after(std::chrono::microseconds(limit_us / 2));
    timer.async_wait([&timer](boost::system::error_code error) {
        if (!error) keep_watchdog(timer);
    });
}

Result<> serve(const Options& options) {
    FT_TRY(Settings settings, settings_of(options));
    FT_TRY_VOID(prepare_certificate(settings));
    const std::string scheme = settings.tls ? "https" : "http";
    const std::string address = settings.server.address;
    boost::asio::io_context context(1);
    FT_TRY(const std::unique_ptr<App> app, App::start(context, std::move(settings)));
    boost::asio::steady_timer watchdog(context);
    boost::asio::signal_set signals(context, SIGTERM, SIGINT);
    signals.async_wait([&](boost::system::error_code error, int) {
        if (error) return;
        ::sd_notify(0, "STOPPING=1");
        watchdog.cancel();
        app->stop();
    });
    logger("web").info("listening on {}://{}:{}/", scheme, address, app->port());
    ::sd_notify(0, "READY=1");
    keep_watchdog(watchdog);
    context.run();  // until stop() has ended everything
    return {};
}

using Command = std::function<Result<>(const Options&)>;

Command with_settings(Result<> (*command)(const Settings&)) {
    return [command](const Options& options) -> Result<> {
        FT_TRY(const Settings settings, settings_of(options));
        return command(settings);
    };
}

// The command line; fills `command` with what it asks for.
void describe(CLI::App& line, Options& options, Command& command) {
    line.require_subcommand(0, 1);
    line.add_option("--config", options.config, "settings file");
    line.add_option("--listen", options.listen, "ADDRESS:PORT instead of listen.address");
    line.add_option("--control", options.directories,
                    "directory of control sockets instead of control.directories; repeatable");
    line.add_option("--state", options.state, "state directory instead of state.directory");
    const auto add = [&](CLI::App& parent, const char* name, const char* text, Command what) {
        CLI::App* made = parent.add_subcommand(name, text);
        made->fallthrough();
        made->callback([&command, what = std::move(what)] { command = what; });
        return made;
    };
    add(line, "serve", "serve; this is the default", serve);
    add(line, "check", "read the settings and say whether they are right",
        [](const Options& given) -> Result<> {
            FT_TRY_VOID(settings_of(given));
            std::cout << given.config << ": ok\n";
            return {};
        });
    add(line, "init", "make the certificate and the state directory", with_settings(init_command));
    add(line, "fingerprint", "the certificate's fingerprint, as browsers show it",
        with_settings(fingerprint_command));
    CLI::App* user = line.add_subcommand("user", "users of the page");
    user->require_subcommand(1);
    user->fallthrough();
    CLI::App* added = add(*user, "add", "a new user; the password comes from standard input",
                          [](const Options& given) -> Result<> {
                              FT_TRY(const Settings settings, settings_of(given));
                              return add_user_command(settings, given.user, given.role);
                          });
    added->add_option("NAME", options.user)->required();
    added->add_option("--role", options.role, "viewer, drill_operator, operator or admin")
        ->capture_default_str();
    add(*user, "password", "a new password for a user",
        [](const Options& given) -> Result<> {
            FT_TRY(const Settings settings, settings_of(given));
            return password_command(settings, given.user);
        })
        ->add_option("NAME", options.user)
        ->required();
    CLI::App* token = line.add_subcommand("token", "tokens for programs");
    token->require_subcommand(1);
    token->fallthrough();
    CLI::App* minted = add(*token, "add", "a new one; it is printed, and never again",
                           [](const Options& given) -> Result<> {
                               FT_TRY(const Settings settings, settings_of(given));
                               return add_token_command(settings, given.user, given.role);
                           });
    minted->add_option("NAME", options.user)->required();
    minted->add_option("--role", options.role, "viewer, drill_operator, operator or admin")
        ->capture_default_str();
    CLI::App* vm = line.add_subcommand("vm", "VMs of this site");
    vm->require_subcommand(1);
    vm->fallthrough();
    CLI::App* defined = add(*vm, "add", "the folder of a VM, so that it can be paired; as root",
                            [](const Options& given) -> Result<> {
                                FT_TRY(const Settings settings, settings_of(given));
                                return add_vm_command(settings, given.user, given.definition);
                            });
    defined->add_option("NAME", options.user)->required();
    defined->add_option("--definition", options.definition,
                        "its vm.json, where it is not there yet");
    add(*user, "list", "who there is", with_settings(list_users_command));
}

}  // namespace
}  // namespace antipode::web

int main(int argc, char** argv) {
    using namespace antipode;
    web::Options options;
    web::Command command = web::serve;
    CLI::App line("antipode-web: the page, the REST API and the metrics of this site");
    web::describe(line, options, command);
    CLI11_PARSE(line, argc, argv);
    options.config_given = line.count("--config") != 0;
    auto done = command(options);
    if (!done) {
        std::cerr << "antipode-web: " << done.error().to_string() << "\n";
        return 1;
    }
    return 0;
}
