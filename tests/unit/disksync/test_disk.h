// Files for tests of disks: a directory that goes away, images of a size, and blocking requests.
#pragma once

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "common/base/unique_fd.h"
#include "disksync/local_store.h"

namespace antipode::disksync {

class TemporaryDirectory {
  public:
    TemporaryDirectory() {
        std::string pattern = (std::filesystem::temp_directory_path() / "antipode-XXXXXX").string();
        if (!::mkdtemp(pattern.data())) std::abort();
        path_ = pattern;
    }
    ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    std::string file(const std::string& name) const { return path_ + "/" + name; }
    // A sparse file of this size.
    std::string image(const std::string& name, uint64_t size_bytes) const {
        const std::string path = file(name);
        const UniqueFd fd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
        if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) std::abort();
        return path;
    }

  private:
    std::string path_;
};

inline std::vector<std::byte> pattern(size_t bytes, uint8_t seed) {
    std::vector<std::byte> result(bytes);
    for (size_t index = 0; index < bytes; ++index) {
        result[index] = static_cast<std::byte>((index * 7 + index / 512 + seed) & 0xff);
    }
    return result;
}

inline StoreRequest write_request(uint64_t offset, std::vector<std::byte>& bytes,
                                  Epoch epoch = Epoch()) {
    StoreRequest request;
    request.operation = StoreOperation::write;
    request.offset_bytes = offset;
    request.length_bytes = bytes.size();
    request.buffer = bytes;
    request.epoch = epoch;
    return request;
}

inline Result<> write_at(LocalStore& store, uint64_t offset, std::vector<std::byte> bytes,
                         Fua fua = Fua::no, Epoch epoch = Epoch()) {
    StoreRequest request = write_request(offset, bytes, epoch);
    request.fua = fua;
    return run_blocking(store, std::move(request));
}

inline Result<std::vector<std::byte>> read_at(LocalStore& store, uint64_t offset, size_t length) {
    std::vector<std::byte> bytes(length);
    StoreRequest request;
    request.operation = StoreOperation::read;
    request.offset_bytes = offset;
    request.length_bytes = length;
    request.buffer = bytes;
    FT_TRY_VOID(run_blocking(store, std::move(request)));
    return bytes;
}

inline Result<> range_at(LocalStore& store, StoreOperation operation, uint64_t offset,
                         uint64_t length, Fua fua = Fua::no) {
    StoreRequest request;
    request.operation = operation;
    request.offset_bytes = offset;
    request.length_bytes = length;
    request.fua = fua;
    return run_blocking(store, std::move(request));
}

inline Result<> flush(LocalStore& store) {
    return range_at(store, StoreOperation::flush, 0, 0);
}

#define ASSERT_OK(expression)                                                \
    do {                                                                     \
        auto&& ok_result = (expression);                                     \
        ASSERT_TRUE(ok_result.has_value()) << ok_result.error().to_string(); \
    } while (false)
#define EXPECT_OK(expression)                                                \
    do {                                                                     \
        auto&& ok_result = (expression);                                     \
        EXPECT_TRUE(ok_result.has_value()) << ok_result.error().to_string(); \
    } while (false)
#define EXPECT_ERROR(expression, expected)                                                  \
    do {                                                                                    \
        auto&& error_result = (expression);                                                 \
        ASSERT_FALSE(error_result.has_value());                                             \
        EXPECT_EQ(error_result.error().code, expected) << error_result.error().to_string(); \
    } while (false)

}  // namespace antipode::disksync
