#include "tests/unit/stream/channel_pair.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "common/base/check.h"
#include "common/base/unique_fd.h"

namespace antipode::stream {
namespace {

// A port that was free a moment ago, with the next one free as well.
uint16_t two_free_ports() {
    for (int attempt = 0; attempt < 100; ++attempt) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const UniqueFd one(::socket(AF_INET, SOCK_STREAM, 0));
        const UniqueFd two(::socket(AF_INET, SOCK_STREAM, 0));
        // What has been closed lately does not count, nor will it for those who listen.
        const int yes = 1;
        for (const UniqueFd* fd : {&one, &two}) {
            (void)::setsockopt(fd->get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        }
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        if (::bind(one.get(), generic, sizeof address) != 0) continue;
        socklen_t length = sizeof address;
        if (::getsockname(one.get(), generic, &length) != 0) continue;
        const uint16_t port = ntohs(address.sin_port);
        address.sin_port = htons(static_cast<uint16_t>(port + 1));
        if (port < 65535 && ::bind(two.get(), generic, sizeof address) == 0) return port;
    }
    FT_CHECK(false, "no two free ports");
}

}  // namespace

ChannelPair::ChannelPair() : base_port(two_free_ports()) {}

}  // namespace antipode::stream
