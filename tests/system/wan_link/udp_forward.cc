// Datagrams between two fixed peers, one at each side of the line.
#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <map>

#include "common/base/log.h"
#include "tests/system/wan_link/sockets.h"
#include "tests/system/wan_link/wan.h"

namespace antipode::wan {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;

class UdpForward final : public Forward {
  public:
    UdpForward(asio::io_context& context, Line line)
        : near_(context, line.out), far_(context, line.back) {}

    Result<> open(DatagramEnds near, DatagramEnds far) {
        FT_TRY_VOID(near_.open(near));
        FT_TRY_VOID(far_.open(far));
        receive(near_, far_);
        receive(far_, near_);
        return {};
    }

    // A cut line drops what is on it.
    void cut_changed() override {
        for (Side* side : {&near_, &far_}) {
            if (side->out->cut() == Cut::none) continue;
            side->out->stats().datagrams_cut += side->travelling.size();
            for (auto& [due, bytes] : side->travelling) side->out->unbuffered(bytes.size());
            side->travelling.clear();
            side->timer.cancel();
        }
    }
    void break_connections() override {}
    size_t connections() const override { return 0; }

  private:
    static constexpr size_t kDatagramBytesMax = 65536;

    // Where datagrams of one peer come in, and the direction they leave in.
    struct Side {
        Side(asio::io_context& context, Direction* direction)
            : out(direction), socket(context), timer(context) {}
        Result<> open(DatagramEnds ends);

        Direction* out;
        udp::socket socket;
        udp::endpoint peer;
        asio::steady_timer timer;
        std::multimap<Instant, std::vector<char>> travelling;
        Instant floor{};
        std::array<char, kDatagramBytesMax> incoming{};
    };

    void receive(Side& from, Side& to) {
        from.socket.async_wait(udp::socket::wait_read, [this, &from, &to](auto error) {
            if (error) return;
            // A burst at a time, so that the other side gets its turn.
            for (int burst = 0; burst < 64 && receive_one(from); ++burst) {
            }
            arm(from, to);
            receive(from, to);
        });
    }

    bool receive_one(Side& from) {
        udp::endpoint sender;
        boost::system::error_code error;
        const size_t bytes =
            from.socket.receive_from(asio::buffer(from.incoming), sender, 0, error);
        if (error == asio::error::would_block) return false;
        // Refused: the peer's socket is not there yet or any more. A line carries on.
        if (error || sender != from.peer) return true;
        const auto arrivals = from.out->datagram(MonotonicClock::now(), bytes, from.floor);
        for (size_t copy = 0; copy < arrivals.count; ++copy) {
            if (from.travelling.size() >= kDatagramsMax) {
                ++from.out->stats().datagrams_overflow;
                continue;
            }
            from.travelling.emplace(
                arrivals.at[copy],
                std::vector<char>(from.incoming.data(), from.incoming.data() + bytes));
            from.out->buffered(bytes);
        }
        if (arrivals.count > 0 && arrivals.in_order) from.floor = arrivals.at[0];
        return true;
    }

    void arm(Side& from, Side& to) {
        if (from.travelling.empty()) return;
        from.timer.expires_at(timer_point(from.travelling.begin()->first));
        from.timer.async_wait([this, &from, &to](auto error) {
            if (!error) deliver(from, to);
        });
    }

    void deliver(Side& from, Side& to) {
        if (from.travelling.empty()) return;  // cut while this was on its way
        const Instant now = MonotonicClock::now();
        from.out->delivered(from.travelling.begin()->first, now);
        while (!from.travelling.empty() && from.travelling.begin()->first <= now) {
            const auto first = from.travelling.begin();
            boost::system::error_code ignored;  // nobody there, or its buffer is full: lost
            to.socket.send_to(asio::buffer(first->second), to.peer, 0, ignored);
            from.out->unbuffered(first->second.size());
            from.travelling.erase(first);
        }
        arm(from, to);
    }

    Side near_;
    Side far_;
};

Result<> UdpForward::Side::open(DatagramEnds ends) {
    FT_TRY(const auto local, parse_endpoint<udp::endpoint>(ends.listen));
    FT_TRY(peer, parse_endpoint<udp::endpoint>(ends.peer));
    boost::system::error_code error;
    socket.open(local.protocol(), error);
    if (!error) socket.bind(local, error);
    if (!error) socket.non_blocking(true, error);
    if (error) return fail(Errc::io, "udp {}: {}", ends.listen, error.message());
    const int buffer_bytes = 1024 * 1024;
    ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    return {};
}

}  // namespace

Result<std::unique_ptr<Forward>> make_udp_forward(asio::io_context& context, Line line,
                                                  DatagramEnds near, DatagramEnds far) {
    auto forward = std::make_unique<UdpForward>(context, line);
    FT_TRY_VOID(forward->open(near, far));
    return std::unique_ptr<Forward>(std::move(forward));
}

}  // namespace antipode::wan
