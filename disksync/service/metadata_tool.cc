#include "disksync/service/metadata_tool.h"

#include <boost/json.hpp>
#include <unistd.h>

#include "common/env/posix/storage_file.h"
#include "disksync/disk_metadata.h"
#include "disksync/local_store.h"
#include "disksync/service/group_config.h"
#include "disksync/undo_file.h"

namespace antipode::disksync {

namespace json = boost::json;

namespace {

Result<DiskPaths> paths_of(const std::string& config_path, const std::string& disk) {
    FT_TRY(const GroupConfig config, load_group_config(config_path));
    for (const DiskPaths& paths : config.disks) {
        if (paths.name.view() == disk) return paths;
    }
    return fail(Errc::not_found, "{}: there is no disk {}", config_path, disk);
}

std::string hex(Generation generation) {
    return fmt::format("{:016x}", generation.value());
}

json::array ranges_of(const DirtyBitmap& bitmap) {
    json::array ranges;
    for (auto next = bitmap.next_set(0); next;) {
        const BlockRange run = bitmap.run_at(*next, bitmap.block_count());
        ranges.push_back(json::array{run.first, run.count});
        next = bitmap.next_set(run.first + run.count);
    }
    return ranges;
}

}  // namespace

Result<> dump_metadata(const std::string& config_path, const std::string& disk, std::ostream& out) {
    FT_TRY(const DiskPaths paths, paths_of(config_path, disk));
    FT_TRY(const auto file,
           env::StorageFile::open(paths.metadata, env::StorageFile::Access::read_only));
    FT_TRY(const DiskRecord record, DiskRecord::load(*file));
    const Superblock& superblock = record.superblock();
    const Generations& generations = superblock.generations;
    json::array bases;
    for (const Generation base : generations.bases) {
        if (base != Generation()) bases.push_back(json::string(hex(base)));
    }
    json::array history;
    for (const Generation old : generations.history) {
        if (old != Generation()) history.push_back(json::string(hex(old)));
    }
    json::array findings;
    for (const RecordFinding& finding : record.findings()) {
        findings.push_back(json::string(finding.text));
    }
    out << json::serialize(
               json::object{{"version", kMetadataVersion},
                            {"group", superblock.pair.view()},
                            {"disk", superblock.disk.view()},
                            {"id", fmt::format("{:016x}", superblock.id.value())},
                            {"peer_id", fmt::format("{:016x}", superblock.peer_id.value())},
                            {"size_bytes", superblock.size_bytes},
                            {"epoch", superblock.epoch.value()},
                            {"role", to_string(superblock.role)},
                            {"state", to_string(superblock.state)},
                            {"open_for_writing", superblock.open_for_writing},
                            {"discard_mine", superblock.discard_mine},
                            {"sequence", superblock.sequence},
                            {"generation", hex(generations.current)},
                            {"generation_shared", superblock.generation_shared},
                            {"generation_time", superblock.generation_time_seconds},
                            {"bases", std::move(bases)},
                            {"history", std::move(history)},
                            {"resync_target", hex(superblock.resync_target)},
                            {"undo_kept", superblock.undo_kept},
                            {"block_bytes", kBlockBytes},
                            {"marked_blocks", record.bitmap().count()},
                            {"marked", ranges_of(record.bitmap())},
                            {"findings", std::move(findings)}})
        << "\n";
    return {};
}

Result<> check_metadata(const std::string& config_path, bool repair, std::ostream& out) {
    FT_TRY(const GroupConfig config, load_group_config(config_path));
    bool damaged = false;
    for (const DiskPaths& paths : config.disks) {
        FT_TRY(const auto metadata, open_metadata(paths.metadata));
        DiskRecord& record = metadata->record();
        for (const RecordFinding& finding : record.findings()) {
            damaged |= finding.weight == RecordFinding::Weight::repaired;
            out << paths.name.view() << ": " << finding.text << "\n";
        }
        if (!repair) continue;
        record.write_bitmap();
        FT_TRY_VOID(metadata->write());
        // Twice: so that both copies are of now.
        FT_TRY_VOID(metadata->update(record.superblock()));
        FT_TRY_VOID(metadata->update(record.superblock()));
        out << paths.name.view() << ": written back\n";
    }
    if (damaged && !repair) {
        return fail(Errc::corrupt, "{}: see above; check --repair writes back what could be saved",
                    config_path);
    }
    if (!damaged) out << "metadata of " << config.disks.size() << " disks: good\n";
    return {};
}

Result<> replace_disk(const std::string& config_path, const std::string& disk, std::ostream& out) {
    FT_TRY(const DiskPaths paths, paths_of(config_path, disk));
    FT_TRY(const auto metadata, open_metadata(paths.metadata));
    Superblock next = metadata->superblock();
    if (next.state != DiskState::failed) {
        return fail(Errc::denied,
                    "disk {}: is {}, and only a Failed one is replaced; to fill it anew: "
                    "disksync invalidate, while it is served",
                    disk, to_string(next.state));
    }
    FT_TRY(const auto store, open_store(paths.store, StoreOptions()));
    if (store->size_bytes() < next.size_bytes) {
        return fail(Errc::invalid_argument, "disk {}: {} has {} bytes, and needs {}", disk,
                    paths.store, store->size_bytes(), next.size_bytes);
    }
    forget(next.generations);
    next.state = DiskState::inconsistent;
    next.role = DiskRole::secondary;
    next.open_for_writing = next.generation_shared = next.discard_mine = next.undo_kept = false;
    next.resync_target = Generation();
    metadata->record().bitmap().clear_all();
    FT_TRY_VOID(metadata->update(next, DiskRecord::Order::after_bitmap));
    ::unlink(paths.undo.c_str());
    out << disk << ": counts as new, to be filled by the peer\n";
    return {};
}

namespace {

Result<> write_blocks(env::Storage& from, const UndoLog& undo, env::Storage& to) {
    for (const uint64_t block : undo.blocks()) {
        FT_TRY(const std::vector<std::byte> bytes, undo.read(from, block));
        if (!bytes.empty()) FT_TRY_VOID(to.write(block * kBlockBytes, bytes));
    }
    return to.sync();
}

}  // namespace

Result<> export_undo(const std::string& config_path, const std::string& disk,
                     const std::string& undo_path, const std::string& out_path, std::ostream& out) {
    FT_TRY(const DiskPaths paths, paths_of(config_path, disk));
    FT_TRY(const auto metadata,
           env::StorageFile::open(paths.metadata, env::StorageFile::Access::read_only));
    FT_TRY(const DiskRecord record, DiskRecord::load(*metadata));
    const uint64_t size = record.superblock().size_bytes;
    FT_TRY(const auto from, env::StorageFile::open(undo_path, env::StorageFile::Access::read_only));
    // The disk may have got another identity since.
    FT_TRY(const UndoLog undo, UndoLog::load(*from, DiskId()));
    const std::vector<uint64_t> blocks = undo.blocks();
    if (!blocks.empty() && blocks.back() >= block_count_of(size)) {
        return fail(Errc::invalid_argument, "{}: has block {}, disk {} has only {}", undo_path,
                    blocks.back(), disk, block_count_of(size));
    }
    FT_TRY(const auto to, env::StorageFile::create(out_path));
    auto written = to->resize(size);
    if (written) written = write_blocks(*from, undo, *to);
    if (!written) {
        ::unlink(out_path.c_str());
        return written;
    }
    out << blocks.size() << " blocks of generation " << hex(undo.back_to()) << "\n";
    return {};
}

namespace {

Result<> undo_disk(const DiskPaths& paths, DiskMetadata& metadata, std::ostream& out) {
    Superblock next = metadata.superblock();
    FT_TRY(const auto undo, UndoFile::open(paths.undo, next.id));
    // The peer took its marks of these blocks away when they had arrived here: from now on this
    // copy has to say that it lacks them, also if this ends in the middle.
    for (const uint64_t block : undo->log().blocks()) metadata.record().bitmap().set({block, 1});
    metadata.record().write_bitmap();
    FT_TRY_VOID(metadata.write());
    FT_TRY(const auto store, open_store(paths.store, StoreOptions()));
    FT_TRY_VOID(undo->put_back(next.size_bytes, Epoch(), [&store](StoreRequest&& request) {
        return run_blocking(*store, std::move(request));
    }));
    FT_TRY_VOID(store->close());
    // The contents are again what the current generation names; the peer has newer ones.
    next.state = DiskState::outdated;
    next.resync_target = Generation();
    next.undo_kept = false;
    FT_TRY_VOID(metadata.update(next));
    ::unlink(paths.undo.c_str());
    out << paths.name.view() << ": " << undo->log().count() << " blocks put back; generation "
        << hex(next.generations.current) << "\n";
    return {};
}

}  // namespace

Result<> undo_resync(const std::string& config_path, const std::string& disk, std::ostream& out) {
    FT_TRY(const GroupConfig config, load_group_config(config_path));
    bool found = false;
    for (const DiskPaths& paths : config.disks) {
        if (!disk.empty() && paths.name.view() != disk) continue;
        FT_TRY(const auto metadata, open_metadata(paths.metadata));
        const Superblock& superblock = metadata->superblock();
        if (superblock.undo_kept && superblock.state == DiskState::inconsistent) {
            FT_TRY_VOID(undo_disk(paths, *metadata, out));
            found = true;
        } else if (!disk.empty()) {
            return fail(Errc::invalid_argument, "disk {}: is {}, and no resync of it can be undone",
                        disk, to_string(superblock.state));
        }
    }
    if (found) return {};
    return fail(Errc::not_found, "{}: no disk {} whose resync can be undone", config_path, disk);
}

}  // namespace antipode::disksync
