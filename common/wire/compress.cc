#include "common/wire/compress.h"

#include <array>
#include <zstd.h>

namespace antipode::wire {
namespace {

constexpr size_t kSampleCount = 16;
constexpr size_t kSampleBytes = 64;
// Of 1024 random bytes about 252 of 256 values occur and the squares of their counts add up to
// about 5100; text is above 40000, machine code above 20000.
constexpr uint32_t kSquaresMax = 5900;

Failure zstd_failure(std::string_view what, size_t code) {
    return fail(Errc::corrupt, "zstd: {}: {}", what, ZSTD_getErrorName(code));
}

}  // namespace

void Compressor::Free::operator()(ZSTD_CCtx_s* context) const {
    ZSTD_freeCCtx(context);
}
Compressor::Compressor(Compressor&&) noexcept = default;
Compressor& Compressor::operator=(Compressor&&) noexcept = default;
Compressor::~Compressor() = default;

Result<Compressor> Compressor::create(const CompressSettings& settings) {
    Compressor made(ZSTD_createCCtx(), settings.level);
    if (!made.context_) return fail(Errc::limit, "zstd: no memory for a compressor");
    const int long_range = settings.long_range == CompressSettings::LongRange::on ? 1 : 0;
    const std::array<std::pair<ZSTD_cParameter, int>, 5> parameters{{
        {ZSTD_c_compressionLevel, settings.level},
        {ZSTD_c_windowLog, settings.window_log},
        {ZSTD_c_enableLongDistanceMatching, long_range},
        {ZSTD_c_checksumFlag, 0},     // frames have their own
        {ZSTD_c_contentSizeFlag, 0},  // not known: the stream has no end
    }};
    for (const auto& [parameter, value] : parameters) {
        const size_t code = ZSTD_CCtx_setParameter(made.context_.get(), parameter, value);
        if (ZSTD_isError(code)) {
            return fail(Errc::invalid_argument, "zstd: level {} window {}: {}", settings.level,
                        settings.window_log, ZSTD_getErrorName(code));
        }
    }
    return made;
}

size_t Compressor::bound(size_t bytes) {
    return ZSTD_compressBound(bytes) + 64;  // the ends of frames and of the flushed block
}

Result<size_t> Compressor::compress(std::span<const std::byte> in, std::span<std::byte> out) {
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    if (level_ != wanted_level_) {
        FT_TRY(output.pos, change_level(out));
    }
    for (;;) {
        const size_t left = ZSTD_compressStream2(context_.get(), &output, &input, ZSTD_e_flush);
        if (ZSTD_isError(left)) return zstd_failure("compress", left);
        if (left == 0 && input.pos == input.size) return output.pos;
        if (output.pos == output.size) return fail(Errc::limit, "zstd: output is above its bound");
    }
}

// A zstd frame keeps its level: end it, and begin another in the same stream.
Result<size_t> Compressor::change_level(std::span<std::byte> out) {
    ZSTD_inBuffer nothing{nullptr, 0, 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    const size_t left = ZSTD_compressStream2(context_.get(), &output, &nothing, ZSTD_e_end);
    if (ZSTD_isError(left)) return zstd_failure("end of frame", left);
    if (left != 0) return fail(Errc::limit, "zstd: output is above its bound");
    const size_t code =
        ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, wanted_level_);
    if (ZSTD_isError(code)) return zstd_failure("level", code);
    level_ = wanted_level_;
    return output.pos;
}

void Decompressor::Free::operator()(ZSTD_DCtx_s* context) const {
    ZSTD_freeDCtx(context);
}
Decompressor::Decompressor(Decompressor&&) noexcept = default;
Decompressor& Decompressor::operator=(Decompressor&&) noexcept = default;
Decompressor::~Decompressor() = default;

Result<Decompressor> Decompressor::create(int window_log_max) {
    Decompressor made(ZSTD_createDCtx());
    if (!made.context_) return fail(Errc::limit, "zstd: no memory for a decompressor");
    const size_t code =
        ZSTD_DCtx_setParameter(made.context_.get(), ZSTD_d_windowLogMax, window_log_max);
    if (ZSTD_isError(code)) return zstd_failure("window", code);
    return made;
}

Result<> Decompressor::decompress(std::span<const std::byte> in, std::span<std::byte> out) {
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    bool stuck = false;
    while (!stuck) {
        const size_t input_before = input.pos;
        const size_t output_before = output.pos;
        const size_t code = ZSTD_decompressStream(context_.get(), &output, &input);
        if (ZSTD_isError(code)) return zstd_failure("decompress", code);
        stuck = input.pos == input_before && output.pos == output_before;
        if (input.pos == input.size && output.pos == output.size) {
            // All is there; ask once more for what may still be inside.
            std::byte extra;
            ZSTD_outBuffer more{&extra, 1, 0};
            const size_t rest = ZSTD_decompressStream(context_.get(), &more, &input);
            if (ZSTD_isError(rest)) return zstd_failure("decompress", rest);
            if (more.pos != 0) break;
            return {};
        }
    }
    return fail(Errc::corrupt, "zstd: {} of {} bytes gave {} of {}", input.pos, input.size,
                output.pos, output.size);
}

bool looks_incompressible(std::span<const std::byte> bytes) {
    if (bytes.size() < kSampleCount * kSampleBytes * 2) return false;
    std::array<uint16_t, 256> counts{};
    const size_t stride = (bytes.size() - kSampleBytes) / (kSampleCount - 1);
    for (size_t sample = 0; sample < kSampleCount; ++sample) {
        for (size_t i = 0; i < kSampleBytes; ++i) {
            ++counts[static_cast<uint8_t>(bytes[sample * stride + i])];
        }
    }
    uint32_t squares = 0;
    for (const uint16_t count : counts) squares += uint32_t{count} * count;
    return squares <= kSquaresMax;
}

}  // namespace antipode::wire
