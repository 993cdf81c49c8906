#include "disksync/undo_file.h"

#include <algorithm>
#include <unistd.h>

#include "common/base/all_zero.h"
#include "common/base/check.h"
#include "common/env/posix/storage_file.h"

namespace antipode::disksync {

Result<std::unique_ptr<UndoFile>> UndoFile::create(const std::string& path, DiskId disk,
                                                   Generation back_to) {
    FT_TRY(std::unique_ptr<env::Storage> file, env::StorageFile::create(path));
    const UndoLog log(disk, back_to);
    const MetaWrite header = log.header();
    auto written = file->write(header.offset_bytes, header.bytes);
    if (written) written = file->sync();
    if (!written) {
        ::unlink(path.c_str());
        return fail(std::move(written).error());
    }
    return std::unique_ptr<UndoFile>(new UndoFile(std::move(file), log));
}

Result<std::unique_ptr<UndoFile>> UndoFile::open(const std::string& path, DiskId disk) {
    FT_TRY(std::unique_ptr<env::Storage> file, env::StorageFile::open(path));
    FT_TRY(UndoLog log, UndoLog::load(*file, disk));
    return std::unique_ptr<UndoFile>(new UndoFile(std::move(file), std::move(log)));
}

Result<> UndoFile::save(std::span<const uint64_t> blocks, uint64_t disk_bytes,
                        const SubmitAndWait& disk) {
    std::vector<uint64_t> wanted(blocks.begin(), blocks.end());
    std::sort(wanted.begin(), wanted.end());
    wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
    std::vector<UndoLog::OldBlock> batch;
    for (const uint64_t block : wanted) {
        if (log_.contains(block)) continue;
        FT_CHECK(block * kBlockBytes < disk_bytes, "block {} of a disk of {} bytes", block,
                 disk_bytes);
        const uint64_t offset = block * kBlockBytes;
        UndoLog::OldBlock old{block,
                              wire::SharedBytes::make(std::min(kBlockBytes, disk_bytes - offset))};
        StoreRequest read;
        read.operation = StoreOperation::read;
        read.offset_bytes = offset;
        read.length_bytes = old.data.size();
        read.buffer = old.data.writable();
        FT_TRY_VOID(disk(std::move(read)));
        if (all_zero(old.data.span())) old.data = {};
        batch.push_back(std::move(old));
        if (batch.size() < UndoLog::kBlocksPerBatch) continue;
        FT_TRY_VOID(append(batch));
        batch.clear();
    }
    return batch.empty() ? Result<>() : append(batch);
}

Result<> UndoFile::append(std::span<const UndoLog::OldBlock> blocks) {
    for (const MetaWrite& write : log_.append(blocks)) {
        FT_TRY_VOID(storage_->write(write.offset_bytes, write.bytes));
    }
    FT_TRY_VOID(storage_->sync());
    log_.synced();
    return {};
}

Result<> UndoFile::check() {
    for (const uint64_t block : log_.blocks()) FT_TRY_VOID(log_.read(*storage_, block));
    return {};
}

Result<> UndoFile::put_back(uint64_t disk_bytes, Epoch epoch, const SubmitAndWait& disk) {
    for (const uint64_t block : log_.blocks()) {
        if (block * kBlockBytes >= disk_bytes) {
            return fail(Errc::corrupt, "undo file {}: has block {}, and the disk only {} bytes",
                        storage_->name(), block, disk_bytes);
        }
        FT_TRY(std::vector<std::byte> bytes, log_.read(*storage_, block));
        StoreRequest request;
        request.offset_bytes = block * kBlockBytes;
        request.length_bytes = std::min(kBlockBytes, disk_bytes - request.offset_bytes);
        request.operation = bytes.empty() ? StoreOperation::write_zeroes : StoreOperation::write;
        request.epoch = epoch;
        if (!bytes.empty()) request.buffer = bytes;
        FT_TRY_VOID(disk(std::move(request)));
    }
    StoreRequest flush;
    flush.operation = StoreOperation::flush;
    return disk(std::move(flush));
}

}  // namespace antipode::disksync
