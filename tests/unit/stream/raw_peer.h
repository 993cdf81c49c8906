// RawPeer: bare ZeroMQ sockets with the keys of one side, for saying to a channel what no channel
// of ours would say.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>
#include <zmq.h>

#include "common/base/check.h"
#include "common/wire/channel_frames.h"
#include "common/wire/checksum.h"
#include "tests/unit/stream/channel_pair.h"

namespace antipode::stream {

class RawPeer {
  public:
    // Speaks as `self`, to the channel of `other`, which must be configured for `self`.
    RawPeer(const ChannelPair& pair, const Side& self, const Side& other)
        : context_(zmq_ctx_new()),
          pull_(zmq_socket(context_, ZMQ_PULL)),
          push_(zmq_socket(context_, ZMQ_PUSH)) {
        const int one = 1;
        const int zero = 0;
        for (void* socket : {pull_, push_}) {
            set(socket, ZMQ_LINGER, &zero, sizeof zero);
            set(socket, ZMQ_CURVE_SECRETKEY, self.keys.secret_z85);
            set(socket, ZMQ_CURVE_PUBLICKEY, self.keys.public_key.z85);
        }
        set(pull_, ZMQ_CURVE_SERVER, &one, sizeof one);
        set(push_, ZMQ_CURVE_SERVERKEY, other.keys.public_key.z85);
        set(push_, ZMQ_IMMEDIATE, &one, sizeof one);
        FT_CHECK(zmq_bind(pull_, pair.endpoint(self).c_str()) == 0, "bind");
        FT_CHECK(zmq_connect(push_, pair.endpoint(other).c_str()) == 0, "connect");
    }
    ~RawPeer() {
        zmq_close(pull_);
        zmq_close(push_);
        zmq_ctx_term(context_);
    }
    RawPeer(const RawPeer&) = delete;
    RawPeer& operator=(const RawPeer&) = delete;

    bool try_send(std::span<const std::byte> bytes) {
        return zmq_send(push_, bytes.data(), bytes.size(), ZMQ_DONTWAIT) >= 0;
    }
    std::optional<std::vector<std::byte>> receive() {
        std::vector<std::byte> bytes(wire::kFrameBytesMax);
        const int size = zmq_recv(pull_, bytes.data(), bytes.size(), ZMQ_DONTWAIT);
        if (size < 0) return std::nullopt;
        bytes.resize(static_cast<size_t>(size));
        return bytes;
    }
    static std::vector<std::byte> frame(wire::Frame header, std::span<const std::byte> body) {
        header.body_bytes = static_cast<uint32_t>(body.size());
        header.body_checksum = wire::checksum64(body);
        const auto bytes = wire::encode(header);
        std::vector<std::byte> all(bytes.begin(), bytes.end());
        all.insert(all.end(), body.begin(), body.end());
        return all;
    }

  private:
    static void set(void* socket, int option, const void* value, size_t size) {
        FT_CHECK(zmq_setsockopt(socket, option, value, size) == 0, "option {}", option);
    }
    static void set(void* socket, int option, const std::string& value) {
        set(socket, option, value.data(), value.size());
    }

    void* context_;
    void* pull_;
    void* push_;
};

}  // namespace antipode::stream
