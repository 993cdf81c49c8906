// The page's files, compiled into the program (web/CMakeLists.txt bundles web/ui with esbuild).
#pragma once

#include <span>
#include <string_view>

namespace antipode::web {

struct Asset {
    std::string_view path;  // "/assets/app.js"
    std::string_view content_type;
    std::string_view bytes;
    std::string_view gzip;  // the same, compressed; empty = not worth it
};

std::span<const Asset> assets();
// The one page; every path of the application is served with it.
const Asset& index_page();

}  // namespace antipode::web
