#include "replicator/replay/log_entry.h"

#include <algorithm>
#include <array>
#include <xxhash.h>

#include "common/base/all_zero.h"
#include "common/base/check.h"

namespace antipode::replay {
namespace {

// First byte of an entry: kind in the low four bits, exit delta 0..14 in the high four; 15 = a
// varint with the delta minus 15 follows.
enum class Kind : uint8_t {
    input_read = 1,
    output_mark = 2,
    timer_tick = 3,
    block_done = 4,
    frame_received = 5,
    console_input = 6,
    digest_mark = 7,
    passed = 8,
    delta_pages = 9,
    delta_state = 10,
    vm_control = 11,
    pm_timer_far = 12,
    checkpoint_part = 13,
    stretch = 14,
};
// The byte behind the header of a stretch's entry.
enum class Part : uint8_t { begin = 1, end, output, write, state };

constexpr uint64_t kSmallDelta = 15;
constexpr size_t kVarintBytesMax = 10;
constexpr size_t kConsoleBytesMax = 4096;
constexpr size_t kDevicesMax = vmm::layout::kVirtioIrqs.size();
constexpr uint64_t kPageNumberMax = UINT64_MAX / 2;
constexpr uint64_t kPmTimerMask = 0xffffff;
// A reading of the PM timer takes at most 4 bytes: as a step of up to 14 bits, else by itself.
constexpr uint64_t kPmTimerFarStep = 1 << 14;
constexpr size_t kPmTimerBytes = 3;
constexpr size_t kPageBytes = vmm::layout::kPageBytes;

class Writer {
  public:
    void byte(uint8_t value) { bytes_.push_back(static_cast<std::byte>(value)); }
    void varint(uint64_t value) {
        while (value >= 0x80) {
            byte(static_cast<uint8_t>(value | 0x80));
            value >>= 7;
        }
        byte(static_cast<uint8_t>(value));
    }
    void fixed(uint64_t value, size_t count) {
        for (size_t i = 0; i < count; ++i) byte(static_cast<uint8_t>(value >> (8 * i)));
    }
    void raw(std::span<const std::byte> value) {
        bytes_.insert(bytes_.end(), value.begin(), value.end());
    }
    void data(std::span<const std::byte> value) {
        varint(value.size());
        raw(value);
    }
    std::vector<std::byte> take() { return std::move(bytes_); }
    size_t size() const { return bytes_.size(); }

  private:
    std::vector<std::byte> bytes_;
};

class Reader {
  public:
    explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    Result<uint8_t> byte() {
        if (at_ == bytes_.size()) return cut_off();
        return static_cast<uint8_t>(bytes_[at_++]);
    }
    Result<uint64_t> varint() {
        uint64_t value = 0;
        for (size_t i = 0; i < kVarintBytesMax; ++i) {
            FT_TRY(const uint8_t part, byte());
            if (i == kVarintBytesMax - 1 && part > 1) return broken("number is over 64 bits");
            if (i > 0 && part == 0) return broken("number is not in its shortest form");
            value |= static_cast<uint64_t>(part & 0x7f) << (7 * i);
            if ((part & 0x80) == 0) return value;
        }
        return broken("number is over 64 bits");
    }
    Result<uint64_t> fixed(size_t count) {
        if (bytes_.size() - at_ < count) return cut_off();
        uint64_t value = 0;
        for (size_t i = 0; i < count; ++i) {
            value |= static_cast<uint64_t>(bytes_[at_ + i]) << (8 * i);
        }
        at_ += count;
        return value;
    }
    Result<std::vector<std::byte>> data(size_t bytes_max) {
        FT_TRY(const uint64_t size, varint());
        if (size > bytes_max) return broken("data is longer than allowed");
        return raw(size);
    }
    Result<std::vector<std::byte>> raw(uint64_t size) {
        if (size > bytes_.size() - at_) return cut_off();
        const auto part = bytes_.subspan(at_, size);
        at_ += size;
        return std::vector<std::byte>(part.begin(), part.end());
    }
    bool at_end() const { return at_ == bytes_.size(); }
    Failure broken(const char* rule) const {
        return fail(Errc::protocol, "log batch: byte {}: {}", at_, rule);
    }

