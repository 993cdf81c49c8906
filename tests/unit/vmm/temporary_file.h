// A file with given bytes that goes away with the test.
#pragma once

#include <cstdlib>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <unistd.h>

namespace antipode::vmm {

class TemporaryFile {
  public:
    explicit TemporaryFile(std::span<const std::byte> bytes) {
        std::string name = "/tmp/antipode-test-XXXXXX";
        const int fd = mkstemp(name.data());
        if (fd < 0) throw std::runtime_error("mkstemp");
        close(fd);
        path_ = name;
        std::ofstream file(path_, std::ios::binary);
        file.write(reinterpret_cast<const char*>(bytes.data()),
                   static_cast<std::streamsize>(bytes.size()));
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() { unlink(path_.c_str()); }
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace antipode::vmm
