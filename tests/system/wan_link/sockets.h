// What both forwards need of sockets: addresses from text, and the filter that makes packets
// vanish. Called on the emulator's one thread.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <charconv>
#include <linux/filter.h>
#include <string>
#include <string_view>
#include <sys/socket.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/result.h"

namespace antipode::wan {

// "10.0.0.1:7100" or "[fd00::1]:7100".
template <typename Endpoint>
Result<Endpoint> parse_endpoint(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos) {
        return fail(Errc::invalid_argument, "'{}' is not ADDRESS:PORT", text);
    }
    std::string_view host = text.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    const std::string_view digits = text.substr(colon + 1);
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    boost::system::error_code bad_address;
    const auto address = boost::asio::ip::make_address(std::string(host), bad_address);
    if (bad_address || error != std::errc() || end != digits.data() + digits.size()) {
        return fail(Errc::invalid_argument, "'{}' is not ADDRESS:PORT", text);
    }
    return Endpoint(address, port);
}

// With `drop`, the kernel discards every packet for this socket before TCP sees it: no
// acknowledgement, no reset, for a listening socket no handshake. What a dead line looks like.
inline void drop_incoming(int socket, bool drop) {
    if (drop) {
        sock_filter nothing{.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = 0};
        const sock_fprog program{.len = 1, .filter = &nothing};
        const int done =
            ::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
        FT_CHECK(done == 0, "SO_ATTACH_FILTER: errno {}", errno);
    } else {
        const int unused = 0;  // fails with ENOENT when there is none: fine
        ::setsockopt(socket, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
    }
}

inline std::chrono::steady_clock::time_point timer_point(Instant instant) {
    return std::chrono::steady_clock::time_point(instant.time_since_epoch());
}

}  // namespace antipode::wan