  private:
    Failure cut_off() const {
        return fail(Errc::protocol, "log batch: cut off at byte {}", bytes_.size());
    }
    std::span<const std::byte> bytes_;
    size_t at_ = 0;
};

// What both directions remember from entry to entry within a batch, so that values can be small.
struct Context {
    uint64_t exit = 0;
    uint64_t pm_timer = 0;
    uint8_t version = kLogVersionPlain;
    bool has_stretch = false;
};

// What both directions hold a disk write to; nullptr: it is one.
const char* broken_rule(const StretchWrite& write) {
    using vmm::BlockOperation;
    const bool has_bytes = write.operation == BlockOperation::write;
    if (write.drive >= kDevicesMax) return "drive number is too high";
    if (write.operation < BlockOperation::write || write.operation > BlockOperation::write_zeroes) {
        return "disk operation is not known";
    }
    if (write.length_bytes > UINT64_MAX - write.offset_bytes) return "disk range overflows";
    if (write.operation == BlockOperation::flush) {
        if (write.offset_bytes != 0 || write.length_bytes != 0) return "a flush has a range";
    } else if (write.length_bytes == 0) {
        return "disk range is empty";
    }
    if (has_bytes && write.length_bytes > StretchWrite::kBytesMax) {
        return "data is longer than allowed";
    }
    if (write.bytes.size() != (has_bytes ? write.length_bytes : 0))
        return "data is not its range's";
    return nullptr;
}

void write_header(Writer& out, Kind kind, uint64_t delta) {
    const uint64_t small = delta < kSmallDelta ? delta : kSmallDelta;
    out.byte(static_cast<uint8_t>(static_cast<uint8_t>(kind) | small << 4));
    if (small == kSmallDelta) out.varint(delta - kSmallDelta);
}

struct BodyWriter {
    Writer& out;
    Context& context;
    uint64_t delta;

