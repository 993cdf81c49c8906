// For tests of two sites: one site's disk, its core loop's side of it, and its image's bytes.
#pragma once

#include <boost/asio/io_context.hpp>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <memory>
#include <string>

#include "replicator/control/disk_set.h"
#include "tests/unit/disksync/test_disk.h"

namespace antipode::control {

inline std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void put(const std::string& path, uint64_t offset, const std::string& bytes) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(offset));
    file << bytes;
    ASSERT_TRUE(file.good());
}

// One site's disk and its core loop.
struct Site {
    Site(const disksync::TemporaryDirectory& directory, const std::string& name, uint64_t bytes)
        : path(directory.image(name, bytes)) {}

    void open(boost::asio::io_context& core) {
        vmm::DriveConfig drive;
        drive.drive_id = "rootfs";
        drive.path_on_host = path;
        auto opened = DiskSet::open({drive}, Name::literal("web1"), path + ".state", core, metrics);
        ASSERT_TRUE(opened) << opened.error().to_string();
        disks = std::move(*opened);
        ASSERT_TRUE(disks->fence(Epoch(1)));
        disks->set_epoch(Epoch(1));
    }
    void write(uint64_t offset, uint8_t value, uint64_t bytes = 4096) {
        vmm::BlockRequest request;
        request.number = ++number;
        request.operation = vmm::BlockOperation::write;
        request.offset_bytes = offset;
        request.length_bytes = bytes;
        request.data.assign(bytes, std::byte{value});
        disks->submit(std::move(request));
    }

    std::string path;
    Registry metrics;
    std::unique_ptr<DiskSet> disks;
    uint64_t number = 0;
};

}  // namespace antipode::control
