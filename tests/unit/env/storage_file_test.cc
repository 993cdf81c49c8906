#include "common/env/posix/storage_file.h"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace antipode::env {
namespace {

constexpr uid_t kService = 4711;
constexpr gid_t kServiceGroup = 4712;

class StorageFileTest : public testing::Test {
  protected:
    StorageFileTest() {
        std::string folder = (std::filesystem::temp_directory_path() / "antipode-XXXXXX").string();
        folder_ = ::mkdtemp(folder.data());
    }
    ~StorageFileTest() override { std::filesystem::remove_all(folder_); }

    std::filesystem::path folder_;
};

TEST_F(StorageFileTest, WhatRootMakesForAServiceIsTheServices) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(::chown(folder_.c_str(), kService, kServiceGroup), 0);
    const std::string path = folder_ / "file";
    ASSERT_TRUE(StorageFile::create(path).has_value());
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, kService);
    EXPECT_EQ(info.st_gid, kServiceGroup);
    EXPECT_EQ(info.st_mode & 0777, 0640U);
}

TEST_F(StorageFileTest, InADirectoryOfItsOwnItKeepsIt) {
    const std::string path = folder_ / "file";
    ASSERT_TRUE(StorageFile::create(path).has_value());
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, ::geteuid());
}

}  // namespace
}  // namespace antipode::env