    void operator()(const InputRead& body) const {
        if (body.kind == vmm::InputKind::pm_timer) return write_pm_timer(body.value);
        write_header(out, Kind::input_read, delta);
        out.byte(static_cast<uint8_t>(body.kind));
        if (body.kind == vmm::InputKind::entropy) {
            out.fixed(body.value, sizeof body.value);
        } else {
            out.varint(body.value);
        }
    }
    void write_pm_timer(uint64_t value) const {
        FT_CHECK(value <= kPmTimerMask, "PM timer {}", value);
        const uint64_t step = (value - context.pm_timer) & kPmTimerMask;
        context.pm_timer = value;
        if (step >= kPmTimerFarStep) {
            write_header(out, Kind::pm_timer_far, delta);
            return out.fixed(value, kPmTimerBytes);
        }
        write_header(out, Kind::input_read, delta);
        out.byte(static_cast<uint8_t>(vmm::InputKind::pm_timer));
        out.varint(step);
    }
    void operator()(const OutputMark& body) const {
        write_header(out, Kind::output_mark, delta);
        out.fixed(body.checksum, 4);
    }
    void operator()(const TimerTick&) const { write_header(out, Kind::timer_tick, delta); }
    void operator()(const BlockDone& body) const {
        FT_CHECK(body.drive < kDevicesMax, "drive {}", body.drive);
        write_header(out, Kind::block_done, delta);
        out.byte(static_cast<uint8_t>(body.drive << 4 | static_cast<uint8_t>(body.status)));
        out.varint(body.number);
    }
    void operator()(const FrameReceived& body) const {
        FT_CHECK(body.interface < kDevicesMax, "interface {}", body.interface);
        FT_CHECK(body.bytes.size() <= vmm::VirtioNet::kFrameBytesMax, "{} bytes",
                 body.bytes.size());
        write_header(out, Kind::frame_received, delta);
        out.varint(body.interface);
        out.data(body.bytes);
    }
    void operator()(const ConsoleInput& body) const {
        FT_CHECK(body.bytes.size() <= kConsoleBytesMax, "{} bytes", body.bytes.size());
        write_header(out, Kind::console_input, delta);
        out.data(body.bytes);
    }
    void operator()(const DigestMark& body) const {
        write_header(out, Kind::digest_mark, delta);
        for (const uint64_t value : {body.cpu, body.devices, body.memory, body.disk}) {
            out.fixed(value, 8);
        }
    }
    void operator()(const Passed&) const { write_header(out, Kind::passed, delta); }
    void operator()(const DeltaPages& body) const {
        FT_CHECK(!body.pages.empty(), "a delta without pages");
        FT_CHECK(body.pages.size() <= DeltaPages::kPagesMax, "{} pages", body.pages.size());
        write_header(out, Kind::delta_pages, delta);
        out.varint(body.pages.size());
        uint64_t next = 0;
        for (const auto& page : body.pages) {
            FT_CHECK(page.number >= next, "page {} out of order", page.number);
            FT_CHECK(page.number < kPageNumberMax, "page {}", page.number);
            FT_CHECK(page.bytes.empty() || page.bytes.size() == kPageBytes, "half a page");
            out.varint((page.number - next) << 1 | (page.bytes.empty() ? 0 : 1));
            out.raw(page.bytes);
            next = page.number + 1;
        }
    }
    void operator()(const DeltaState& body) const {
        FT_CHECK(body.cpu.size() <= DeltaState::kCpuBytesMax, "{} bytes", body.cpu.size());
        write_header(out, Kind::delta_state, delta);
        out.data(body.cpu);
    }
    void operator()(const VmControl& body) const {
        write_header(out, Kind::vm_control, delta);
        out.byte(static_cast<uint8_t>(body.kind));
    }
    void operator()(const CheckpointPart& body) const {
        FT_CHECK(body.bytes.size() <= CheckpointPart::kBytesMax, "{} bytes", body.bytes.size());
        write_header(out, Kind::checkpoint_part, delta);
        out.data(body.bytes);
    }
    void operator()(const StretchBegin& body) const {
        write_part(Part::begin);
        out.byte(static_cast<uint8_t>(body.reason));
    }
    void operator()(const StretchEnd& body) const {
        write_part(Part::end);
        out.byte(static_cast<uint8_t>(body.then));
    }
    void operator()(const StretchOutput& body) const {
        FT_CHECK(body.device < kDevicesMax, "device {}", body.device);
        FT_CHECK(body.bytes.size() <= StretchOutput::kBytesMax, "{} bytes", body.bytes.size());
        write_part(Part::output);
        out.byte(static_cast<uint8_t>(body.kind));
        out.varint(body.device);
        out.data(body.bytes);
    }
    void operator()(const StretchWrite& body) const {
        const char* rule = broken_rule(body);
        FT_CHECK(rule == nullptr, "stretch write: {}", rule);
        write_part(Part::write);
        out.byte(static_cast<uint8_t>(body.drive << 4 | static_cast<uint8_t>(body.operation)));
        out.varint(body.offset_bytes);
        out.varint(body.length_bytes);
        out.raw(body.bytes);
    }
    void operator()(const StretchState& body) const {
        FT_CHECK(!body.bytes.empty(), "a piece of a state without bytes");
        FT_CHECK(body.bytes.size() <= StretchState::kBytesMax, "{} bytes", body.bytes.size());
        write_part(Part::state);
        out.byte(static_cast<uint8_t>(body.piece));
        out.data(body.bytes);
    }
    void write_part(Part part) const {
        write_header(out, Kind::stretch, delta);
        out.byte(static_cast<uint8_t>(part));
    }
};

Result<LogEntry::Body> read_input(Reader& in, Context& context) {
    FT_TRY(const uint8_t kind, in.byte());
    if (kind > static_cast<uint8_t>(vmm::InputKind::wall_clock)) {
        return in.broken("input kind is not known");
    }
    InputRead body{static_cast<vmm::InputKind>(kind), 0};
    if (body.kind == vmm::InputKind::entropy) {
        FT_TRY(body.value, in.fixed(sizeof body.value));
        return LogEntry::Body(body);
    }
    FT_TRY(const uint64_t value, in.varint());
    body.value = value;
    if (body.kind == vmm::InputKind::pm_timer) {
        if (value >= kPmTimerFarStep) return in.broken("PM timer step is over 14 bits");
        body.value = (context.pm_timer + value) & kPmTimerMask;
        context.pm_timer = body.value;
    }
    return LogEntry::Body(body);
}

Result<LogEntry::Body> read_pm_timer_far(Reader& in, Context& context) {
    FT_TRY(const uint64_t value, in.fixed(kPmTimerBytes));
    if (((value - context.pm_timer) & kPmTimerMask) < kPmTimerFarStep) {
        return in.broken("PM timer is not in its shortest form");
    }
    context.pm_timer = value;
    return LogEntry::Body(InputRead{vmm::InputKind::pm_timer, value});
}

Result<LogEntry::Body> read_block_done(Reader& in) {
    FT_TRY(const uint8_t packed, in.byte());
    BlockDone body;
    body.drive = packed >> 4;
    if (body.drive >= kDevicesMax) return in.broken("drive number is too high");
    if ((packed & 0x0f) > static_cast<uint8_t>(vmm::BlockStatus::unsupported)) {
        return in.broken("block status is not known");
    }
    body.status = static_cast<vmm::BlockStatus>(packed & 0x0f);
    FT_TRY(body.number, in.varint());
    return LogEntry::Body(body);
}

Result<LogEntry::Body> read_delta_pages(Reader& in) {
    FT_TRY(const uint64_t count, in.varint());
    if (count == 0 || count > DeltaPages::kPagesMax) return in.broken("page count is out of range");
    DeltaPages body;
    uint64_t next = 0;
    for (uint64_t i = 0; i < count; ++i) {
        FT_TRY(const uint64_t packed, in.varint());
        const uint64_t step = packed >> 1;
        if (step >= kPageNumberMax - next) return in.broken("page number overflows");
        DeltaPages::Page page{next + step, {}};
        if ((packed & 1) != 0) {
            FT_TRY(page.bytes, in.raw(kPageBytes));
        }
        next = page.number + 1;
        body.pages.push_back(std::move(page));
    }
    return LogEntry::Body(std::move(body));
}

Result<LogEntry::Body> read_stretch_output(Reader& in) {
    StretchOutput body;
    FT_TRY(const uint8_t kind, in.byte());
    if (kind < 1 || kind > static_cast<uint8_t>(vmm::Output::Kind::frame)) {
        return in.broken("output kind is not known");
    }
    body.kind = static_cast<vmm::Output::Kind>(kind);
    FT_TRY(const uint64_t device, in.varint());
    if (device >= kDevicesMax) return in.broken("interface number is too high");
    body.device = static_cast<uint32_t>(device);
    FT_TRY(body.bytes, in.data(StretchOutput::kBytesMax));
    return LogEntry::Body(std::move(body));
}

Result<LogEntry::Body> read_stretch_write(Reader& in) {
    StretchWrite body;
    FT_TRY(const uint8_t packed, in.byte());
    body.drive = packed >> 4;
    body.operation = static_cast<vmm::BlockOperation>(packed & 0x0f);
    FT_TRY(body.offset_bytes, in.varint());
    FT_TRY(body.length_bytes, in.varint());
    if (body.operation == vmm::BlockOperation::write) {
        if (body.length_bytes > StretchWrite::kBytesMax) {
            return in.broken("data is longer than allowed");
        }
        FT_TRY(body.bytes, in.raw(body.length_bytes));
    }
    if (const char* rule = broken_rule(body)) return in.broken(rule);
    return LogEntry::Body(std::move(body));
}

Result<LogEntry::Body> read_stretch(Reader& in, Context& context) {
    context.has_stretch = true;
    FT_TRY(const uint8_t part, in.byte());
    switch (static_cast<Part>(part)) {
        case Part::begin: {
            FT_TRY(const uint8_t reason, in.byte());
            if (reason < 1 || reason > static_cast<uint8_t>(DeltasReason::backup_slow)) {
                return in.broken("reason of a stretch is not known");
            }
            return LogEntry::Body(StretchBegin{static_cast<DeltasReason>(reason)});
        }
        case Part::end: {
            FT_TRY(const uint8_t then, in.byte());
            if (then < 1 || then > static_cast<uint8_t>(StretchEnd::Then::resumed)) {
                return in.broken("end of a stretch is not known");
            }
            return LogEntry::Body(StretchEnd{static_cast<StretchEnd::Then>(then)});
        }
        case Part::output:
            return read_stretch_output(in);
        case Part::write:
            return read_stretch_write(in);
        case Part::state: {
            FT_TRY(const uint8_t piece, in.byte());
            if (piece < 1 || piece > static_cast<uint8_t>(StretchState::Piece::last)) {
                return in.broken("piece of a state is not known");
            }
            StretchState body{static_cast<StretchState::Piece>(piece), {}};
            FT_TRY(body.bytes, in.data(StretchState::kBytesMax));
            if (body.bytes.empty()) return in.broken("piece of a state has no bytes");
            return LogEntry::Body(std::move(body));
        }
    }
    return in.broken("part of a stretch is not known");
}

Result<LogEntry::Body> read_body(Reader& in, Kind kind, Context& context) {
    switch (kind) {
        case Kind::input_read:
            return read_input(in, context);
        case Kind::pm_timer_far:
            return read_pm_timer_far(in, context);
        case Kind::output_mark: {
            FT_TRY(const uint64_t checksum, in.fixed(4));
            return LogEntry::Body(OutputMark{static_cast<uint32_t>(checksum)});
        }
        case Kind::timer_tick:
            return LogEntry::Body(TimerTick{});
        case Kind::block_done:
            return read_block_done(in);
        case Kind::frame_received: {
            FT_TRY(const uint64_t interface, in.varint());
            if (interface >= kDevicesMax) {
                return in.broken("interface number is too high");
            }
            FrameReceived body{static_cast<uint32_t>(interface), {}};
            FT_TRY(body.bytes, in.data(vmm::VirtioNet::kFrameBytesMax));
            return LogEntry::Body(std::move(body));
        }
        case Kind::console_input: {
            ConsoleInput body;
            FT_TRY(body.bytes, in.data(kConsoleBytesMax));
            return LogEntry::Body(std::move(body));
        }
        case Kind::digest_mark: {
            DigestMark body;
            FT_TRY(body.cpu, in.fixed(8));
            FT_TRY(body.devices, in.fixed(8));
            FT_TRY(body.memory, in.fixed(8));
            FT_TRY(body.disk, in.fixed(8));
            return LogEntry::Body(body);
        }
        case Kind::passed:
            return LogEntry::Body(Passed{});
        case Kind::vm_control: {
            FT_TRY(const uint8_t act, in.byte());
            if (act < 1 || act > static_cast<uint8_t>(VmControl::Kind::line_break)) {
                return in.broken("control operation is not known");
            }
            return LogEntry::Body(VmControl{static_cast<VmControl::Kind>(act)});
        }
        case Kind::delta_pages:
            return read_delta_pages(in);
        case Kind::delta_state: {
            DeltaState body;
            FT_TRY(body.cpu, in.data(DeltaState::kCpuBytesMax));
            return LogEntry::Body(std::move(body));
        }
        case Kind::checkpoint_part: {
            CheckpointPart body;
            FT_TRY(body.bytes, in.data(CheckpointPart::kBytesMax));
            return LogEntry::Body(std::move(body));
        }
        case Kind::stretch:
            if (context.version < kLogVersionStretches) break;
            return read_stretch(in, context);
    }
    return in.broken("entry kind is not known");
}

Result<LogEntry> read_entry(Reader& in, Context& context) {
    FT_TRY(const uint8_t header, in.byte());
    uint64_t delta = header >> 4;
    if (delta == kSmallDelta) {
        FT_TRY(const uint64_t more, in.varint());
        if (more > UINT64_MAX - kSmallDelta) return in.broken("exit number overflows");
        delta += more;
    }
    if (delta > UINT64_MAX - context.exit) return in.broken("exit number overflows");
    context.exit += delta;
    LogEntry entry{ExitNumber(context.exit), Passed{}};
    FT_TRY(entry.body, read_body(in, static_cast<Kind>(header & 0x0f), context));
    return entry;
}

// Calls `after(size)` behind each entry.
template <typename After>
std::vector<std::byte> write_batch(const LogBatch& batch, After after) {
    FT_CHECK(!batch.entries.empty(), "empty batch");
    FT_CHECK(batch.entries.size() <= LogBatch::kEntriesMax, "{} entries", batch.entries.size());
    FT_CHECK(batch.first.value() > 0, "entries count from 1");
    FT_CHECK(batch.first.value() <= UINT64_MAX - batch.entries.size(), "index {}", batch.first);
    Writer out;
    Context context;
    context.exit = batch.entries.front().exit.value();
    out.byte(std::ranges::any_of(batch.entries, is_of_stretch) ? kLogVersionStretches
                                                               : kLogVersionPlain);
    out.varint(batch.first.value());
    out.varint(batch.released.value());
    out.varint(batch.guest_clock_ns);
    out.varint(context.exit);
    out.varint(batch.entries.size());
    for (const LogEntry& entry : batch.entries) {
        FT_CHECK(entry.exit.value() >= context.exit, "exit {} after {}", entry.exit, context.exit);
        const uint64_t delta = entry.exit.value() - context.exit;
        context.exit = entry.exit.value();
        const size_t before = out.size();
        std::visit(BodyWriter{out, context, delta}, entry.body);
        after(out.size() - before);
    }
    auto bytes = out.take();
    FT_CHECK(bytes.size() <= LogBatch::kBytesMax, "{} bytes", bytes.size());
    return bytes;
}

}  // namespace

bool is_of_stretch(const LogEntry& entry) {
    return std::holds_alternative<StretchBegin>(entry.body) ||
           std::holds_alternative<StretchEnd>(entry.body) ||
           std::holds_alternative<StretchOutput>(entry.body) ||
           std::holds_alternative<StretchWrite>(entry.body) ||
           std::holds_alternative<StretchState>(entry.body);
}

DeltaPages::Page page_of(uint64_t number, std::span<const std::byte> bytes) {
    DeltaPages::Page page{number, {}};
    if (!all_zero(bytes)) page.bytes.assign(bytes.begin(), bytes.end());
    return page;
}

std::vector<std::byte> encode(const LogBatch& batch) {
    return write_batch(batch, [](size_t) {});
}

std::vector<uint32_t> entry_bytes(const LogBatch& batch) {
    std::vector<uint32_t> sizes;
    (void)write_batch(batch, [&](size_t size) { sizes.push_back(static_cast<uint32_t>(size)); });
    return sizes;
}

size_t encoded_bytes_max(const LogEntry& entry) {
    constexpr size_t kFixedMax = 1 + kVarintBytesMax + 32;  // header, delta, the largest fixed body
    if (const auto* frame = std::get_if<FrameReceived>(&entry.body)) {
        return kFixedMax + frame->bytes.size();
    }
    if (const auto* input = std::get_if<ConsoleInput>(&entry.body)) {
        return kFixedMax + input->bytes.size();
    }
    if (const auto* delta = std::get_if<DeltaPages>(&entry.body)) {
        return kFixedMax + delta->pages.size() * (kVarintBytesMax + kPageBytes);
    }
    if (const auto* state = std::get_if<DeltaState>(&entry.body)) {
        return kFixedMax + state->cpu.size();
    }
    if (const auto* part = std::get_if<CheckpointPart>(&entry.body)) {
        return kFixedMax + part->bytes.size();
    }
    if (const auto* output = std::get_if<StretchOutput>(&entry.body)) {
        return kFixedMax + output->bytes.size();
    }
    if (const auto* write = std::get_if<StretchWrite>(&entry.body)) {
        return kFixedMax + write->bytes.size();
    }
    if (const auto* piece = std::get_if<StretchState>(&entry.body)) {
        return kFixedMax + piece->bytes.size();
    }
    return kFixedMax;
}

Result<LogBatch> decode_log_batch(std::span<const std::byte> bytes) {
    if (bytes.size() > LogBatch::kBytesMax) {
        return fail(Errc::limit, "log batch: has {} bytes, at most {} are allowed", bytes.size(),
                    LogBatch::kBytesMax);
    }
    Reader in(bytes);
    Context context;
    FT_TRY(context.version, in.byte());
    if (context.version < kLogVersionPlain || context.version > kLogVersionStretches) {
        return fail(Errc::version, "log batch: version is {}, expected {} or {}", context.version,
                    kLogVersionPlain, kLogVersionStretches);
    }
    LogBatch batch;
    FT_TRY(const uint64_t first, in.varint());
    FT_TRY(const uint64_t released, in.varint());
    FT_TRY(batch.guest_clock_ns, in.varint());
    FT_TRY(context.exit, in.varint());
    FT_TRY(const uint64_t count, in.varint());
    if (count == 0 || count > LogBatch::kEntriesMax)
        return in.broken("entry count is out of range");
    if (first == 0 || first > UINT64_MAX - count) return in.broken("first index is out of range");
    batch.first = LogIndex(first);
    batch.released = OutputNumber(released);
    batch.entries.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
        const uint64_t previous = context.exit;
        FT_TRY(LogEntry entry, read_entry(in, context));
        if (i == 0 && entry.exit.value() != previous) return in.broken("first step is not zero");
        batch.entries.push_back(std::move(entry));
    }
    if (!in.at_end()) return in.broken("bytes behind the last entry");
    if (context.version == kLogVersionStretches && !context.has_stretch) {
        return in.broken("version 2 without an entry of a stretch");
    }
    return batch;
}

