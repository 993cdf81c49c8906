// Streaming compression of one class in one direction: a zstd stream that is flushed after each
// piece, so that each piece can be decompressed as soon as it has arrived and still profits from
// all before it.
//
// One owner each; not thread safe. INVARIANTS
//   - The decompressor is given exactly the pieces that the compressor made, in order, each once.
//     Pieces that were sent raw never pass through either.
//   - Neither allocates more than the limits given: the window is at most 2^window_log bytes, and
//     decompress() fills the caller's buffer and no more.
// On failure the stream is of no more use: the session that it belongs to ends.
//
// looks_incompressible() is a guess from a sample, for what is better sent raw.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "common/base/result.h"

extern "C" {
struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;
}

namespace antipode::wire {

constexpr int kWindowLogMax = 24;  // 16 MiB, for long-range matching in bulk classes

struct CompressSettings {
    int level = 1;
    int window_log = 19;
    enum class LongRange : uint8_t { off = 1, on };
    LongRange long_range = LongRange::off;
};

// For bulk in which the same comes again after megabytes: pages of the same programs, files that
// were copied. Costs both ends the window's memory, and this one some processor time.
constexpr CompressSettings kLongWindow{1, kWindowLogMax, CompressSettings::LongRange::on};

class Compressor {
  public:
    static Result<Compressor> create(const CompressSettings& settings);
    Compressor(Compressor&&) noexcept;
    Compressor& operator=(Compressor&&) noexcept;
    ~Compressor();

    // The most that compress() can write.
    static size_t bound(size_t bytes);
    // Returns how many bytes of `out` were used; `out` holds at least bound(in.size()).
    Result<size_t> compress(std::span<const std::byte> in, std::span<std::byte> out);
    // From the next piece on. It costs the history of the stream; readers notice nothing.
    void set_level(int level) { wanted_level_ = level; }
    int level() const { return wanted_level_; }

  private:
    struct Free {
        void operator()(ZSTD_CCtx_s* context) const;
    };
    Compressor(ZSTD_CCtx_s* context, int level)
        : context_(context), level_(level), wanted_level_(level) {}
    Result<size_t> change_level(std::span<std::byte> out);

    std::unique_ptr<ZSTD_CCtx_s, Free> context_;
    int level_;
    int wanted_level_;
};

class Decompressor {
  public:
    static Result<Decompressor> create(int window_log_max = kWindowLogMax);
    Decompressor(Decompressor&&) noexcept;
    Decompressor& operator=(Decompressor&&) noexcept;
    ~Decompressor();

    // Fills `out` exactly, from all of `in`, or fails.
    Result<> decompress(std::span<const std::byte> in, std::span<std::byte> out);

  private:
    struct Free {
        void operator()(ZSTD_DCtx_s* context) const;
    };
    explicit Decompressor(ZSTD_DCtx_s* context) : context_(context) {}
    std::unique_ptr<ZSTD_DCtx_s, Free> context_;
};

bool looks_incompressible(std::span<const std::byte> bytes);

}  // namespace antipode::wire
