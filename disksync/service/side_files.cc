#include "disksync/service/side_files.h"

#include <cerrno>
#include <ctime>
#include <unistd.h>

namespace antipode::disksync {

SideFiles::SideFiles(std::unique_ptr<env::Storage> metadata, std::string undo_path)
    : metadata_(std::move(metadata)),
      undo_path_(std::move(undo_path)),
      thread_([this] { main(); }) {}

SideFiles::~SideFiles() {
    {
        const std::lock_guard lock(mutex_);
        closing_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void SideFiles::run(std::function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(task));
    }
    changed_.notify_one();
}

void SideFiles::submit(FileIo io, Removal removal, std::function<void(Result<>)> done) {
    const auto shared = std::make_shared<FileIo>(std::move(io));
    run([this, shared, removal, done = std::move(done)] { done(execute(*shared, removal)); });
}

void SideFiles::main() {
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
        if (queue_.empty()) return;
        const std::function<void()> task = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        task();
        lock.lock();
    }
}

Result<> SideFiles::open_undo() {
    FT_TRY(undo_, env::StorageFile::open(undo_path_));
    return {};
}

Result<> SideFiles::remove_undo(Removal removal) {
    undo_.reset();
    int failed = 0;
    if (removal == Removal::keep) {
        const std::string aside = fmt::format("{}.{}", undo_path_, std::time(nullptr));
        failed = ::rename(undo_path_.c_str(), aside.c_str());
    } else {
        failed = ::unlink(undo_path_.c_str());
    }
    if (failed != 0 && errno != ENOENT) return fail_errno(errno, "{}: removing it", undo_path_);
    return env::sync_directory_of(undo_path_);
}

Result<> SideFiles::execute(const FileIo& io, Removal removal) {
    const bool undo = io.file == FileIo::File::undo;
    if (undo && io.remove) return remove_undo(removal);
    if (undo && !undo_) {
        // What lies there belongs to no record any more.
        if (::unlink(undo_path_.c_str()) != 0 && errno != ENOENT) {
            return fail_errno(errno, "{}: removing an old one", undo_path_);
        }
        FT_TRY(undo_, env::StorageFile::create(undo_path_));
    }
    env::Storage& file = undo ? *undo_ : *metadata_;
    for (const MetaWrite& write : io.writes) {
        FT_TRY_VOID(file.write(write.offset_bytes, write.bytes));
    }
    return file.sync();
}

}  // namespace antipode::disksync
