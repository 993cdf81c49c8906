// A second vCPU for a bare-metal guest: it counts, under a lock that both share.
//
// The second one is started by INIT and SIPI and stays in real mode, where it counts for ever; the
// first counts when it is asked to. Both check, under the lock, that the total is the sum of their
// counts: a checkpoint that took the two at different moments, or lost a page, breaks it.
//
// Ring 3, the first vCPU. Memory below 1 MiB: the counts at 0x6000, the code at 0x8000.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace antipode::guest {

struct SmpCounts {
    uint32_t lock;
    uint32_t total;
    uint32_t first;
    uint32_t second;
    uint32_t errors;  // seen by the second
};

// Needs a VM with two vCPUs and local APICs.
void smp_start();
// The same with another program: it is copied to 0x8000, and begins there in real mode.
void smp_start(const uint8_t* program, size_t bytes);
// The lock that both share: the word at 0x6000, whatever is behind it.
void smp_take_lock();
void smp_give_lock();
// Counts `rounds` times; false if a count was wrong.
bool smp_count(uint32_t rounds);
// What it is now, all of one moment.
SmpCounts smp_counts();

}  // namespace antipode::guest
