// The command line's side of a snapshot: asks a running replicator over its control socket.
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "common/base/unique_fd.h"
#include "common/env/posix/unix_socket.h"
#include "replicator/control/control_api.h"
#include "replicator/control/pair_config.h"
#include "replicator/control/restore.h"

namespace antipode::control {
namespace {

constexpr Duration kLook = std::chrono::milliseconds(100);

class Line {
  public:
    static Result<Line> open(const std::string& path) {
        FT_TRY(UniqueFd fd, env::connect_unix(path, "control socket"));
        return Line(std::move(fd));
    }

    Result<json::value> ask(Method method, json::value params) {
        FT_TRY_VOID(send(request_line(++id_, method, std::move(params))));
        FT_TRY(const std::string line, receive());
        FT_TRY(Reply reply, parse_reply(line));
        return std::move(reply.result);
    }

  private:
    explicit Line(UniqueFd fd) : fd_(std::move(fd)) {}
    Result<void> send(std::string_view text) const {
        while (!text.empty()) {
            const ssize_t count = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return fail_errno(errno, "control socket");
            text.remove_prefix(static_cast<size_t>(count));
        }
        return {};
    }
    Result<std::string> receive() {
        for (;;) {
            if (const size_t end = input_.find('\n'); end != std::string::npos) {
                std::string line = input_.substr(0, end);
                input_.erase(0, end + 1);
                return line;
            }
            if (input_.size() > kLineBytesMax) return fail(Errc::limit, "control socket: a line");
            std::array<char, 16384> chunk{};
            const ssize_t count = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return fail_errno(errno, "control socket");
            if (count == 0) return fail(Errc::closed, "control socket: the replicator has ended");
            input_.append(chunk.data(), static_cast<size_t>(count));
        }
    }

    UniqueFd fd_;
    std::string input_;
    uint64_t id_ = 0;
};

}  // namespace

Result<std::string> request_snapshot(const std::string& directory, const std::string& name) {
    FT_TRY(const PairConfig pair, load_pair_config(directory + "/pair.toml"));
    FT_TRY(Line line, Line::open(pair.control_socket));
    ActionRequest request;
    request.actor = fmt::format("uid {} on the command line", ::getuid());
    request.text = name;
    FT_TRY(const auto answer, line.ask(Method::snapshot, to_json(request)));
    FT_TRY(const ActionReply reply, parse_action_reply(answer));
    if (!reply.operation) return fail(Errc::protocol, "snapshot: the reply names no operation");
    for (;;) {
        json::object params;
        params["operation"] = *reply.operation;
        FT_TRY(const auto state, line.ask(Method::operation, std::move(params)));
        FT_TRY(const Operation operation, parse_operation(state));
        if (operation.state == OperationState::succeeded) return operation.text;
        if (operation.state != OperationState::running) {
            return fail(Errc::io, "{}", operation.text);
        }
        std::this_thread::sleep_for(kLook);  // the socket is one question, one answer
    }
}

}  // namespace antipode::control
