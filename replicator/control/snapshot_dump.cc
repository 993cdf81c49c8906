// What is in a snapshot file, for people.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <set>

#include "replicator/control/restore.h"
#include "replicator/control/seed_frames.h"
#include "replicator/control/snapshot_file.h"
#include "replicator/vmm/smp_state.h"

namespace antipode::control {
namespace {

void print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
}

void print_shape(const SnapshotShape& shape) {
    print(fmt::format("snapshot: version={} pair={} site={} epoch={} created_unix_ms={} by={}\n",
                      snapshot_version(shape), shape.pair, shape.site, shape.epoch,
                      shape.created_unix_ms, shape.software));
    print(fmt::format("memory: {} bytes\n", shape.memory_bytes));
    for (const auto& drive : shape.drives) {
        print(fmt::format("drive {}: {} bytes{}\n", drive.id, drive.size_bytes,
                          drive.is_read_only ? ", read only" : ""));
    }
    for (const auto& network : shape.networks) {
        print(fmt::format("interface {}: {}\n", network.id, vmm::format_mac(network.mac)));
    }
    if (shape.has_entropy) print("entropy device\n");
    if (shape.checkpoint_vcpus != 0) {
        print(fmt::format("checkpoint mode, {} vCPUs\n", shape.checkpoint_vcpus));
    }
}

struct Totals {
    uint64_t page_pieces = 0;
    uint64_t chunk_pieces = 0;
    std::set<uint64_t> pages;
    std::set<uint64_t> zero_pages;
    uint64_t chunk_bytes = 0;

    void add(const SeedPages& piece) {
        ++page_pieces;
        for (const auto& page : piece.pages.pages) {
            pages.insert(page.number);
            if (page.bytes.empty()) {
                zero_pages.insert(page.number);
            } else {
                zero_pages.erase(page.number);
            }
        }
    }
    void add(const SeedChunk& piece) {
        ++chunk_pieces;
        chunk_bytes += piece.bytes.size();
    }
};

void print_cpu(const vmm::CpuState& cpu) {
    const auto& r = cpu.regs;
    print(
        fmt::format("  rax={:016x} rbx={:016x} rcx={:016x} rdx={:016x}\n"
                    "  rsi={:016x} rdi={:016x} rsp={:016x} rbp={:016x}\n"
                    "  r8 ={:016x} r9 ={:016x} r10={:016x} r11={:016x}\n"
                    "  r12={:016x} r13={:016x} r14={:016x} r15={:016x}\n"
                    "  rip={:016x} rflags={:08x}\n",
                    r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10,
                    r.r11, r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags));
    const auto& s = cpu.sregs;
    print(fmt::format("  cr0={:x} cr2={:x} cr3={:x} cr4={:x} efer={:x} cs={:x}:{:x} ss={:x}\n",
                      static_cast<uint64_t>(s.cr0), static_cast<uint64_t>(s.cr2),
                      static_cast<uint64_t>(s.cr3), static_cast<uint64_t>(s.cr4),
                      static_cast<uint64_t>(s.efer), static_cast<unsigned>(s.cs.selector),
                      static_cast<uint64_t>(s.cs.base), static_cast<unsigned>(s.ss.selector)));
    for (const auto& msr : cpu.msrs) print(fmt::format("  msr {:x}={:x}\n", msr.index, msr.value));
}

// A register of a local APIC's page; one each 16 bytes.
uint32_t apic_register(const kvm_lapic_state& apic, size_t offset) {
    uint32_t value = 0;
    std::memcpy(&value, apic.regs + offset, sizeof value);
    return value;
}

void print_smp(const vmm::SmpState& smp) {
    for (size_t i = 0; i < smp.cpus.size(); ++i) {
        const auto& apic = smp.local_apics[i];
        print(fmt::format(
            "vCPU {}: mp_state={} apic_id={} tpr={:x} spurious={:x} timer={:x} "
            "initial_count={} current_count={}\n",
            i, smp.cpus[i].mp.mp_state, apic_register(apic, 0x20) >> 24, apic_register(apic, 0x80),
            apic_register(apic, 0xf0), apic_register(apic, 0x320), apic_register(apic, 0x380),
            apic_register(apic, 0x390)));
        print_cpu(smp.cpus[i]);
    }
    for (size_t i = 0; i < 2; ++i) {
        const auto& pic = smp.chips[i].chip.pic;
        print(fmt::format("8259 {}: irr={:02x} imr={:02x} isr={:02x} base={:02x}\n", i, pic.irr,
                          pic.imr, pic.isr, pic.irq_base));
    }
    const auto& io_apic = smp.chips[2].chip.ioapic;
    print(fmt::format("I/O APIC: id={} irr={:x}\n", io_apic.id, io_apic.irr));
    for (size_t pin = 0; pin < std::size(io_apic.redirtbl); ++pin) {
        const uint64_t bits = io_apic.redirtbl[pin].bits;
        constexpr uint64_t kMasked = uint64_t{1} << 16;
        if ((bits & kMasked) == 0) print(fmt::format("  pin {}: {:016x}\n", pin, bits));
    }
    for (size_t i = 0; i < std::size(smp.timer.channels); ++i) {
        const auto& channel = smp.timer.channels[i];
        print(fmt::format("8254 channel {}: mode={} count={}\n", i, channel.mode, channel.count));
    }
}

Result<void> print_end(const SnapshotShape& shape, const SeedEnd& end) {
    const auto& state = end.state;
    print(
        fmt::format("state: exit={} output={} released={} in_halt={} paused={} between_exits={} "
                    "guest_clock_ns={} log={} machine_bytes={}\n",
                    state.exit, state.output, end.released, state.in_halt, state.held,
                    state.between_exits, state.guest_clock_ns, end.position, state.machine.size()));
    vmm::StateReader in(state.cpu);
    if (shape.checkpoint_vcpus != 0) {
        FT_TRY(const auto smp, vmm::SmpState::load(in, shape.checkpoint_vcpus));
        print_smp(smp);
    } else {
        FT_TRY(const auto cpu, vmm::CpuState::load(in));
        print_cpu(cpu);
    }
    for (const auto& held : end.held) {
        const bool frame = held.output.kind == vmm::Output::Kind::frame;
        print(fmt::format("  held output {}: {} {}, {} bytes\n", held.number,
                          frame ? "frame of interface" : "console", held.output.device,
                          held.output.bytes.size()));
    }
    return {};
}

}  // namespace

