#include "replicator/control/divergence_report.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace antipode::control {
namespace {

namespace json = boost::json;

json::object evidence(const replay::Evidence& side) {
    json::object registers;
    for (size_t i = 0; i < replay::Evidence::kRegisters; ++i) {
        registers[replay::Evidence::kRegisterNames[i]] = fmt::format("{:#x}", side.registers[i]);
    }
    json::array exits;
    for (const auto& exit : side.exits) {
        exits.push_back(json::value(fmt::format("{} {} {:#x} size={} count={} data={:#x}",
                                                exit.exit, vmm::to_string(exit.kind), exit.address,
                                                exit.size, exit.count, exit.data)));
    }
    return {{"exit", side.exit.value()}, {"registers", registers}, {"exits", exits}};
}

}  // namespace

std::string divergence_report(const replay::HealResult& result, int64_t time_unix_ms) {
    json::array pages;
    for (const auto& page : result.differences) {
        pages.push_back({{"page", page.number},
                         {"first_byte", page.first_byte},
                         {"bytes_that_differ", page.byte_count}});
    }
    const json::object report{
        {"time_unix_ms", time_unix_ms},
        {"what_differs", result.trouble},
        {"noticed_at_exit", result.from.value()},
        {"healed_at_exit", result.to.value()},
        {"log_entries_skipped", result.entries_skipped},
        {"pages_put_right", result.page_count},
        // Between the backup where it noticed and the primary where it healed.
        {"first_pages", pages},
        {"backup", evidence(result.own)},
        {"primary", evidence(result.primary)},
    };
    return json::serialize(report) + "\n";
}

}  // namespace antipode::control
