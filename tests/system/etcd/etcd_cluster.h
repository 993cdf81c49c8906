// A cluster of real etcd members on loopback, with certificates of an authority of its own, whose
// members can be killed, started again and put back from copies.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/tiebreaker/child.h"
#include "tests/unit/tiebreaker/fixture.h"

namespace antipode::tiebreaker::testing {

// Whether Debian's etcd-server is there.
bool etcd_is_installed();

class EtcdCluster {
  public:
    explicit EtcdCluster(size_t members);

    void start_all();
    void start(size_t member);
    void kill(size_t member);  // SIGKILL, and waits for its end
    void kill_all();
    // Which member the cluster follows now; asks each that lives.
    size_t leader();
    size_t size() const { return members_.size(); }
    // Copies of the members' folders, while none lives.
    void save(const std::string& name);
    void put_back(const std::string& name);
    // etcdctl of the first member.
    Finished etcdctl(std::vector<std::string> arguments);
    // Takes the first member's data from what `etcdctl snapshot save` wrote, under the same token.
    void restore_snapshot(const std::string& file);

    EtcdSettings settings(const std::string& mark) const;
    Certificates& certificates() { return certificates_; }
    std::string path(std::string_view name) const { return directory_ / name; }

  private:
    struct MemberProcess {
        std::string name;
        uint16_t client_port = 0;
        uint16_t peer_port = 0;
        std::unique_ptr<DaemonProcess> process;
    };
    std::string client_url(const MemberProcess& member) const;
    std::string peer_url(const MemberProcess& member) const;
    std::string initial_cluster() const;

    TempDirectory directory_;
    Certificates certificates_{directory_};
    std::vector<MemberProcess> members_;
};

}  // namespace antipode::tiebreaker::testing