Result<void> dump_snapshot(const std::string& path, DumpDetail detail) {
    FT_TRY(auto reader, SnapshotReader::open(path));
    print_shape(reader.shape());
    Totals totals;
    uint64_t pieces = 0;
    std::optional<SeedEnd> end;
    for (;;) {
        const uint64_t at = reader.offset();
        FT_TRY(const auto bytes, reader.next());
        if (!bytes) break;
        auto piece = decode_seed_piece(*bytes);
        if (!piece)
            return fail(std::move(piece).error().within(fmt::format("{}: offset {}", path, at)));
        ++pieces;
        std::string what;
        if (const auto* pages = std::get_if<SeedPages>(&*piece)) {
            totals.add(*pages);
            what = fmt::format("{} pages", pages->pages.pages.size());
            if (!pages->pages.pages.empty()) {
                what += fmt::format(" from {}", pages->pages.pages.front().number);
            }
        } else if (const auto* chunk = std::get_if<SeedChunk>(&*piece)) {
            totals.add(*chunk);
            what = fmt::format("drive {} offset {} bytes {}{}", chunk->drive, chunk->offset_bytes,
                               chunk->length_bytes, chunk->bytes.empty() ? " zero" : "");
        } else {
            end = std::move(std::get<SeedEnd>(*piece));
            what = "state";
        }
        if (detail == DumpDetail::pieces) {
            print(fmt::format("{:>12} {:>8} {}\n", at, reader.stored_bytes(), what));
        }
    }
    if (!end) return fail(Errc::corrupt, "{}: it has no state", path);
    print(
        fmt::format("pieces: {} ({} of memory: {} pages, {} of them zero; {} of disks: {} bytes "
                    "that are not zero), {} bytes in the file\n",
                    pieces, totals.page_pieces, totals.pages.size(), totals.zero_pages.size(),
                    totals.chunk_pieces, totals.chunk_bytes, reader.offset()));
    return print_end(reader.shape(), *end);
}

}  // namespace antipode::control
