// The events of a replicator in journald, as fields that programs can select by:
//
//     journalctl ANTIPODE_PAIR=web1 ANTIPODE_EVENT=went_live -o json
//
//     MESSAGE, PRIORITY, ANTIPODE_EVENT (the stable code), ANTIPODE_PAIR, ANTIPODE_SITE,
//     ANTIPODE_SEQUENCE
//
// Threads: write() on the core thread; a thread of its own talks to journald, which may be slow.
// INVARIANTS: write() never waits; beyond kWaitingMax waiting events the newest is dropped and
// counted. Without journald (JOURNAL_STREAM is not set) each is a line of the log.
#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <string>

#include "replicator/control/control_api.h"

namespace antipode::control {

class SystemJournal {
  public:
    static constexpr int kWaitingMax = 256;

    SystemJournal(std::string pair, std::string site);
    ~SystemJournal();
    SystemJournal(const SystemJournal&) = delete;
    SystemJournal& operator=(const SystemJournal&) = delete;

    void write(const Event& event);
    uint64_t dropped() const { return dropped_; }

  private:
    const std::string pair_;
    const std::string site_;
    const bool journald_;
    std::atomic<int> waiting_{0};
    uint64_t dropped_ = 0;
    boost::asio::thread_pool worker_{1};
};

}  // namespace antipode::control
