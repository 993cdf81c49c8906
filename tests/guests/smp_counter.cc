// Two vCPUs count under one lock; at intervals the first writes the counts to the disk, reads them
// back, and prints them.
//
// antipode.hz=100      timer interrupts per second
// antipode.every=20    ticks between two lines on the console
// antipode.rounds=20   counts of the first vCPU in a tick
//
// Console: `smp_counter: line=L total=T first=F second=S`, L from 1 without a gap. A wrong count, a
// second vCPU that stands, or a disk that does not hold what was written, is EXIT-FAILURE.
#include "tests/guests/lib/block.h"
#include "tests/guests/lib/kernel.h"
#include "tests/guests/lib/smp.h"

namespace antipode::guest {
namespace {

constexpr uint64_t kStandsAfterLines = 50;

BlockDisk g_disk;
alignas(4096) uint64_t g_written[kSectorBytes / sizeof(uint64_t)];
alignas(4096) uint64_t g_read[kSectorBytes / sizeof(uint64_t)];

// Each line has a sector of its own, in turn.
void keep(uint64_t line, const SmpCounts& counts, uint32_t& lines) {
    const uint64_t sector = line % g_disk.sectors();
    g_written[0] = line;
    g_written[1] = counts.total;
    if (g_disk.run(BlockVerb::write, sector, g_written, kSectorBytes, lines) != 0) {
        fail("smp_counter: write");
    }
    if (g_disk.can_flush() && g_disk.run(BlockVerb::flush, 0, nullptr, 0, lines) != 0) {
        fail("smp_counter: flush");
    }
    if (g_disk.run(BlockVerb::read, sector, g_read, kSectorBytes, lines) != 0) {
        fail("smp_counter: read");
    }
    if (memcmp(g_written, g_read, kSectorBytes) != 0) {
        fail("smp_counter: the disk holds something else");
    }
}

}  // namespace

[[noreturn]] void guest_main(Text command_line) {
    const uint64_t hz = option_number(command_line, "antipode.hz", 100);
    const uint64_t every = option_number(command_line, "antipode.every", 20);
    const auto rounds = static_cast<uint32_t>(option_number(command_line, "antipode.rounds", 20));
    if (hz == 0 || every == 0) {
        fail("antipode.hz and antipode.every must not be 0");
    }
    g_disk.open(command_line);
    print("smp_counter: ready");
    smp_start();
    start_timer(hz);
    uint64_t next = every;
    uint64_t line_number = 0;
    uint64_t stood = 0;
    uint32_t second_seen = 0;
    Line<128> line;
    for (;;) {
        uint32_t lines = wait();
        if (!smp_count(rounds)) {
            fail("smp_counter: the first vCPU found a wrong total");
        }
        if (ticks() < next) {
            continue;
        }
        next = ticks() + every;
        const SmpCounts counts = smp_counts();
        if (counts.errors != 0 || counts.total != counts.first + counts.second) {
            fail("smp_counter: wrong total");
        }
        stood = counts.second == second_seen ? stood + 1 : 0;
        second_seen = counts.second;
        if (stood > kStandsAfterLines) {
            fail("smp_counter: the second vCPU stands");
        }
        keep(++line_number, counts, lines);
        line.text("smp_counter: line=").number(line_number).text(" total=").number(counts.total);
        line.text(" first=").number(counts.first).text(" second=").number(counts.second);
        print(line);
    }
}

}  // namespace antipode::guest
