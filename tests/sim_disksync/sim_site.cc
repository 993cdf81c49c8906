#include "tests/sim_disksync/sim_site.h"

#include <gtest/gtest.h>

#include "disksync/disk_metadata.h"

namespace antipode::disksync {

SimSite::SimSite(SimSiteConfig config, SimClock& clock, Random& random)
    : config_(std::move(config)), clock_(clock), random_(random) {
    for (size_t index = 0; index < config_.disks; ++index) {
        disks_.push_back(std::make_unique<SimDisk>(config_.size_bytes, random_));
        metadata_.push_back(std::make_unique<CrashDisk>(random_.next()));
        undo_.push_back(std::make_unique<CrashDisk>(random_.next()));
        Superblock first;
        first.pair = config_.node.pair;
        first.disk = Name::literal("disk" + std::to_string(index));
        first.size_bytes = config_.size_bytes;
        first.id = DiskId(config_.id * 100 + index);
        first.state = DiskState::up_to_date;
        first.generations.current = kEmptyGeneration;
        first.generation_shared = true;
        auto created = DiskMetadata::create(metadata_.back()->attach(), first);
        EXPECT_TRUE(created.has_value()) << created.error().to_string();
    }
    metadata_files_.resize(config_.disks);
    undo_files_.resize(config_.disks);
    undo_exists_.resize(config_.disks);
    file_free_.resize(config_.disks);
}

std::vector<Node::DiskConfig> SimSite::load() {
    std::vector<Node::DiskConfig> loaded;
    for (size_t index = 0; index < disks_.size(); ++index) {
        metadata_files_[index] = metadata_[index]->attach();
        undo_files_[index] = undo_[index]->attach();
        auto record = DiskRecord::load(*metadata_files_[index], config_.log_extents);
        EXPECT_TRUE(record.has_value()) << record.error().to_string();
        Node::DiskConfig disk{std::move(*record), std::nullopt};
        if (disk.record.superblock().undo_kept && undo_exists_[index]) {
            auto undo = UndoLog::load(*undo_files_[index], disk.record.superblock().id);
            EXPECT_TRUE(undo.has_value()) << undo.error().to_string();
            disk.undo = std::move(*undo);
        }
        loaded.push_back(std::move(disk));
    }
    return loaded;
}

void SimSite::start() {
    ++life_;
    node_ = std::make_unique<Node>(config_.node, load(), config_.id * 1'000'003 + ++seeds_);
    node_->tick(clock_.now(), 0);
    run_outputs();
}

void SimSite::crash(Crash how) {
    node_.reset();
    ++life_;
    for (size_t index = 0; index < disks_.size(); ++index) {
        how == Crash::kill ? disks_[index]->kill() : disks_[index]->power_failure();
        how == Crash::kill ? metadata_[index]->process_killed() : metadata_[index]->power_cycle();
        how == Crash::kill ? undo_[index]->process_killed() : undo_[index]->power_cycle();
    }
}

Duration SimSite::delay(double mean_us) {
    return std::chrono::nanoseconds(
        static_cast<int64_t>(mean_us * 1000 * (0.2 + 1.6 * random_.unit())));
}

void SimSite::run_outputs() {
    if (!node_ || running_outputs_) return;
    running_outputs_ = true;
    NodeOutputs outputs = node_->take_outputs();
    running_outputs_ = false;
    for (NodeEvent& event : outputs.events) on_event(event);
    for (SyncFrame& frame : outputs.frames) send(std::move(frame));
    for (LocalIo& io : outputs.local) run_local(std::move(io));
    for (FileIo& io : outputs.files) run_file(std::move(io));
    if (outputs.disconnect) disconnect();
    for (NodeAnswer& answer : outputs.answers) answered(answer);
}

void SimSite::run_local(LocalIo&& io) {
    SimDisk& disk = *disks_[io.disk];
    disk.submit(io);
    const double mean = io.operation == StoreOperation::flush ? 400 : 80;
    const uint64_t life = life_;
    clock_.at(delay(mean), [this, life, &disk, io = std::move(io)]() mutable {
        if (life != life_) return;
        node_->tick(clock_.now(), 0);
        node_->local_done(disk.complete(io));
        run_outputs();
    });
}

// In order, and in three steps with a crash possible between any two: writes, sync, answer.
void SimSite::run_file(FileIo&& io) {
    const uint64_t life = life_;
    const bool undo = io.file == FileIo::File::undo;
    const uint16_t index = io.disk;
    file_free_[index] = std::max(file_free_[index], clock_.now()) + delay(200);
    const Duration first = file_free_[index] - clock_.now();
    file_free_[index] += delay(300);
    const Duration second = file_free_[index] - clock_.now();
    const Ticket ticket = io.ticket;
    const bool remove = io.remove;
    if (io.read_at) return read_file(std::move(io), first);
    clock_.at(first, [this, life, undo, index, io = std::move(io)]() mutable {
        if (life != life_) return;
        env::Storage& file = undo ? *undo_files_[index] : *metadata_files_[index];
        if (undo) undo_exists_[index] = !io.remove;
        if (io.remove) {
            EXPECT_TRUE(file.resize(0).has_value());
        }
        for (const MetaWrite& write : io.writes) {
            EXPECT_TRUE(file.write(write.offset_bytes, write.bytes).has_value());
        }
    });
    clock_.at(second, [this, life, undo, index, ticket, remove] {
        if (life != life_) return;
        env::Storage& file = undo ? *undo_files_[index] : *metadata_files_[index];
        if (!remove) {
            EXPECT_TRUE(file.sync().has_value());
        }
        node_->tick(clock_.now(), 0);
        node_->file_done(ticket, {});
        run_outputs();
    });
}

void SimSite::read_file(FileIo&& io, Duration delay) {
    clock_.at(delay, [this, life = life_, io = std::move(io)]() mutable {
        if (life != life_) return;
        const auto read = undo_files_[io.disk]->read(*io.read_at, io.data.writable());
        node_->tick(clock_.now(), 0);
        node_->file_done(io.ticket, read);
        run_outputs();
    });
}

Superblock SimSite::record_on_disk(size_t index) {
    auto storage = metadata_[index]->attach();
    auto record = DiskRecord::load(*storage, config_.log_extents);
    EXPECT_TRUE(record.has_value());
    return record->superblock();
}

SimDisk::Sectors SimSite::undone(size_t index) {
    SimDisk::Sectors sectors = disks_[index]->contents();
    auto storage = undo_[index]->attach();
    auto log = UndoLog::load(*storage, record_on_disk(index).id);
    EXPECT_TRUE(log.has_value()) << log.error().to_string();
    if (!log) return {};
    for (const uint64_t block : log->blocks()) {
        auto bytes = log->read(*storage, block);
        EXPECT_TRUE(bytes.has_value()) << bytes.error().to_string();
        const uint64_t first = block * kBlockBytes / kSimSectorBytes;
        const uint64_t count =
            std::min(kBlockBytes, config_.size_bytes - block * kBlockBytes) / kSimSectorBytes;
        for (uint64_t sector = 0; sector < count; ++sector) {
            const Stamp stamp = bytes->empty()
                                    ? 0
                                    : stamp_of(std::span<const std::byte>(*bytes).subspan(
                                          sector * kSimSectorBytes, kSimSectorBytes));
            if (stamp == 0) {
                sectors.erase(first + sector);
            } else {
                sectors[first + sector] = stamp;
            }
        }
    }
    return sectors;
}

}  // namespace antipode::disksync
