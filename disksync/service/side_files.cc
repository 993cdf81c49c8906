#include "disksync/service/side_files.h"

#include <cerrno>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <unistd.h>

namespace antipode::disksync {

SideFiles::SideFiles(std::unique_ptr<env::Storage> metadata, std::string undo_path)
    : metadata_(std::move(metadata)), undo_path_(std::move(undo_path)) {
    find_kept();
    thread_ = std::thread([this] { main(); });
}

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

// NAME.undo.TIME
void SideFiles::find_kept() {
    const std::filesystem::path path(undo_path_);
    const std::string begin = path.filename().string() + ".";
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    std::error_code gone;
    for (std::filesystem::directory_iterator at(folder, gone), end; !gone && at != end;
         at.increment(gone)) {
        const std::string name = at->path().filename().string();
        if (name.rfind(begin, 0) != 0) continue;
        int64_t seconds = 0;
        const char* const last = name.data() + name.size();
        const auto read = std::from_chars(name.data() + begin.size(), last, seconds);
        if (read.ec == std::errc() && read.ptr == last) kept_[seconds] = at->path().string();
    }
}

std::vector<KeptUndo> SideFiles::kept_undo() const {
    const std::lock_guard lock(mutex_);
    std::vector<KeptUndo> found;
    for (const auto& [seconds, path] : kept_) {
        std::error_code gone;
        const uint64_t bytes = std::filesystem::file_size(path, gone);
        if (!gone) found.push_back({path, seconds, bytes});
    }
    return found;
}

Result<> SideFiles::remove_undo(Removal removal) {
    undo_.reset();
    int failed = 0;
    if (removal == Removal::keep) {
        const std::time_t now = std::time(nullptr);
        const std::string aside = fmt::format("{}.{}", undo_path_, now);
        failed = ::rename(undo_path_.c_str(), aside.c_str());
        const std::lock_guard lock(mutex_);
        if (failed == 0) kept_[now] = aside;
    } else {
        failed = ::unlink(undo_path_.c_str());
    }
    if (failed != 0 && errno != ENOENT) return fail_errno(errno, "{}: removing it", undo_path_);
    return env::sync_directory_of(undo_path_);
}

Result<> SideFiles::execute(const FileIo& io, Removal removal) {
    const bool undo = io.file == FileIo::File::undo;
    if (io.read_at) {
        if (!undo_) return fail(Errc::closed, "undo file {}: has been removed", undo_path_);
        SharedBytes into = io.data;
        return undo_->read(*io.read_at, into.writable());
    }
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
