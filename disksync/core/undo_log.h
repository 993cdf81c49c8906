// UndoLog: what a resync has overwritten, so that a copy can go back to its last consistent point,
// or be read as of then, while the resync is under way or after it has broken off.
//
// An append-only file beside the metadata. A batch of old blocks is appended and synced before any
// of them is overwritten. A batch is a 4096-byte header that lists its blocks, then their data,
// zero blocks left out.
//
//   offset 0   file header: magic, version, disk id, the generation to go back to, checksum
//   4096       batch, batch, ...
//
// This class knows the format and which block lies where; it does no I/O. append() says what to
// write; load() takes in what a reader read; pieces() says where each byte of the old contents is
// to be read. Life of the file: made at the start of a resync of a
// consistent copy, removed when the resync has ended and the metadata says so. If you see
//   a last batch that is torn, header or data   it was never synced, so its blocks are not
//                                               overwritten: it is left out
//   a wrong digest in an earlier batch          the medium rotted: Errc::corrupt, never guessed
//
// Pure. One owner. INVARIANT: a block is in the log at most once: only its oldest content counts.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/result.h"
#include "common/env/storage.h"
#include "common/wire/sync_frames.h"
#include "disksync/core/disk_record.h"

namespace antipode::disksync {

class UndoLog {
  public:
    static constexpr uint64_t kHeaderBytes = 4096;
    static constexpr size_t kBlocksPerBatch = 160;

    struct OldBlock {
        uint64_t block = 0;
        wire::SharedBytes
            data;  // kBlockBytes, or what is left at the end of the disk; empty: zeroes
    };
    struct Place {
        uint64_t offset_bytes = 0;  // in the file; 0: the block was zero
        uint32_t length_bytes = 0;
        uint64_t digest = 0;  // XXH3-64
    };

    UndoLog(DiskId disk, Generation back_to);
    // Errc::corrupt: not a header, or of another disk. Unknown: of whatever disk it is.
    static Result<UndoLog> load(env::Storage& storage, DiskId disk);

    MetaWrite header() const;
    // The writes of a batch, at most kBlocksPerBatch blocks, none of them in the log. The blocks
    // are in the log at once; they are safe, and can be read, when the writes have been synced.
    std::vector<MetaWrite> append(std::span<const OldBlock> blocks);
    // Everything that was appended.
    void synced() { unsynced_.clear(); }

    bool contains(uint64_t block) const { return places_.count(block) != 0; }
    // Reads an old block; an empty result is a zero block.
    Result<std::vector<std::byte>> read(env::Storage& storage, uint64_t block) const;
    std::vector<uint64_t> blocks() const;  // ascending
    Place place_of(uint64_t block) const;
    // Whether these bytes are what was written there. `name`: of the file.
    static Result<> check(const std::string& name, uint64_t block, const Place& place,
                          std::span<const std::byte> bytes);

    // A range of the disk as it was: in order, without gaps. What is not synced yet is still on the
    // store, for nothing is overwritten before.
    struct Piece {
        enum class From : uint8_t {
            store = 1,
            log = 2,     // a part of what `place` holds, from `skip_bytes` on
            zeroes = 3,  // it was zero, or beyond the end of the disk
        };
        From from = From::store;
        uint64_t offset_bytes = 0;  // of the disk
        uint64_t length_bytes = 0;
        uint64_t block = 0;  // log
        Place place;         // log
        uint64_t skip_bytes = 0;
    };
    std::vector<Piece> pieces(uint64_t offset_bytes, uint64_t length_bytes) const;
    size_t count() const { return places_.size(); }
    uint64_t bytes() const { return end_; }
    Generation back_to() const { return back_to_; }

  private:
    struct Batch {
        uint64_t offset_bytes = 0;
        std::vector<uint64_t> blocks;
    };
    std::optional<Batch> load_batch(env::Storage& storage, uint64_t size_bytes);
    void drop_if_torn(env::Storage& storage, const Batch& last);
    void add_pieces(std::vector<Piece>& pieces, uint64_t block, uint64_t skip_bytes,
                    uint64_t length_bytes) const;

    DiskId disk_;
    Generation back_to_;
    uint64_t end_ = kHeaderBytes;
    uint64_t batches_ = 0;
    std::unordered_map<uint64_t, Place> places_;
    std::unordered_set<uint64_t> unsynced_;
};

}  // namespace antipode::disksync
