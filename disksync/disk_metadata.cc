#include "disksync/disk_metadata.h"

#include <cerrno>
#include <sys/random.h>
#include <unistd.h>

#include "common/env/posix/storage_file.h"

namespace antipode::disksync {

Result<std::unique_ptr<DiskMetadata>> DiskMetadata::create(std::unique_ptr<env::Storage> storage,
                                                           const Identity& identity) {
    std::unique_ptr<DiskMetadata> metadata(new DiskMetadata(std::move(storage)));
    Superblock& first = metadata->superblock_;
    first.pair = identity.pair;
    first.disk = identity.disk;
    first.id = identity.id;
    first.size_bytes = identity.size_bytes;
    first.sequence = 1;
    FT_TRY_VOID(metadata->write_slot(1, first));
    first.sequence = 2;
    FT_TRY_VOID(metadata->write_slot(0, first));
    return metadata;
}

Result<std::unique_ptr<DiskMetadata>> DiskMetadata::open(std::unique_ptr<env::Storage> storage) {
    std::unique_ptr<DiskMetadata> metadata(new DiskMetadata(std::move(storage)));
    std::optional<Error> first_error;
    bool found = false;
    for (unsigned slot = 0; slot < 2; ++slot) {
        std::vector<std::byte> bytes(kSuperblockBytes);
        auto read = metadata->storage_->read(slot * kSuperblockBytes, bytes);
        // An unreadable sector may hide the newer slot: then nothing is known.
        if (!read && read.error().code != Errc::corrupt) return fail(std::move(read).error());
        auto decoded = read ? decode_superblock(bytes) : Result<Superblock>(fail(read.error()));
        if (!decoded) {
            if (!first_error || decoded.error().code == Errc::version)
                first_error = decoded.error();
            continue;
        }
        if (!found || decoded->sequence > metadata->superblock_.sequence) {
            metadata->superblock_ = *decoded;
            metadata->newest_slot_ = slot;
        }
        found = true;
    }
    const bool later_version = first_error && first_error->code == Errc::version;
    if (!found || later_version) {
        return fail(std::move(*first_error).within("metadata " + metadata->name()));
    }
    return metadata;
}

Result<> DiskMetadata::write_slot(unsigned slot, const Superblock& superblock) {
    FT_TRY_VOID(storage_->write(slot * kSuperblockBytes, encode(superblock)));
    FT_TRY_VOID(storage_->sync());
    newest_slot_ = slot;
    return {};
}

Result<> DiskMetadata::update(Superblock next) {
    if (broken_) return fail(Errc::io, "metadata {}: an earlier update failed", name());
    if (next.epoch < superblock_.epoch) {
        return fail(Errc::stale_epoch, "metadata {}: epoch {} after {}", name(), next.epoch,
                    superblock_.epoch);
    }
    next.sequence = superblock_.sequence + 1;
    next.pair = superblock_.pair;
    next.disk = superblock_.disk;
    next.id = superblock_.id;
    if (auto written = write_slot(1 - newest_slot_, next); !written) {
        broken_ = true;
        return written;
    }
    superblock_ = next;
    return {};
}

std::string metadata_path_of(const std::string& image) {
    return image + ".antipode";
}

Result<std::unique_ptr<DiskMetadata>> open_metadata(const std::string& path) {
    FT_TRY(std::unique_ptr<env::Storage> file, env::StorageFile::open(path));
    return DiskMetadata::open(std::move(file));
}

Result<std::unique_ptr<DiskMetadata>> create_metadata(const std::string& path, const Name& pair,
                                                      const Name& disk, uint64_t size_bytes) {
    FT_TRY(const uint64_t id, random_id());
    FT_TRY(std::unique_ptr<env::Storage> file, env::StorageFile::create(path));
    auto created = DiskMetadata::create(std::move(file), {pair, disk, size_bytes, DiskId(id)});
    // Nothing half-made stays behind; if the process dies first, open() refuses what is there.
    if (!created) ::unlink(path.c_str());
    return created;
}

Result<uint64_t> random_id() {
    uint64_t id = 0;
    while (id == 0) {
        const ssize_t got = ::getrandom(&id, sizeof(id), 0);
        if (got != sizeof(id) && !(got < 0 && errno == EINTR)) {
            return fail_errno(errno, "getrandom");
        }
    }
    return id;
}

}  // namespace antipode::disksync
