#include "replicator/control/watchdog.h"

#include <systemd/sd-daemon.h>

#include "common/base/log.h"

namespace antipode::control {

Watchdog::Watchdog(boost::asio::io_context& context, std::chrono::microseconds limit,
                   std::vector<Part> parts, std::function<void()> notify)
    : timer_(context), interval_(limit / kLooksPerLimit), notify_(std::move(notify)) {
    for (auto& part : parts) parts_.push_back({std::move(part), {}, 0});
    (void)look();
    wait();
}

std::unique_ptr<Watchdog> Watchdog::for_systemd(boost::asio::io_context& context,
                                                std::vector<Part> parts) {
    uint64_t limit_us = 0;
    if (::sd_watchdog_enabled(0, &limit_us) <= 0) return nullptr;
    return std::make_unique<Watchdog>(context, std::chrono::microseconds(limit_us),
                                      std::move(parts), [] { ::sd_notify(0, "WATCHDOG=1"); });
}

void Watchdog::wait() {
    timer_.expires_after(interval_);
    timer_.async_wait([this](const boost::system::error_code& error) {
        if (error) return;
        (void)look();
        wait();
    });
}

std::vector<std::string> Watchdog::look() {
    std::vector<std::string> hung;
    for (Watched& watched : parts_) {
        judge(watched);
        if (watched.misses >= kMissesMax) hung.push_back(watched.part.name);
    }
    if (hung.empty()) notify_();
    return hung;
}

void Watchdog::judge(Watched& watched) {
    const auto turns = watched.part.turns();
    const bool came_by = !turns || turns != watched.seen;
    watched.seen = turns;
    if (came_by) {
        if (watched.misses >= kMissesMax) {
            logger("control").warn("{} turns again", watched.part.name);
        }
        watched.misses = 0;
        return;
    }
    if (++watched.misses == kMissesMax) {
        logger("control").error("{} does not turn: this process is to be ended", watched.part.name);
    }
    if (watched.part.prod) watched.part.prod();
}

}  // namespace antipode::control
