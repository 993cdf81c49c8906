#include "web/routes/resources.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "web/routes/page.h"

namespace antipode::web {
namespace {

using control::json::array;
using control::json::object;
using control::json::value;

// One item of a list is made of each status, or several.
using Maker = std::function<void(const control::Status&, array&)>;

object placed(const control::Status& status, object item) {
    item["pair"] = status.pair;
    item["site"] = status.site;
    return item;
}

Response list(const Fleet& fleet, const Call& call, const Maker& make) {
    const auto pair = call.request.query_value("pair");
    std::vector<const control::Status*> statuses;
    for (const View* view : fleet.all_views()) {
        if (!view->reachable || !view->status) continue;
        if (!pair || view->status->pair == *pair) statuses.push_back(&*view->status);
    }
    std::sort(statuses.begin(), statuses.end(), [](const auto* a, const auto* b) {
        return std::tie(a->pair, a->site) < std::tie(b->pair, b->site);
    });
    array items;
    for (const control::Status* status : statuses) make(*status, items);
    return list_of(std::move(items));
}

void make_vm(const control::Status& status, array& items) {
    object vm = control::to_json(status).at("vm").as_object();
    vm.erase("console_tail");
    vm["state"] = control::word(status.state);
    items.push_back(placed(status, std::move(vm)));
}

void make_disks(const control::Status& status, array& items) {
    const value document = control::to_json(status);
    for (const value& disk : document.at("disks").as_array()) {
        items.push_back(placed(status, disk.as_object()));
    }
}

void make_link(const control::Status& status, array& items) {
    const value document = control::to_json(status);
    object link = document.at("link").as_object();
    link["peer_site"] = status.peer_site;
    link["log_rate"] = document.at("log_rate");
    link["execution_lag"] = document.at("execution_lag");
    link["output"] = document.at("output");
    items.push_back(placed(status, std::move(link)));
}

void make_tiebreaker(const control::Status& status, array& items) {
    const value document = control::to_json(status);
    items.push_back(placed(status, document.at("tiebreaker").as_object()));
}

Response list_sites(const Fleet& fleet) {
    struct Site {
        std::string software;
        array pairs;
    };
    std::map<std::string, Site> sites;
    for (const View* view : fleet.all_views()) {
        if (!view->status) continue;
        Site& site = sites[view->status->site];
        if (view->reachable) site.software = view->status->versions.software;
        object pair;
        pair["pair"] = view->status->pair;
        pair["state"] = view->reachable ? control::word(view->status->state) : "unknown";
        pair["role"] = control::word(view->status->role);
        pair["reachable"] = view->reachable;
        site.pairs.push_back(std::move(pair));
    }
    array items;
    for (auto& [name, site] : sites) {
        object item;
        item["name"] = name;
        item["software"] = site.software;
        item["pairs"] = std::move(site.pairs);
        items.push_back(std::move(item));
    }
    return list_of(std::move(items));
}

}  // namespace

void add_resource_routes(Router& router, Services& services) {
    const Fleet& fleet = services.fleet;
    const auto add = [&](std::string path, Maker make) {
        router.add_sync(
            http::verb::get, std::move(path), Need::read,
            [&fleet, make = std::move(make)](const Call& call) { return list(fleet, call, make); });
    };
    add("/api/v1/vms", make_vm);
    add("/api/v1/disks", make_disks);
    add("/api/v1/links", make_link);
    add("/api/v1/tiebreaker", make_tiebreaker);
    router.add_sync(http::verb::get, "/api/v1/sites", Need::read,
                    [&fleet](const Call&) { return list_sites(fleet); });
}

}  // namespace antipode::web
