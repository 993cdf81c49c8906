// SnapshotTask: writes the running VM to a snapshot file, as a seed is sent: in rounds while it
// runs, and what is left while it stands for a moment between two exits. It works on a recording
// and on a replaying VM, and neither notices.
//
// Core thread; compressing and writing are done on a thread of the task's own, with at most
// kQueuedBytesMax waiting for it. Destroyed before it is done: the VM is let go and nothing is left
// of the file.
//
// INVARIANT: on_done() is called once, at the end or at the first error; the file has its name only
// if it is complete and durable.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <string>

#include "replicator/control/seed_sender.h"
#include "replicator/control/snapshot_file.h"

namespace antipode::control {

class SnapshotTask {
  public:
    static constexpr uint64_t kQueuedBytesMax = 16 << 20;

    struct Figures {
        uint64_t file_bytes = 0;
        uint64_t plain_bytes = 0;
        Duration stood{};  // the VM, at the end
        Duration took{};
    };
    using OnDone = std::function<void(const Result<Figures>&)>;

    // Writes to `path`, which must not exist.
    static Result<std::unique_ptr<SnapshotTask>> begin(boost::asio::io_context& context,
                                                       replay::VmEngine& engine, DiskSet& disks,
                                                       std::string path, const SnapshotShape& shape,
                                                       OnDone on_done);
    ~SnapshotTask();

    // The engine's answers.
    void dirty_pages(const std::vector<uint64_t>& bitmap) { sender_->dirty_pages(bitmap); }
    bool waits_for(uint64_t snapshot) const { return sender_->snapshot() == snapshot; }
    void standing(std::unique_ptr<replay::VmState> state, LogIndex position,
                  const OutputGate& gate) {
        sender_->standing(std::move(state), position, gate);
    }
    double ratio() const { return sender_->ratio(); }
    bool over() const { return over_; }
    void fail(const std::string& text);

  private:
    SnapshotTask(boost::asio::io_context& context, SnapshotWriter writer, OnDone on_done);
    bool send(std::span<const std::byte> bytes);
    void written(size_t bytes, const Result<void>& result);
    void finish();
    void end(const Result<Figures>& result);

    boost::asio::io_context& context_;
    SnapshotWriter writer_;  // the worker's
    OnDone on_done_;
    std::unique_ptr<SeedSender> sender_;
    const Instant began_ = MonotonicClock::now();
    uint64_t queued_bytes_ = 0;
    uint64_t plain_bytes_ = 0;
    Duration stood_{};
    bool finishing_ = false;
    bool over_ = false;
    std::shared_ptr<std::atomic<bool>> alive_ = std::make_shared<std::atomic<bool>>(true);
    boost::asio::thread_pool worker_{1};
};

}  // namespace antipode::control
