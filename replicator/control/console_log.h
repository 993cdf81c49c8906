// ConsoleLog: the guest's console on disk, console.log in the pair's state directory, and one older
// file.
//
// What the guest printed and what was released: under the Output Rule like everything the world can
// see. Core thread; writes are small and buffered by the kernel. A full disk costs console text,
// not the VM.
#pragma once

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <unistd.h>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace antipode::control {

class ConsoleLog {
  public:
    static constexpr size_t kFileBytesMax = 4 << 20;

    Result<void> open(const std::string& path) {
        path_ = path;
        fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
        if (!fd_) return fail_errno(errno, "{}", path);
        const off_t end = lseek(fd_.get(), 0, SEEK_END);
        bytes_ = end < 0 ? 0 : static_cast<size_t>(end);
        return {};
    }

    void write(std::string_view text) {
        if (bytes_ + text.size() > kFileBytesMax) {
            (void)std::rename(path_.c_str(), (path_ + ".1").c_str());
            if (!open(path_)) return;
        }
        if (::write(fd_.get(), text.data(), text.size()) > 0) bytes_ += text.size();
    }

  private:
    std::string path_;
    UniqueFd fd_;
    size_t bytes_ = 0;
};

}  // namespace antipode::control
