// NetPort: where the guest's frames enter and leave the host. A TAP interface, or a pair of unix
// datagram sockets for tests ("unix:PATH": we are PATH, the other end is PATH.peer).
//
// Core thread only. A closed port (the default: a backup) reads and throws away what arrives and
// sends nothing, so that an operator can bring both sites' interfaces up beforehand.
//
// INVARIANT: nothing is sent while closed. A frame that the host does not take at once is dropped
// and counted, as on a wire.
#pragma once

#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/base/metrics.h"
#include "common/base/result.h"
#include "replicator/vmm/devices/virtio_net/net_device.h"

namespace antipode::control {

class NetPort {
  public:
    using OnFrame = std::function<void(std::span<const std::byte>)>;

    static Result<std::unique_ptr<NetPort>> open(boost::asio::io_context& context,
                                                 const std::string& device, OnFrame on_frame,
                                                 Registry& metrics);
    ~NetPort();

    enum class State : uint8_t { closed, open };
    void set_state(State state) { state_ = state; }
    void send(std::span<const std::byte> frame);
    // Tells the switches of this network that `mac` is here now (RARP, as live migration does).
    void announce(const vmm::MacAddress& mac);
    const std::string& device() const { return device_; }

  private:
    NetPort(boost::asio::io_context& context, int fd, std::string device, OnFrame on_frame,
            Registry& metrics);
    void wait_for_frames();
    void read_frames();

    std::string device_;
    std::string peer_path_;  // unix sockets only
    boost::asio::posix::stream_descriptor descriptor_;
    OnFrame on_frame_;
    State state_ = State::closed;
    Counter& sent_total_;
    Counter& received_total_;
    Counter& dropped_total_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace antipode::control
