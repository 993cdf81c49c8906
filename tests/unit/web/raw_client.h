// A client that sends exactly the bytes it is told to, good or bad, and reads answers with a bound
// on time.
#pragma once

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <map>
#include <netinet/in.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>

#include "common/base/unique_fd.h"

namespace antipode::web::test {

struct RawResponse {
    int status = 0;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
};

class RawClient {
  public:
    explicit RawClient(uint16_t port, int receive_buffer = 0)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const timeval limit{20, 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        if (receive_buffer != 0) {
            ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
        }
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected_ =
            ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    }
    bool connected() const { return connected_; }

    bool send(std::string_view text) {
        while (!text.empty()) {
            const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            text.remove_prefix(static_cast<size_t>(sent));
        }
        return true;
    }
    bool get(std::string_view path, std::string_view headers = "") {
        return send(std::string("GET ") + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" +
                    std::string(headers) + "\r\n");
    }
    // Up to and with `end`; nullopt when the connection ends first.
    std::optional<std::string> until(std::string_view end) {
        for (;;) {
            const size_t at = input_.find(end);
            if (at != std::string::npos) {
                std::string out = input_.substr(0, at + end.size());
                input_.erase(0, at + end.size());
                return out;
            }
            if (!more()) return std::nullopt;
        }
    }
    // A response whose body has a length (a HEAD's has none).
    std::optional<RawResponse> response(bool has_body = true) {
        const auto head = until("\r\n\r\n");
        if (!head) return std::nullopt;
        RawResponse out;
        out.status = std::atoi(head->c_str() + 9);
        size_t at = head->find("\r\n") + 2;
        while (at + 2 < head->size()) {
            const size_t end = head->find("\r\n", at);
            const size_t colon = head->find(':', at);
            std::string name = head->substr(at, colon - at);
            for (char& c : name) c = static_cast<char>(std::tolower(c));
            out.headers[name] = head->substr(colon + 2, end - colon - 2);
            at = end + 2;
        }
        const auto length = out.headers.find("content-length");
        if (!has_body || length == out.headers.end()) return out;
        const size_t wanted = std::stoul(length->second);
        while (input_.size() < wanted) {
            if (!more()) return std::nullopt;
        }
        out.body = input_.substr(0, wanted);
        input_.erase(0, wanted);
        return out;
    }
    bool closed() {
        while (more()) input_.clear();
        return true;
    }
    int fd() const { return fd_.get(); }

  private:
    bool more() {
        std::array<char, 65536> chunk{};
        ssize_t count = 0;
        do {  // the daemon in this process has children, whose ends are signals
            count = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
        } while (count < 0 && errno == EINTR);
        if (count <= 0) return false;
        input_.append(chunk.data(), static_cast<size_t>(count));
        return true;
    }

    UniqueFd fd_;
    bool connected_ = false;
    std::string input_;
};

}  // namespace antipode::web::test
