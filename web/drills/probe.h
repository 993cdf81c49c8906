// The check of an isolated drill: does the copy do what the VM is there for? A command of web.toml,
// or one of the built-in probes, tried again until it passes or its time is over.
//
// Threads: the web thread; a command runs on the worker that it is given.
// INVARIANTS: bounded in time by the plan; a command is one that web.toml names, never one of a
// request.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>

#include "web/drills/plan.h"
#include "web/drills/report.h"
#include "web/fleet.h"
#include "web/security/worker.h"
#include "web/settings.h"

namespace antipode::web {

struct DrillProbe {
    DrillPlan plan;
    std::string id;  // of the drill
    std::string site;
    std::string socket;                                 // of the backup's replicator
    std::shared_ptr<const std::atomic<bool>> given_up;  // the drill is being stopped
};

Result<boost::asio::ip::tcp::endpoint> parse_drill_address(const std::string& text);
// Whether the plan's command is one of web.toml.
Result<> check_command(const DrillPlan& plan, const Settings& settings);

boost::asio::awaitable<CheckOutcome> run_probe(boost::asio::any_io_executor executor, Fleet& fleet,
                                               Worker& worker, const Settings& settings,
                                               DrillProbe probe);

}  // namespace antipode::web
