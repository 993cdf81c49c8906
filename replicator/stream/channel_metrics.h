// ChannelMetrics: a channel's figures in the process's Registry. Counters there follow the
// channel's own; set() is called by the ZeroMQ thread, some times a second.
#pragma once

#include "common/base/metrics.h"
#include "replicator/stream/channel_stats.h"

namespace antipode::stream {

class ChannelMetrics {
  public:
    explicit ChannelMetrics(Registry& registry);
    void set(const ChannelStats& stats);

  private:
    // A counter that shows a total kept elsewhere.
    struct Follower {
        Counter* counter = nullptr;
        uint64_t shown = 0;
        void show(uint64_t total);
    };
    struct Stream {
        Follower messages_sent, messages_received, frames_repeated, payload_sent, payload_received,
            body_sent, body_received, duplicates, gap_frames;
        Gauge* waiting_bytes = nullptr;
    };

    PerClass<Stream> streams_;
    Follower wire_sent_, wire_received_, reconnects_, sessions_, resumes_, garbage_, stale_session_,
        refused_keys_, refused_peers_;
    Gauge* rtt_;
    Gauge* jitter_;
    Gauge* sent_rate_;
    Gauge* received_rate_;
    Gauge* bulk_window_;
    Gauge* bulk_queue_delay_;
    Gauge* bulk_cap_;
    Gauge* bulk_level_;
};

}  // namespace antipode::stream
