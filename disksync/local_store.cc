#include "disksync/local_store.h"

#include <algorithm>
#include <future>

#include "disksync/core/disk_types.h"
#include "disksync/file_store.h"
#include "disksync/nbd_store.h"

namespace antipode::disksync {

const char* to_string(StoreHealth health) {
    switch (health) {
        case StoreHealth::ok:
            return "ok";
        case StoreHealth::reconnecting:
            return "reconnecting";
        case StoreHealth::failed:
            return "failed";
    }
    return "unknown";
}

bool is_nbd_uri(const std::string& path_or_uri) {
    for (const char* scheme : {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://"}) {
        if (path_or_uri.rfind(scheme, 0) == 0) return true;
    }
    return false;
}

Result<std::unique_ptr<LocalStore>> open_store(const std::string& path_or_uri,
                                               const StoreOptions& options) {
    if (path_or_uri.empty()) return fail(Errc::invalid_argument, "disk: the path is empty");
    if (options.thread_count == 0 || options.requests_in_flight_max == 0) {
        return fail(Errc::invalid_argument, "disk {}: no threads, or no requests in flight allowed",
                    path_or_uri);
    }
    std::unique_ptr<LocalStore> store;
    if (is_nbd_uri(path_or_uri)) {
        FT_TRY(store, NbdStore::open(path_or_uri, options));
    } else {
        FT_TRY(store, FileStore::open(path_or_uri, options));
    }
    if (store->size_bytes() > kDiskBytesMax) {
        return fail(Errc::limit, "disk {}: has {} bytes, more than {}", path_or_uri,
                    store->size_bytes(), kDiskBytesMax);
    }
    return store;
}

Result<> LocalStore::run_here(const StoreRequest& request) {
    return fail(Errc::unsupported, "disk {}: {} in the caller's thread", name(),
                to_string(request.operation));
}

Result<> last_look(const LocalStore& store, const StoreRequest& request) {
    if (!request.may_begin || !changes_data(request.operation) || request.may_begin()) return {};
    return fail(Errc::stale_epoch, "disk {}: {} at {} came too late to begin", store.name(),
                to_string(request.operation), request.offset_bytes);
}

Result<> check_request(const LocalStore& store, StoreAccess access, const StoreRequest& request) {
    const auto refuse = [&](const std::string& why) {
        return fail(Errc::invalid_argument, "disk {}: {} at {} of {} bytes: {}", store.name(),
                    to_string(request.operation), request.offset_bytes, request.length_bytes, why);
    };
    if (!request.done) return refuse("no completion");
    if (access == StoreAccess::read_only && changes_data(request.operation)) {
        return refuse("the disk is open for reading only");
    }
    const bool moves_data =
        request.operation == StoreOperation::read || request.operation == StoreOperation::write;
    if (request.buffer.size() != (moves_data ? request.length_bytes : 0)) {
        return refuse(fmt::format("the buffer has {} bytes", request.buffer.size()));
    }
    if (request.operation == StoreOperation::flush) {
        return request.length_bytes == 0 ? Result<>() : refuse("a flush has no range");
    }
    if (request.length_bytes == 0) return refuse("the range is empty");
    const uint64_t alignment = store.alignment_bytes();
    if (request.offset_bytes % alignment != 0 || request.length_bytes % alignment != 0) {
        return refuse(fmt::format("not aligned to {}", alignment));
    }
    const uint64_t size = store.size_bytes();
    if (request.offset_bytes > size || request.length_bytes > size - request.offset_bytes) {
        return refuse(fmt::format("beyond the end, {}", size));
    }
    return {};
}

namespace {

constexpr uint64_t kLookedAtOnceBytes = uint64_t{1} << 30;
constexpr uint64_t kReadBytes = uint64_t{1} << 20;

Result<std::optional<uint64_t>> first_not_zero(LocalStore& store, const StoreExtent& extent) {
    std::vector<std::byte> bytes(kReadBytes);
    const uint64_t end = extent.offset_bytes + extent.length_bytes;
    for (uint64_t at = extent.offset_bytes; at < end; at += kReadBytes) {
        StoreRequest request;
        request.operation = StoreOperation::read;
        request.offset_bytes = at;
        request.length_bytes = std::min(kReadBytes, end - at);
        request.buffer = std::span(bytes).first(request.length_bytes);
        const auto read = request.buffer;
        FT_TRY_VOID(run_blocking(store, std::move(request)));
        const auto found = std::find_if(read.begin(), read.end(),
                                        [](std::byte byte) { return byte != std::byte{0}; });
        if (found == read.end()) continue;
        return std::optional<uint64_t>(at + static_cast<uint64_t>(found - read.begin()));
    }
    return std::optional<uint64_t>();
}

}  // namespace

Result<std::optional<uint64_t>> first_not_zero(LocalStore& store) {
    const uint64_t size = store.size_bytes();
    for (uint64_t at = 0; at < size; at += kLookedAtOnceBytes) {
        FT_TRY(const std::vector<StoreExtent> extents,
               store.extents(at, std::min(kLookedAtOnceBytes, size - at)));
        for (const StoreExtent& extent : extents) {
            if (extent.kind == ExtentKind::zero) continue;
            FT_TRY(const std::optional<uint64_t> found, first_not_zero(store, extent));
            if (found) return found;
        }
    }
    return std::optional<uint64_t>();
}

Result<> run_blocking(LocalStore& store, StoreRequest&& request) {
    auto promise = std::make_shared<std::promise<Result<>>>();
    std::future<Result<>> future = promise->get_future();
    request.done = [promise](Result<> result) { promise->set_value(std::move(result)); };
    FT_TRY_VOID(store.submit(std::move(request)));
    return future.get();
}

}  // namespace antipode::disksync
