// LocalStore: the disk that lies at this site, under virtio-blk and under a replicated disk: a
// file, a block device, or an NBD server. One interface, asynchronous.
//
// submit() is called by one thread at a time and never blocks; the completion runs on a thread of
// the store's own, exactly once for each submit() that returned success, and never from inside
// submit(). A completion may not call close() and must not block for long: it holds up its thread.
//
// INVARIANTS
//   - The bytes of `buffer` belong to the store from submit() until the completion, and to the
//   caller
//     before and after. The caller keeps them alive.
//   - At most requests_in_flight_max() requests are in flight. One more is refused with Errc::busy
//   and
//     left untouched: nothing is queued without bound and nothing is dropped.
//   - Requests in flight have no order among each other. Two that overlap, one of them changing,
//   must
//     not be in flight together; keeping them apart is the caller's business.
//   - A flush that succeeds made every write durable whose completion ran before the flush was
//     submitted. A write with Fua::yes is durable when its completion says success.
//   - Once a flush has failed, no later flush succeeds: the kernel may have dropped the pages that
//   it
//     could not write, and nobody knows which. The store has to be opened anew and verified.
//   - close() (or the destructor) lets what has begun finish, completes the rest with Errc::closed,
//   and
//     returns when no completion will run any more.
//
// On failure: Errc::invalid_argument (range, alignment), Errc::no_space, Errc::io,
// Errc::unreachable (NBD server gone for too long), Errc::closed. A read that fails leaves the
// buffer undefined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "disksync/core/store_types.h"

namespace antipode::disksync {

using StoreCompletion = std::function<void(Result<> result)>;

struct StoreRequest {
    StoreOperation operation = StoreOperation::read;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;  // 0 for a flush
    std::span<std::byte>
        buffer;         // read: filled; write: read only; length_bytes long. Others: empty
    Fua fua = Fua::no;  // write, discard and write_zeroes
    KeepAllocated keep_allocated = KeepAllocated::no;
    Epoch epoch;  // of the VM that issues it; FencedStore looks at it
    // A last look, on the store's thread, right before a disk is changed: false: it is not, and the
    // request ends with Errc::stale_epoch. What waited in a queue may have been overtaken.
    std::function<bool()> may_begin;
    StoreCompletion done;
};

enum class StoreHealth : uint8_t {
    ok = 1,
    reconnecting = 2,  // NBD: requests wait
    failed = 3,        // for good; see the text
};
const char* to_string(StoreHealth health);

struct StoreStatus {
    StoreHealth health = StoreHealth::ok;
    std::string text;  // empty when ok
    uint32_t requests_in_flight = 0;
    uint64_t reconnects = 0;
};

class LocalStore {
  public:
    virtual ~LocalStore() = default;

    virtual Result<> submit(StoreRequest&& request) = 0;
    virtual Result<> close() = 0;

    // Some stores can do a read or a write in the caller's thread, which then waits for it: for a
    // small one that costs less than handing it over.
    virtual bool runs_here() const { return false; }
    virtual Result<> run_here(const StoreRequest& request);

    virtual uint64_t size_bytes() const = 0;
    // Offsets and lengths are multiples of this: 512, or more where the device wants it.
    virtual uint32_t alignment_bytes() const = 0;
    virtual uint32_t requests_in_flight_max() const = 0;
    // The path or URI, for messages.
    virtual const std::string& name() const = 0;

    // Any thread. Blocks. Covers [offset, offset + length) without gaps, neighbours of one kind
    // merged; a store that cannot tell says data.
    virtual Result<std::vector<StoreExtent>> extents(uint64_t offset_bytes,
                                                     uint64_t length_bytes) = 0;
    // Any thread. Takes up a size that has grown; a shrunk store is an error.
    virtual Result<uint64_t> refresh_size() = 0;
    // Any thread.
    virtual StoreStatus status() const = 0;
};

enum class StoreAccess : uint8_t { read_write = 1, read_only = 2 };
enum class DirectIo : uint8_t { no = 0, yes = 1 };

struct StoreOptions {
    StoreAccess access = StoreAccess::read_write;
    std::optional<uint64_t> size_bytes_expected;  // any other size is refused
    uint32_t requests_in_flight_max = 256;

    // Files and block devices.
    uint32_t thread_count = 4;
    DirectIo direct_io = DirectIo::no;  // O_DIRECT

    // NBD servers.
    Duration connect_timeout = std::chrono::seconds(5);
    Duration reconnect_timeout = std::chrono::seconds(30);  // then the store has failed
    // Writes that no flush has covered yet are kept, so that a server that lost them (it crashed
    // and came back) gets them again. When more than this is kept, the store flushes by itself. 0:
    // nothing is kept, for servers whose cache is known to survive.
    uint64_t unflushed_bytes_max = uint64_t{32} << 20;
};

// `path_or_uri`: a path, or nbd://..., nbds://..., nbd+unix://..., nbds+unix://... (libnbd's URIs).
// An image that another process has open for writing is refused with Errc::busy.
Result<std::unique_ptr<LocalStore>> open_store(const std::string& path_or_uri,
                                               const StoreOptions& options);
bool is_nbd_uri(const std::string& path_or_uri);

// For the stores: Errc::stale_epoch if the request changes data and its may_begin says no.
Result<> last_look(const LocalStore& store, const StoreRequest& request);

// The rules that every store applies in submit(). Errc::invalid_argument names the broken one.
Result<> check_request(const LocalStore& store, StoreAccess access, const StoreRequest& request);

// The first byte that is not zero; none: it is all zeroes. Holes are not read. Blocks, as long as
// reading the rest takes.
Result<std::optional<uint64_t>> first_not_zero(LocalStore& store);

// Submits and waits: for tools, tests and start-up. Not from a completion.
Result<> run_blocking(LocalStore& store, StoreRequest&& request);

}  // namespace antipode::disksync
