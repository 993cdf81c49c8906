// Runs our programs as children, with what they print.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

namespace antipode::tiebreaker::testing {

struct Finished {
    int exit_code = -1;  // -1: ended by a signal
    std::string out;
    std::string error;
};

// Runs it to its end, in `directory`.
Finished run(const std::string& directory, std::vector<std::string> arguments);

// A daemon that is told when it is ready through a NOTIFY_SOCKET of our own.
class DaemonProcess {
  public:
    DaemonProcess(const std::string& directory, std::vector<std::string> arguments,
                  std::vector<std::string> environment = {});
    ~DaemonProcess();
    DaemonProcess(const DaemonProcess&) = delete;
    DaemonProcess& operator=(const DaemonProcess&) = delete;

    // Until a message that begins with `prefix` has come; returns it, or "" after twenty seconds or
    // when the process has ended.
    std::string await(const std::string& prefix);
    void signal(int number);
    int wait();  // the exit code, or minus the signal
    std::string log() const;
    pid_t pid() const { return pid_; }

  private:
    std::string directory_;
    std::string log_path_;
    int notify_ = -1;
    pid_t pid_ = -1;
};

}  // namespace antipode::tiebreaker::testing
