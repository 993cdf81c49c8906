#include "disksync/fenced_store.h"

#include <utility>

#include "common/base/log.h"

namespace antipode::disksync {

namespace {

Result<std::unique_ptr<DiskMetadata>> open_or_create(const std::string& path,
                                                     const FencedStore::Options& options,
                                                     uint64_t size_bytes) {
    auto metadata = open_metadata(path);
    if (metadata || metadata.error().code != Errc::not_found) return metadata;
    if (options.metadata_missing == FencedStore::Options::Missing::refuse) {
        return fail(Errc::not_found,
                    "metadata {}: is missing; without it nobody knows which epoch may write", path);
    }
    logger("disksync")
        .info("metadata {}: created for disk {} of pair {}", path, options.disk, options.pair);
    return create_metadata(path, options.pair, options.disk, size_bytes);
}

}  // namespace

Result<std::unique_ptr<FencedStore>> FencedStore::open(const std::string& path_or_uri,
                                                       const Options& options) {
    if (options.metadata_path.empty() && is_nbd_uri(path_or_uri)) {
        return fail(Errc::invalid_argument, "disk {}: an NBD server's disk needs a metadata path",
                    path_or_uri);
    }
    const std::string path =
        options.metadata_path.empty() ? metadata_path_of(path_or_uri) : options.metadata_path;
    FT_TRY(std::unique_ptr<LocalStore> store, open_store(path_or_uri, options.store));
    FT_TRY(std::unique_ptr<DiskMetadata> metadata,
           open_or_create(path, options, store->size_bytes()));
    const Superblock& superblock = metadata->superblock();
    if (superblock.pair != options.pair || superblock.disk != options.disk) {
        return fail(Errc::invalid_argument,
                    "metadata {}: belongs to disk {} of pair {}, expected {} of {}", path,
                    superblock.disk, superblock.pair, options.disk, options.pair);
    }
    if (superblock.size_bytes > store->size_bytes()) {
        return fail(Errc::invalid_argument,
                    "metadata {}: says {} bytes, disk {} has {}: it must not shrink", path,
                    superblock.size_bytes, path_or_uri, store->size_bytes());
    }
    if (superblock.size_bytes < store->size_bytes()) {
        logger("disksync")
            .info("disk {}: has grown from {} to {} bytes", path_or_uri, superblock.size_bytes,
                  store->size_bytes());
        FT_TRY_VOID(metadata->grow(store->size_bytes()));
    }
    return std::make_unique<FencedStore>(std::move(store), std::move(metadata),
                                         options.drain_timeout);
}

FencedStore::FencedStore(std::unique_ptr<LocalStore> store, std::unique_ptr<DiskMetadata> metadata,
                         Duration drain_timeout)
    : store_(std::move(store)),
      metadata_(std::move(metadata)),
      drain_timeout_(drain_timeout),
      refused_below_(metadata_->superblock().epoch),
      recorded_(metadata_->superblock().epoch) {}

FencedStore::~FencedStore() {
    if (auto closed = close(); !closed) logger("disksync").error("{}", closed.error().to_string());
}

Result<> FencedStore::submit(StoreRequest&& request) {
    if (!changes_data(request.operation)) return store_->submit(std::move(request));
    {
        const std::lock_guard lock(mutex_);
        if (broken_) return fail(Errc::io, "disk {}: its metadata cannot be written", name());
        if (request.epoch < refused_below_) {
            return fail(Errc::stale_epoch, "disk {}: {} of epoch {}, but epoch {} has been seen",
                        name(), to_string(request.operation), request.epoch, refused_below_);
        }
        if (request.epoch > recorded_) {
            return fail(Errc::invalid_argument,
                        "disk {}: {} of epoch {}, which was not recorded yet", name(),
                        to_string(request.operation), request.epoch);
        }
        ++changes_in_flight_;
    }
    StoreCompletion done = std::move(request.done);
    if (done) {
        request.done = [this, done](Result<> result) {
            // The fence is for what reaches the disk: it is over before the caller hears of it.
            // After done() the caller may destroy this store.
            {
                const std::lock_guard lock(mutex_);
                if (--changes_in_flight_ == 0) drained_.notify_all();
            }
            done(std::move(result));
        };
    }
    auto submitted = store_->submit(std::move(request));
    if (!submitted) {
        request.done = std::move(done);  // untouched, as far as the caller can see
        const std::lock_guard lock(mutex_);
        if (--changes_in_flight_ == 0) drained_.notify_all();
    }
    return submitted;
}

Result<> FencedStore::drain(std::unique_lock<std::mutex>& lock) {
    if (drained_.wait_for(lock, drain_timeout_, [this] { return changes_in_flight_ == 0; }))
        return {};
    return fail(Errc::busy, "disk {}: fenced, but {} writes of an older epoch are still in flight",
                name(), changes_in_flight_);
}

Result<> FencedStore::fence(Epoch epoch) {
    const std::lock_guard only_one(fence_mutex_);
    {
        const std::lock_guard lock(mutex_);
        if (epoch < refused_below_) {
            return fail(Errc::stale_epoch, "disk {}: fence of epoch {}, but epoch {} has been seen",
                        name(), epoch, refused_below_);
        }
        if (broken_) return fail(Errc::io, "disk {}: its metadata cannot be written", name());
        refused_below_ = epoch;
    }
    if (epoch > metadata_->superblock().epoch) {
        Superblock next = metadata_->superblock();
        next.epoch = epoch;
        if (auto updated = metadata_->update(next); !updated) {
            const std::lock_guard lock(mutex_);
            broken_ = true;
            return updated;
        }
        logger("disksync").info("disk {}: fenced, epoch {}", name(), epoch);
    }
    std::unique_lock lock(mutex_);
    // Only now may the new epoch write; what is in flight is older.
    if (recorded_ != epoch) FT_TRY_VOID(drain(lock));
    recorded_ = epoch;
    return {};
}

Epoch FencedStore::highest_epoch() const {
    const std::lock_guard lock(mutex_);
    return refused_below_;
}

Epoch FencedStore::recorded_epoch() const {
    const std::lock_guard lock(mutex_);
    return recorded_;
}

Superblock FencedStore::superblock() const {
    const std::lock_guard lock(fence_mutex_);
    return metadata_->superblock();
}

Result<> FencedStore::update(Superblock next) {
    const std::lock_guard only_one(fence_mutex_);
    next.epoch = metadata_->superblock().epoch;
    auto updated = metadata_->update(next);
    if (!updated) {
        const std::lock_guard lock(mutex_);
        broken_ = true;
    }
    return updated;
}

}  // namespace antipode::disksync
