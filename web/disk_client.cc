#include "web/disk_client.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/json/parse.hpp>
#include <filesystem>
#include <sys/un.h>

namespace antipode::web {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;
using boost::system::error_code;
using Stream = boost::beast::basic_stream<asio::local::stream_protocol>;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr size_t kGroupsMax = 256;
constexpr size_t kAnswerBytesMax = size_t{4} << 20;
constexpr std::chrono::seconds kStatusLimit(2);

Failure lost(const std::string& path, std::string_view what, error_code error) {
    const bool late = error == boost::beast::error::timeout;
    return fail(Errc::unreachable, "disks at {}: {}: {}", path, what,
                late ? "no answer in time" : error.message());
}

// Its codes are words (common/base/error.h).
Errc code_of(std::string_view word) {
    for (const Errc code : {Errc::invalid_argument, Errc::not_found, Errc::busy, Errc::denied}) {
        if (word == to_string(code)) return code;
    }
    return Errc::denied;
}

Result<json::object> parse_answer(const std::string& path, const std::string& text) {
    error_code error;
    const json::value answer = json::parse(text, error);
    if (error || !answer.is_object()) {
        return fail(Errc::protocol, "disks at {}: an answer that is no JSON object", path);
    }
    const json::object& object = answer.get_object();
    const json::value* refused = object.if_contains("error");
    if (refused == nullptr) return object;
    const json::value* word = object.if_contains("code");
    const Errc code =
        word != nullptr && word->is_string() ? code_of(word->get_string()) : Errc::denied;
    return fail(code, "{}", refused->is_string() ? std::string(refused->get_string()) : "refused");
}

}  // namespace

std::vector<DiskGroup> disk_groups(const std::vector<std::string>& directories) {
    std::vector<DiskGroup> groups;
    for (const std::string& directory : directories) {
        std::error_code gone;
        for (fs::directory_iterator at(directory + "/disks", gone), end;
             !gone && at != end && groups.size() < kGroupsMax; at.increment(gone)) {
            std::error_code ignored;
            if (at->path().extension() != ".sock" || !at->is_socket(ignored)) continue;
            groups.push_back({at->path().stem().string(), at->path().string()});
        }
    }
    std::sort(groups.begin(), groups.end(),
              [](const DiskGroup& one, const DiskGroup& other) { return one.name < other.name; });
    return groups;
}

asio::awaitable<Result<json::object>> ask_disk_group(std::string socket, std::string line,
                                                     std::chrono::milliseconds limit) {
    if (socket.size() >= sizeof(sockaddr_un::sun_path)) {
        co_return fail(Errc::invalid_argument, "disks at {}: the path is too long", socket);
    }
    const auto executor = co_await asio::this_coro::executor;
    Stream stream(executor);
    stream.expires_after(limit);
    const asio::local::stream_protocol::endpoint endpoint(socket);
    const auto [connect_error] = co_await stream.async_connect(endpoint, kToken);
    if (connect_error) co_return lost(socket, "connect", connect_error);
    line += "\n";
    const auto bytes = asio::buffer(line);
    const auto [write_error, written] = co_await asio::async_write(stream, bytes, kToken);
    if (write_error) co_return lost(socket, "write", write_error);
    std::string text;
    auto buffer = asio::dynamic_buffer(text, kAnswerBytesMax);
    const auto [read_error, count] = co_await asio::async_read(stream, buffer, kToken);
    if (read_error != asio::error::eof) co_return lost(socket, "read", read_error);
    co_return parse_answer(socket, text);
}

asio::awaitable<std::vector<DiskGroupView>> ask_disk_groups(std::vector<DiskGroup> groups) {
    struct Gathering {
        explicit Gathering(asio::any_io_executor executor) : done(std::move(executor)) {}
        asio::steady_timer done;
        size_t open = 0;
        std::vector<DiskGroupView> views;
    };
    const auto executor = co_await asio::this_coro::executor;
    const auto gathering = std::make_shared<Gathering>(executor);
    gathering->done.expires_at(asio::steady_timer::time_point::max());
    gathering->open = groups.size();
    for (DiskGroup& group : groups) {
        const std::string socket = group.socket;
        gathering->views.push_back(
            {std::move(group), fail(Errc::unreachable, "disks at {}: not asked", socket)});
        auto question = ask_disk_group(socket, "status", kStatusLimit);
        auto finish = [gathering, index = gathering->views.size() - 1](
                          const std::exception_ptr& thrown, Result<json::object> answer) {
            if (!thrown) gathering->views[index].status = std::move(answer);
            if (--gathering->open == 0) gathering->done.cancel();
        };
        asio::co_spawn(executor, std::move(question), std::move(finish));
    }
    if (gathering->open != 0) {
        co_await gathering->done.async_wait(asio::as_tuple(asio::use_awaitable));
    }
    co_return std::move(gathering->views);
}

}  // namespace antipode::web
