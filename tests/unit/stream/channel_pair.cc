#include "tests/unit/stream/channel_pair.h"

#include <arpa/inet.h>
#include <random>
#include <sys/socket.h>

#include "common/base/check.h"
#include "common/base/unique_fd.h"

namespace antipode::stream {
namespace {

// A port that was free a moment ago, with the next one free as well. Not of those that the kernel
// gives to outgoing connections: after a test with thousands of these hardly two in a row are free.
uint16_t two_free_ports() {
    std::random_device chance;
    std::uniform_int_distribution<int> below_the_ephemeral(15000, 32000);
    for (int attempt = 0; attempt < 100; ++attempt) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const auto port = static_cast<uint16_t>(below_the_ephemeral(chance));
        const auto is_free = [&](uint16_t wanted) {
            const UniqueFd socket(::socket(AF_INET, SOCK_STREAM, 0));
            // What has been closed lately does not count, nor will it for those who listen.
            const int yes = 1;
            (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
            address.sin_port = htons(wanted);
            return ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                          sizeof address) == 0;
        };
        if (is_free(port) && is_free(static_cast<uint16_t>(port + 1))) return port;
    }
    FT_CHECK(false, "no two free ports");
}

}  // namespace

ChannelPair::ChannelPair() : base_port(two_free_ports()) {}

}  // namespace antipode::stream
