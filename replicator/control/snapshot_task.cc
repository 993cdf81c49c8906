#include "replicator/control/snapshot_task.h"

#include <boost/asio/post.hpp>
#include <filesystem>

namespace antipode::control {

Result<std::unique_ptr<SnapshotTask>> SnapshotTask::begin(boost::asio::io_context& context,
                                                          replay::VmEngine& engine, DiskSet& disks,
                                                          std::string path,
                                                          const SnapshotShape& shape,
                                                          OnDone on_done) {
    const std::filesystem::path file(path);
    std::error_code error;
    std::filesystem::create_directories(file.parent_path(), error);
    if (error) return antipode::fail(errno_error(error.value(), file.parent_path().string()));
    if (std::filesystem::exists(file, error)) {
        return antipode::fail(Errc::already_exists, "{}: exists", path);
    }
    FT_TRY(auto writer, SnapshotWriter::create(std::move(path), shape));
    auto task = std::unique_ptr<SnapshotTask>(
        new SnapshotTask(context, std::move(writer), std::move(on_done)));
    SnapshotTask* self = task.get();
    SeedSender::Hooks hooks;
    hooks.send = [self](std::span<const std::byte> bytes) { return self->send(bytes); };
    hooks.on_ready = [self] { self->sender_->cut(); };
    hooks.on_cut = [self](LogIndex, Duration stood) { self->stood_ = stood; };
    hooks.on_failed = [self](const std::string& text) { self->fail(text); };
    task->sender_ =
        std::make_unique<SeedSender>(0, engine, disks, SeedSender::Cut::snapshot, std::move(hooks));
    task->sender_->begin();
    return task;
}

SnapshotTask::SnapshotTask(boost::asio::io_context& context, SnapshotWriter writer, OnDone on_done)
    : context_(context), writer_(std::move(writer)), on_done_(std::move(on_done)) {}

SnapshotTask::~SnapshotTask() {
    *alive_ = false;
    worker_.join();
}

bool SnapshotTask::send(std::span<const std::byte> bytes) {
    if (over_) return true;  // nobody wants it any more
    if (queued_bytes_ >= kQueuedBytesMax) return false;
    queued_bytes_ += bytes.size();
    plain_bytes_ += bytes.size();
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    boost::asio::post(worker_, [this, alive = alive_, copy = std::move(copy)] {
        if (!*alive) return;
        const auto result = writer_.add(copy);
        boost::asio::post(context_, [this, alive, result, size = copy.size()] {
            if (*alive) written(size, result);
        });
    });
    return true;
}

void SnapshotTask::written(size_t bytes, const Result<void>& result) {
    queued_bytes_ -= bytes;
    if (over_) return;
    if (!result) return fail(result.error().to_string());
    sender_->progress(plain_bytes_ - queued_bytes_);
    if (sender_->done() && queued_bytes_ == 0) finish();
}

void SnapshotTask::finish() {
    if (std::exchange(finishing_, true)) return;
    boost::asio::post(worker_, [this, alive = alive_] {
        if (!*alive) return;
        const uint64_t file_bytes = writer_.bytes();
        const auto result = writer_.finish();
        boost::asio::post(context_, [this, alive, result, file_bytes] {
            if (!*alive || over_) return;
            if (!result) return fail(result.error().to_string());
            end(Figures{file_bytes, plain_bytes_, stood_, MonotonicClock::now() - began_});
        });
    });
}

void SnapshotTask::fail(const std::string& text) {
    end(antipode::fail(Errc::io, "{}", text));
}

void SnapshotTask::end(const Result<Figures>& result) {
    if (std::exchange(over_, true)) return;
    on_done_(result);
}

}  // namespace antipode::control
