#include "web/routes/pages.h"

#include "web/assets.h"

namespace antipode::web {
namespace {

bool takes_gzip(const Request& request) {
    std::string_view accepted = request.header("Accept-Encoding");
    while (!accepted.empty()) {
        const size_t comma = std::min(accepted.find(','), accepted.size());
        std::string_view item = accepted.substr(0, comma);
        accepted.remove_prefix(std::min(comma + 1, accepted.size()));
        while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
        if (item == "gzip" || (item.starts_with("gzip;") && !item.ends_with("q=0"))) return true;
    }
    return false;
}

Response serve(const Asset& asset, const Request& request) {
    Response response;
    response.content_type = asset.content_type;
    response.static_body = asset.bytes;
    response.with("Vary", "Accept-Encoding");
    if (!asset.gzip.empty() && takes_gzip(request)) {
        response.static_body = asset.gzip;
        response.with("Content-Encoding", "gzip");
    }
    return response;
}

}  // namespace

void add_page_routes(Router& router) {
    for (const Asset& asset : assets()) {
        router.add_sync(http::verb::get, std::string(asset.path), Need::nobody,
                        [&asset](const Call& call) { return serve(asset, call.request); });
    }
    for (const char* path : {"/", "/vms/{pair}", "/events", "/login", "/links", "/tiebreaker",
                             "/drills", "/disks", "/pairing", "/settings"}) {
        router.add_sync(http::verb::get, path, Need::nobody,
                        [](const Call& call) { return serve(index_page(), call.request); });
    }
    router.add_sync(http::verb::get, "/healthz", Need::nobody,
                    [](const Call&) { return Response::from_text("ok\n"); });
}

}  // namespace antipode::web
