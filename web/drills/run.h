// One drill under way: asks replicators, waits for what they say, and writes its report.
//
//     begin -> isolated: copy, check, digests, end of the copy
//              switchover: there, protected, back, protected
//              fault: begin, its end, protected again
//           -> conclude: the pair's protection meanwhile, the timeline, the verdict
//
// Threads: the web thread only.
// INVARIANTS: each wait is bounded; a stop is obeyed at the next one, and what was started at a
// replicator is ended before the report is written.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "web/drills/drills.h"

namespace antipode::web {

class DrillRun {
  public:
    DrillRun(Drills& drills, DrillEntry entry, DrillPlan plan);

    boost::asio::awaitable<void> run();
    void ask_to_stop();
    void see(const View& view);

    DrillEntry& entry() { return entry_; }
    const DrillReport& report() const { return report_; }

  private:
    using Seconds = std::chrono::duration<double>;
    using Step = boost::asio::awaitable<Result<>>;

    Step begin();
    Step isolated();
    Step wait_for_copy();
    Step wait_for_digests();
    Step end_copy();
    Step switchover();
    Step move(const std::string& to, std::optional<double>& pause_time);
    Step fault();
    Step wait_for_fault(bool kills);
    Step wait_until_protected();
    void conclude(const Result<>& done);
    void judge_protection();
    void measure_fault();

    boost::asio::awaitable<Result<control::ActionReply>> act(std::string socket,
                                                             control::Method method,
                                                             control::ActionRequest request);
    boost::asio::awaitable<Result<control::DrillStatus>> copy_status();
    boost::asio::awaitable<Result<control::Operation>> operation_status(uint64_t operation);
    // Waits a little; an error when the drill shall stop.
    Step pause();
    void note(std::string code, std::string text);
    std::vector<StoredEvent> events_since(int64_t since_unix_ms) const;  // oldest first
    void collect_events();
    const View* view_with(control::State state) const;
    const View* view_of(const std::string& socket) const;
    std::optional<double> pause_seconds(int64_t since_unix_ms) const;

    Drills& drills_;
    DrillEntry entry_;
    const DrillPlan plan_;
    DrillReport report_;
    boost::asio::steady_timer timer_;
    std::string socket_;  // of the replicator that it talks to
    bool stopping_ = false;
    bool stoppable_ = true;
    std::shared_ptr<std::atomic<bool>> given_up_ = std::make_shared<std::atomic<bool>>(false);
    bool copy_runs_ = false;
    bool fault_runs_ = false;
    uint64_t fault_operation_ = 0;
    int64_t fault_unix_ms_ = 0;
    Incarnation incarnation_{0};
    std::map<std::string, std::pair<uint64_t, uint64_t>> digests_before_;  // by view
};

}  // namespace antipode::web
