// DrillOverlay: what one drive looks like to a drill: the drive as it was at one moment, and what
// the drill has written since. Two processes share it across a fork:
//
//     the backup, before a chunk of the drive changes:  save()  keeps its old contents
//     the drill:  read()  its own chunk, else a saved one, else the drive;   write()  its own chunk
//
// Threads: save() on whichever thread submits writes, one at a time; read() and write() on one
// thread of the drill's process. The bitmaps and counts lie in memory that both processes share.
//
// INVARIANTS
//   - A chunk's saved bit is set before the write that changes the chunk is submitted, and after
//     its old contents are in the file. So a read of the drive is good if the bit is not set
//     after it.
//   - The drive itself is never written.
// On failure (no space, an error of the drive) the drill is of no use any more: broken() says so,
// and the backup goes on without saving.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace antipode::control {

class DrillOverlay {
  public:
    static constexpr uint64_t kChunkBytes = 64 << 10;
    // Reads the drive; blocks.
    using ReadDrive = std::function<Result<void>(uint64_t offset_bytes, std::span<std::byte>)>;

    // Makes the files `path`.saved and `path`.own, without contents.
    static Result<std::unique_ptr<DrillOverlay>> create(const std::string& path,
                                                        uint64_t drive_bytes);
    ~DrillOverlay();
    DrillOverlay(const DrillOverlay&) = delete;
    DrillOverlay& operator=(const DrillOverlay&) = delete;

    // The backup's side. `read_drive` is called for each chunk that is not kept yet.
    void save(uint64_t offset_bytes, uint64_t length_bytes, const ReadDrive& read_drive);

    // The drill's side.
    Result<void> read(uint64_t offset_bytes, std::span<std::byte> data,
                      const ReadDrive& read_drive);
    Result<void> write(uint64_t offset_bytes, std::span<const std::byte> data,
                       const ReadDrive& read_drive);

    // A whole chunk as it was when the overlay began, whatever either side has written since. Any
    // thread of the drill's process.
    Result<void> read_original(uint64_t chunk, std::span<std::byte> data,
                               const ReadDrive& read_drive);
    uint64_t chunk_count() const { return (drive_bytes_ + kChunkBytes - 1) / kChunkBytes; }
    uint64_t chunk_bytes(uint64_t chunk) const;

    uint64_t bytes() const;  // held in both files
    std::array<int, 2> files() const { return {saved_fd_.get(), own_fd_.get()}; }
    bool broken() const { return shared_->broken.load(); }

  private:
    struct Shared {
        std::atomic<uint64_t> chunks;
        std::atomic<bool> broken;
    };
    using Word = std::atomic<uint64_t>;

    DrillOverlay(UniqueFd saved, UniqueFd own, void* map, size_t map_bytes, uint64_t drive_bytes);
    static bool has(const Word* bits, uint64_t chunk);
    void mark(Word* bits, uint64_t chunk);
    Result<void> read_chunk(uint64_t chunk, std::span<std::byte> data, const ReadDrive& read_drive);

    UniqueFd saved_fd_;
    UniqueFd own_fd_;
    void* map_;
    size_t map_bytes_;
    uint64_t drive_bytes_;
    Shared* shared_;
    Word* saved_;  // one bit a chunk
    Word* own_;
    std::unique_ptr<std::byte[]> chunk_;  // save()'s and write()'s, each in its own process
};

}  // namespace antipode::control
