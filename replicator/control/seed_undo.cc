#include "replicator/control/seed_undo.h"

#include <boost/asio/post.hpp>
#include <cerrno>
#include <map>
#include <unistd.h>

#include "common/base/log.h"
#include "common/env/posix/storage_file.h"

namespace antipode::control {

using disksync::Generation;
using disksync::UndoFile;

SeedUndo::SeedUndo(DiskSet& disks, boost::asio::io_context& core, boost::asio::thread_pool& work,
                   uint64_t bytes_max, Hooks hooks)
    : disks_(disks), core_(core), work_(work), bytes_max_(bytes_max), hooks_(std::move(hooks)) {
    for (uint32_t drive = 0; drive < disks_.drive_count(); ++drive) {
        if (const auto path = disks_.undo_path(drive)) places_.push_back({drive, *path});
    }
}

Result<void> SeedUndo::load() {
    for (const auto& [drive, path] : places_) {
        auto opened = UndoFile::open(path, disks_.copy_id(drive));
        if (!opened) {
            if (opened.error().code != Errc::not_found) {
                logger("disksync").warn("{}; it is removed", opened.error().to_string());
            }
            return forget();
        }
        files_.push_back({drive, std::move(*opened)});
        const auto back_to = [](const File& file) { return file.undo->log().back_to(); };
        if (back_to(files_.front()) != back_to(files_.back())) return forget();
    }
    count_up();
    return {};
}

Result<void> SeedUndo::begin(Epoch back_to) {
    if (counts() || bytes_max_ == 0) return {};
    FT_TRY_VOID(forget());
    if (auto created = create(back_to); !created) return give_up(created.error().to_string());
    count_up();
    return {};
}

Result<void> SeedUndo::create(Epoch back_to) {
    for (const auto& [drive, path] : places_) {
        FT_TRY(auto undo,
               UndoFile::create(path, disks_.copy_id(drive), Generation(back_to.value())));
        files_.push_back({drive, std::move(undo)});
    }
    return {};
}

// The files as they are, of one beginning.
void SeedUndo::count_up() {
    if (files_.empty()) return;  // there is no drive to write, or it was given up
    Status status{Epoch(files_.front().undo->log().back_to().value())};
    for (const File& file : files_) {
        status.blocks += file.undo->log().count();
        status.bytes += file.undo->log().bytes();
    }
    {
        const std::lock_guard lock(status_mutex_);
        status_ = status;
    }
    state_.store(State::counts, std::memory_order_release);
}

SeedUndo::Status SeedUndo::status() const {
    const std::lock_guard lock(status_mutex_);
    return status_;
}

disksync::SubmitAndWait SeedUndo::disk(uint32_t drive) {
    return [this, drive](disksync::StoreRequest&& request) {
        return disks_.run_now(drive, std::move(request));
    };
}

Result<void> SeedUndo::put_back(Epoch epoch) {
    if (!counts()) return {};
    const Status kept = status();
    for (const File& file : files_) {
        const auto sound = file.undo->check();
        if (!sound) return give_up(sound.error().to_string());
    }
    for (const File& file : files_) {
        FT_TRY_VOID(file.undo->put_back(disks_.size_bytes(file.drive), epoch, disk(file.drive)));
    }
    FT_TRY_VOID(forget());
    boost::asio::post(core_, [this, alive = alive_, kept] {
        if (*alive) hooks_.on_put_back(kept.back_to, kept.blocks);
    });
    return {};
}

// The first file that is gone durably takes the others' word away.
Result<void> SeedUndo::forget() {
    files_.clear();
    state_.store(State::in_the_way, std::memory_order_release);
    for (const auto& [drive, path] : places_) {
        if (::unlink(path.c_str()) != 0) {
            if (errno == ENOENT) continue;
            return fail_errno(errno, "undo file {}: removing it", path);
        }
        FT_TRY_VOID(env::sync_directory_of(path));
    }
    state_.store(State::none, std::memory_order_release);
    return {};
}

Result<void> SeedUndo::give_up(const std::string& why) {
    FT_TRY_VOID(forget());
    boost::asio::post(core_, [this, alive = alive_, why] {
        if (*alive) hooks_.on_given_up(why);
    });
    return {};
}

void SeedUndo::save_then(const DriveChunk& chunk, std::function<void(Result<void>)> saved) {
    wanted_.push_back({chunk, std::move(saved)});
    if (!saving_) save_next();
}

// A batch at a time, so that what else the disk thread has to do comes in between.
void SeedUndo::save_next() {
    if (wanted_.empty()) return;
    saving_ = true;
    auto batch = std::make_shared<std::vector<Wanted>>();
    while (!wanted_.empty() && batch->size() < kBatchChunks) {
        batch->push_back(std::move(wanted_.front()));
        wanted_.pop_front();
    }
    const auto over = [this, alive = alive_, batch](const Result<void>& result) {
        if (!*alive) return;
        for (const Wanted& each : *batch) each.saved(result);
        saving_ = false;
        save_next();
    };
    if (state_.load(std::memory_order_acquire) == State::none) return over({});
    boost::asio::post(work_, [this, batch, over] {
        boost::asio::post(core_, [over, result = save(*batch)] { over(result); });
    });
}

Result<void> SeedUndo::save(const std::vector<Wanted>& batch) {
    if (state_.load(std::memory_order_acquire) == State::in_the_way) FT_TRY_VOID(forget());
    std::map<uint32_t, std::vector<uint64_t>> blocks;
    for (const Wanted& each : batch) blocks[each.chunk.drive].push_back(each.chunk.index);
    for (const File& file : files_) {
        const auto saved =
            file.undo->save(blocks[file.drive], disks_.size_bytes(file.drive), disk(file.drive));
        if (!saved) return give_up(saved.error().to_string());
    }
    count_up();
    if (!counts() || status().bytes <= bytes_max_) return {};
    return give_up(
        fmt::format("it would take more than {} MiB (pair.seed_undo_max_mib)", bytes_max_ >> 20));
}

}  // namespace antipode::control
