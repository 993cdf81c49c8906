#include "replicator/control/net_port.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "common/env/posix/unix_socket.h"

namespace antipode::control {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr size_t kFramesPerWakeMax = 64;  // then other work of the core loop gets its turn
constexpr size_t kReadBytes = 65536;

Result<UniqueFd> open_tap(const std::string& name) {
    if (name.empty() || name.size() >= IFNAMSIZ) {
        return fail(Errc::invalid_argument, "host_dev_name \"{}\": has {} characters, 1 to {} fit",
                    name, name.size(), IFNAMSIZ - 1);
    }
    UniqueFd fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!fd) return fail_errno(errno, "/dev/net/tun");
    ifreq request{};
    std::memcpy(request.ifr_name, name.data(), name.size());
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(fd.get(), TUNSETIFF, &request) != 0) {
        return fail_errno(errno, "TAP interface {}", name);
    }
    return fd;
}

Result<UniqueFd> open_unix(const std::string& path) {
    FT_TRY(const auto address, env::unix_address(path, "network socket"));
    UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return fail_errno(errno, "socket");
    unlink(path.c_str());
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail_errno(errno, "{}", path);
    }
    return fd;
}

}  // namespace

Result<std::unique_ptr<NetPort>> NetPort::open(boost::asio::io_context& context,
                                               const std::string& device, OnFrame on_frame,
                                               Registry& metrics) {
    const bool is_unix = device.rfind(kUnixPrefix, 0) == 0;
    const std::string path = is_unix ? device.substr(kUnixPrefix.size()) : device;
    FT_TRY(UniqueFd fd, is_unix ? open_unix(path) : open_tap(path));
    auto port = std::unique_ptr<NetPort>(
        new NetPort(context, fd.release(), device, std::move(on_frame), metrics));
    if (is_unix) port->peer_path_ = path + ".peer";
    port->wait_for_frames();
    return port;
}

NetPort::NetPort(boost::asio::io_context& context, int fd, std::string device, OnFrame on_frame,
                 Registry& metrics)
    : device_(std::move(device)),
      descriptor_(context, fd),
      on_frame_(std::move(on_frame)),
      sent_total_(metrics.counter("antipode_frames_sent_total", "Frames sent for the guest",
                                  {{"device", device_}})),
      received_total_(metrics.counter("antipode_frames_received_total",
                                      "Frames received for the guest", {{"device", device_}})),
      dropped_total_(metrics.counter("antipode_frames_unsent_total",
                                     "Frames that the host did not take", {{"device", device_}})) {}

NetPort::~NetPort() {
    *alive_ = false;
}

void NetPort::wait_for_frames() {
    descriptor_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                           [this, alive = alive_](const boost::system::error_code& error) {
                               if (error || !*alive) return;
                               read_frames();
                               wait_for_frames();
                           });
}

void NetPort::read_frames() {
    std::array<std::byte, kReadBytes> buffer;
    for (size_t i = 0; i < kFramesPerWakeMax; ++i) {
        const ssize_t bytes = ::read(descriptor_.native_handle(), buffer.data(), buffer.size());
        if (bytes <= 0) return;
        if (state_ == State::closed) continue;
        received_total_.add();
        on_frame_(std::span(buffer).first(static_cast<size_t>(bytes)));
    }
}

void NetPort::send(std::span<const std::byte> frame) {
    if (state_ == State::closed) return;
    ssize_t sent = -1;
    if (peer_path_.empty()) {
        sent = ::write(descriptor_.native_handle(), frame.data(), frame.size());
    } else if (const auto peer = env::unix_address(peer_path_, "network socket")) {
        sent = sendto(descriptor_.native_handle(), frame.data(), frame.size(), MSG_NOSIGNAL,
                      reinterpret_cast<const sockaddr*>(&*peer), sizeof *peer);
    }
    if (sent == static_cast<ssize_t>(frame.size())) {
        sent_total_.add();
    } else {
        dropped_total_.add();
    }
}

// RFC 903: a request for our own address, which asks nobody anything and teaches every switch.
void NetPort::announce(const vmm::MacAddress& mac) {
    constexpr size_t kFrameBytes = 60;
    std::array<uint8_t, kFrameBytes> frame{};
    std::fill_n(frame.begin(), 6, uint8_t{0xff});
    std::copy(mac.begin(), mac.end(), frame.begin() + 6);
    constexpr std::array<uint8_t, 10> kHeader{0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
    std::copy(kHeader.begin(), kHeader.end(), frame.begin() + 12);
    std::copy(mac.begin(), mac.end(), frame.begin() + 22);
    std::copy(mac.begin(), mac.end(), frame.begin() + 32);
    send(std::as_bytes(std::span(frame)));
}

}  // namespace antipode::control
