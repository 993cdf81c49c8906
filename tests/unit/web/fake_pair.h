// A protected VM that is not there: the two replicators of a pair as their control sockets show
// them, with numbers that move like the real ones. The web daemon's tests, and its page's, play
// scenes on it.
//
// Threads: one; every time is an argument.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "replicator/control/control_journal.h"
#include "replicator/control/control_server.h"

namespace antipode::web::test {

class FakePair {
  public:
    FakePair(std::string name, std::string site_a, std::string site_b, uint64_t seed,
             std::function<int64_t()> now_unix_ms);

    // A site's side of it: what its replicator would answer.
    control::ControlHandler& handler(size_t site) { return *handlers_[site]; }
    // One second passes.
    void tick();
    // Fills the charts as if it had run for that long.
    void run_for(int seconds);

    // Scenes.
    void kill(
        size_t site);  // its control socket must be closed by the caller; the other takes over
    void cut_link();   // both alive, link gone: the primary wins, the backup halts
    void heal_link();
    void lose_tiebreaker();
    void find_tiebreaker();
    void lose_everything(size_t frozen_site);  // peer and tiebreaker gone: frozen
    void diverge();                            // a digest differs, and is healed
    void use_checkpoints() { checkpoints_ = true; }
    void lose_copy() { copy_lacks_ = true; }  // what this site has may lack acknowledged writes
    void begin_sync(size_t target);           // a new backup is being filled
    void switch_roles();

    control::Status status(size_t site) const;
    const std::string& name() const { return name_; }
    const std::string& site_name(size_t site) const { return sides_[site].name; }
    std::vector<control::ActionRequest> requests;  // every action asked for, for tests
    std::vector<control::Method> methods;          // and its method
    size_t statuses_asked = 0;

  private:
    class Handler;
    struct Side {
        std::string name;
        control::State state = control::State::starting;
        std::string reason;
        int64_t since = 0;
        Incarnation incarnation{0};
        bool alive = true;
        control::ControlJournal journal;
        std::vector<control::Alert> alerts;
    };
    void set_state(size_t site, control::State state, std::string reason);
    void take_over(size_t site);
    void event(size_t site, control::EventCode code, std::string text);
    control::Status make_status(size_t site) const;
    Result<control::json::value> act(size_t site, control::Method method,
                                     const control::ActionRequest& request);
    Result<control::json::value> begin(size_t site, control::Method method,
                                       const control::ActionRequest& request,
                                       std::string consequence);
    Result<control::json::value> act_on_drill(size_t site, control::Method method,
                                              const control::ActionRequest& request);
    void tick_drill();
    void finish_operations();
    void fill_checkpoints(control::Status& status, size_t site) const;
    void fill_link(control::Status& status) const;
    void fill_tiebreaker(control::Status& status, size_t site) const;
    void fill_disks(control::Status& status, size_t site) const;

    const std::string name_;
    const std::function<int64_t()> now_;
    int64_t shift_ms_ = 0;  // run_for() writes the past
    Random random_;
    std::array<Side, 2> sides_;
    std::array<std::unique_ptr<control::ControlHandler>, 2> handlers_;
    size_t primary_ = 0;
    uint64_t epoch_ = 7;
    bool link_up_ = true;
    bool tiebreaker_up_ = true;
    bool paused_ = false;
    std::string record_holder_;  // empty = paired
    double rtt_ = 0.0502;
    double load_ = 0.3;
    double lag_ = 0.027;
    double loss_ = 0;
    double sync_ratio_ = -1;
    size_t sync_target_ = 0;
    uint64_t exits_ = 48'211'904;
    uint64_t log_index_ = 9'302'118;
    uint64_t released_ = 2'117'554;
    uint64_t sent_bytes_ = 311'000'000;
    uint64_t digests_ = 18'122;
    bool checkpoints_ = false;
    bool copy_lacks_ = false;
    uint64_t mismatches_ = 0;
    double uptime_ = 7'483'000;
    uint64_t written_bytes_ = 88'000'000'000;
    struct Running {
        size_t site;
        uint64_t id;
        control::Method method;
        int ticks;
    };
    std::vector<Running> running_;
    std::optional<control::DrillStatus> drill_;
    std::string drill_console_;
    bool drill_typed_ = false;
};

}  // namespace antipode::web::test
