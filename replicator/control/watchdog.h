// Watchdog: tells the service manager that this process lives, for as long as its parts come by.
//
// It looks four times within the limit. A part is a thread with a number that grows whenever it
// comes by. One that has not since the last look is prodded, for it may only be waiting; one that
// three looks in a row have not seen is hung, and nothing is told any more until it comes by again.
// What ends the process then is the service manager (WatchdogSec= of the unit): a thread that hangs
// in the kernel cannot be ended from within, and the next process is another member.
//
// It counts looks and reads no clock: a process that stood still as a whole (SIGSTOP, a host that
// was suspended) is not hung when it goes on.
//
// Threads: the core thread's. A core loop that does not turn does not look, hence tells nothing.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace antipode::control {

class Watchdog {
  public:
    struct Part {
        std::string name;
        // nullopt: there is nothing now that could hang.
        std::function<std::optional<uint64_t>()> turns;
        std::function<void()> prod;  // makes it come by; may be empty
    };
    static constexpr int kLooksPerLimit = 4;
    static constexpr int kMissesMax = 3;

    // `notify` is called from the constructor on, while all parts come by.
    Watchdog(boost::asio::io_context& context, std::chrono::microseconds limit,
             std::vector<Part> parts, std::function<void()> notify);
    // What systemd asks for in the environment; nullptr if it does not watch.
    static std::unique_ptr<Watchdog> for_systemd(boost::asio::io_context& context,
                                                 std::vector<Part> parts);

    // For tests: what the timer does. The parts that hang.
    std::vector<std::string> look();

  private:
    struct Watched {
        Part part;
        std::optional<uint64_t> seen;
        int misses = 0;
    };
    void wait();
    void judge(Watched& watched);

    boost::asio::steady_timer timer_;
    const std::chrono::microseconds interval_;
    std::vector<Watched> parts_;
    const std::function<void()> notify_;
};

}  // namespace antipode::control
