// antipode-web: the page, the REST API and the metrics of one site. One thread; it talks to
// replicators over their control sockets only, so that nothing it does can touch a heartbeat.
#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <iostream>
#include <systemd/sd-daemon.h>

#include "common/base/log.h"
#include "web/app.h"

namespace antipode::web {
namespace {

struct Options {
    std::string config = "/etc/antipode/web.toml";
    bool config_given = false;
    std::string listen;
    std::vector<std::string> directories;
    bool check = false;
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
    return settings;
}

Result<> run(const Options& options) {
    FT_TRY(Settings settings, settings_of(options));
    if (options.check) {
        std::cout << options.config << ": ok\n";
        return {};
    }
    boost::asio::io_context context(1);
    const std::string address = settings.server.address;
    FT_TRY(const std::unique_ptr<App> app, App::start(context, std::move(settings)));
    boost::asio::signal_set signals(context, SIGTERM, SIGINT);
    signals.async_wait([&](boost::system::error_code error, int) {
        if (!error) app->stop();
    });
    logger("web").info("listening on http://{}:{}/", address, app->port());
    ::sd_notify(0, "READY=1");
    context.run();  // until stop() has ended everything
    return {};
}

}  // namespace
}  // namespace antipode::web

int main(int argc, char** argv) {
    using namespace antipode;
    web::Options options;
    CLI::App command("antipode-web: the page, the REST API and the metrics of this site");
    auto* config = command.add_option("--config", options.config, "settings file");
    command.add_option("--listen", options.listen, "ADDRESS:PORT instead of listen.address");
    command.add_option("--control", options.directories,
                       "directory of control sockets instead of control.directories; repeatable");
    command.add_flag("--check", options.check,
                     "read the settings, say whether they are right, end");
    CLI11_PARSE(command, argc, argv);
    options.config_given = config->count() != 0;
    auto done = web::run(options);
    if (!done) {
        std::cerr << "antipode-web: " << done.error().to_string() << "\n";
        return 1;
    }
    return 0;
}
