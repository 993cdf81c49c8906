// A file with given bytes that goes away with the test: in memory, under a name in /proc.
#pragma once

#include <fmt/format.h>
#include <span>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/unique_fd.h"

namespace antipode::vmm {

class TemporaryFile {
  public:
    explicit TemporaryFile(std::span<const std::byte> bytes)
        : fd_(memfd_create("antipode-test", MFD_CLOEXEC)),
          path_(fmt::format("/proc/self/fd/{}", fd_.get())) {
        if (!fd_) throw std::runtime_error("memfd_create");
        while (!bytes.empty()) {
            const ssize_t count = write(fd_.get(), bytes.data(), bytes.size());
            if (count <= 0) throw std::runtime_error("write");
            bytes = bytes.subspan(static_cast<size_t>(count));
        }
    }
    const std::string& path() const { return path_; }

  private:
    UniqueFd fd_;
    std::string path_;
};

}  // namespace antipode::vmm