namespace {

// What there is to say beside the kind; each text begins with a space, or is empty.
struct Describer {
    std::string operator()(const InputRead& body) const {
        return fmt::format(" kind={} value={}", static_cast<int>(body.kind), body.value);
    }
    std::string operator()(const OutputMark& body) const {
        return fmt::format(" checksum={:08x}", body.checksum);
    }
    std::string operator()(const TimerTick&) const { return ""; }
    std::string operator()(const BlockDone& body) const {
        return fmt::format(" drive={} number={} status={}", body.drive, body.number,
                           static_cast<int>(body.status));
    }
    std::string operator()(const FrameReceived& body) const {
        return fmt::format(" interface={} bytes={}", body.interface, body.bytes.size());
    }
    std::string operator()(const ConsoleInput& body) const {
        return fmt::format(" bytes={}", body.bytes.size());
    }
    std::string operator()(const DigestMark& body) const {
        return fmt::format(" cpu={:016x} devices={:016x} memory={:016x} disk={:016x}", body.cpu,
                           body.devices, body.memory, body.disk);
    }
    std::string operator()(const Passed&) const { return ""; }
    std::string operator()(const DeltaPages& body) const {
        return fmt::format(" count={} first={}", body.pages.size(),
                           body.pages.empty() ? 0 : body.pages.front().number);
    }
    std::string operator()(const DeltaState& body) const {
        return fmt::format(" bytes={}", body.cpu.size());
    }
    std::string operator()(const VmControl& body) const {
        return fmt::format(" {}", to_string(body.kind));
    }
    std::string operator()(const CheckpointPart& body) const {
        return fmt::format(" bytes={}", body.bytes.size());
    }
    std::string operator()(const StretchBegin& body) const {
        return fmt::format(" reason={}", to_string(body.reason));
    }
    std::string operator()(const StretchEnd& body) const {
        return body.then == StretchEnd::Then::lockstep ? " then=lockstep" : " then=resumed";
    }
    std::string operator()(const StretchOutput& body) const {
        return fmt::format(" kind={} device={} bytes={}", static_cast<int>(body.kind), body.device,
                           body.bytes.size());
    }
    std::string operator()(const StretchWrite& body) const {
        return fmt::format(" drive={} operation={} offset={} bytes={}", body.drive,
                           static_cast<int>(body.operation), body.offset_bytes, body.length_bytes);
    }
    std::string operator()(const StretchState& body) const {
        return fmt::format(" bytes={}{}", body.bytes.size(),
                           body.piece == StretchState::Piece::last ? " last" : "");
    }
};

// By the alternative's place in LogEntry::Body.
constexpr std::array<std::string_view, std::variant_size_v<LogEntry::Body>> kKindNames{
    "input-read",    "output",          "timer-tick",    "block-done",  "frame-received",
    "console-input", "digest",          "passed",        "delta-pages", "delta-state",
    "control",       "checkpoint-part", "stretch-begin", "stretch-end", "stretch-output",
    "stretch-write", "stretch-state"};

}  // namespace

const char* to_string(VmControl::Kind kind) {
    switch (kind) {
        case VmControl::Kind::pause:
            return "pause";
        case VmControl::Kind::resume:
            return "resume";
        case VmControl::Kind::reset:
            return "reset";
        case VmControl::Kind::power_off:
            return "power-off";
        case VmControl::Kind::nmi:
            return "nmi";
        case VmControl::Kind::line_break:
            return "line-break";
    }
    return "unknown";
}

const char* to_string(DeltasReason reason) {
    switch (reason) {
        case DeltasReason::heals:
            return "heals";
        case DeltasReason::heal_given_up:
            return "heal-given-up";
        case DeltasReason::busy:
            return "busy";
        case DeltasReason::backup_slow:
            return "backup-slow";
    }
    return "unknown";
}

std::string describe(const LogEntry& entry) {
    return fmt::format("exit {} {}{}", entry.exit, kind_of(entry),
                       std::visit(Describer{}, entry.body));
}

std::string_view kind_of(const LogEntry& entry) {
    return kKindNames[entry.body.index()];
}

uint32_t output_checksum(std::span<const std::byte> bytes) {
    return static_cast<uint32_t>(XXH3_64bits(bytes.data(), bytes.size()));
}

}  // namespace antipode::replay
