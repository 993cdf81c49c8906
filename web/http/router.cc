#include "web/http/router.h"

#include <set>

#include "common/base/check.h"

namespace antipode::web {
namespace {

std::vector<std::string_view> segments(std::string_view path) {
    std::vector<std::string_view> out;
    while (!path.empty()) {
        path.remove_prefix(1);  // the '/'
        const size_t end = std::min(path.find('/'), path.size());
        out.push_back(path.substr(0, end));
        path.remove_prefix(end);
    }
    return out;
}

bool is_parameter(std::string_view segment) {
    return segment.size() > 2 && segment.front() == '{' && segment.back() == '}';
}

// The number of literal segments that matched; -1 = no match.
int match(const std::vector<std::string_view>& pattern, const std::vector<std::string_view>& path,
          std::map<std::string, std::string, std::less<>>& parameters) {
    if (pattern.size() != path.size()) return -1;
    int literals = 0;
    for (size_t i = 0; i < path.size(); ++i) {
        if (is_parameter(pattern[i])) {
            if (path[i].empty()) return -1;
            const auto name = pattern[i].substr(1, pattern[i].size() - 2);
            parameters.insert_or_assign(std::string(name), std::string(path[i]));
        } else if (pattern[i] == path[i]) {
            ++literals;
        } else {
            return -1;
        }
    }
    return literals;
}

}  // namespace

const std::string& Call::parameter(std::string_view name) const {
    const auto found = parameters.find(name);
    FT_CHECK(found != parameters.end(), "route has no parameter {}", name);
    return found->second;
}

void Router::add(http::verb method, std::string pattern, Need need, Handler handler) {
    for (const Route& route : routes_) {
        FT_CHECK(route.method != method || route.pattern != pattern, "{} is routed twice", pattern);
    }
    routes_.push_back({method, std::move(pattern), need, std::move(handler)});
}

void Router::add_sync(http::verb method, std::string pattern, Need need,
                      std::function<Response(const Call&)> handler) {
    add(method, std::move(pattern), need,
        [handler = std::move(handler)](const Call& call) -> boost::asio::awaitable<Response> {
            co_return handler(call);
        });
}

Router::Match Router::find(http::verb method, std::string_view path) const {
    const http::verb wanted = method == http::verb::head ? http::verb::get : method;
    const auto parts = segments(path);
    Match best;
    int best_literals = -1;
    std::set<std::string> allowed;
    for (const Route& route : routes_) {
        std::map<std::string, std::string, std::less<>> parameters;
        const int literals = match(segments(route.pattern), parts, parameters);
        if (literals < 0) continue;
        allowed.emplace(http::to_string(route.method));
        if (route.method == http::verb::get) allowed.emplace("HEAD");
        if (route.method != wanted || literals <= best_literals) continue;
        best_literals = literals;
        best.route = &route;
        best.parameters = std::move(parameters);
    }
    for (const std::string& name : allowed) {
        best.allowed += (best.allowed.empty() ? "" : ", ") + name;
    }
    return best;
}

}  // namespace antipode::web
