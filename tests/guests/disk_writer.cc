// Writes numbered, patterned blocks, flushes, reads them back and compares.
//
// A round is `blocks` writes with `depth` of them in flight, a flush, and as many reads. Each block
// begins with its round and its number, so that a block of another round or place is noticed. On
// start it looks at block 0 to go on after the round that an earlier life wrote.
//
// antipode.blocks=64     blocks of a round (the disk must hold them)
// antipode.block=4096    bytes of a block, 512 to 16384
// antipode.depth=4       requests in flight, 1 to 8
// antipode.rounds=0      rounds after which it ends with EXIT-SUCCESS, 0 = never
// antipode.every=1       rounds between two lines on the console
// antipode.overlap=0     1: before each round two writes of the same block are in flight together,
// with
//                        different content; either may win, but the same one wherever this VM runs
//
// Console: `disk_writer: round=R blocks=N errors=0`. A failed or wrong read is EXIT-FAILURE.
#include "tests/guests/lib/block.h"
#include "tests/guests/lib/kernel.h"

namespace antipode::guest {
namespace {

constexpr size_t kBlockBytesMax = 16384;
constexpr size_t kDepthMax = 8;

struct Plan {
    uint64_t blocks;
    uint64_t block_bytes;
    uint64_t depth;
    uint64_t rounds;
    uint64_t every;
    bool overlap;
};

BlockDisk g_disk;
alignas(4096) uint64_t g_buffers[kDepthMax][kBlockBytesMax / sizeof(uint64_t)];

uint64_t word_at(uint64_t round, uint64_t block, uint64_t index) {
    switch (index) {
        case 0:
            return round;
        case 1:
            return block;
        default:
            return (round * 0x9e3779b97f4a7c15) ^ (block << 32) ^ (index * 0x0101010101010101);
    }
}

void fill(uint64_t* buffer, const Plan& plan, uint64_t round, uint64_t block) {
    for (uint64_t i = 0; i < plan.block_bytes / sizeof(uint64_t); ++i) {
        buffer[i] = word_at(round, block, i);
    }
}

bool is_block(const uint64_t* buffer, const Plan& plan, uint64_t round, uint64_t block) {
    for (uint64_t i = 0; i < plan.block_bytes / sizeof(uint64_t); ++i) {
        if (buffer[i] != word_at(round, block, i)) {
            return false;
        }
    }
    return true;
}

[[noreturn]] void fail_at(const char* what, uint64_t round, uint64_t block, uint64_t detail) {
    Line<128> line;
    line.text("EXIT-FAILURE disk_writer: ").text(what).text(" round=").number(round);
    line.text(" block=").number(block).text(" detail=").hex(detail);
    print(line);
    finish();
}

// A tag is block * kDepthMax + buffer.
void one_done(const Plan& plan, BlockVerb verb, uint64_t round, bool (&busy)[kDepthMax]) {
    uint32_t other_lines = 0;
    const BlockCompletion done = g_disk.complete(other_lines);
    const uint64_t block = done.tag / kDepthMax;
    const uint64_t buffer = done.tag % kDepthMax;
    if (done.status != 0) {
        fail_at(verb == BlockVerb::read ? "read failed" : "write failed", round, block,
                done.status);
    }
    if (verb == BlockVerb::read && !is_block(g_buffers[buffer], plan, round, block)) {
        fail_at("wrong content", round, block, g_buffers[buffer][0]);
    }
    busy[buffer] = false;
}

void pass(const Plan& plan, BlockVerb verb, uint64_t round) {
    bool busy[kDepthMax] = {};
    for (uint64_t block = 0; block < plan.blocks; ++block) {
        uint64_t buffer = 0;
        while (buffer < plan.depth && busy[buffer]) {
            ++buffer;
        }
        if (buffer == plan.depth) {
            one_done(plan, verb, round, busy);
            --block;
            continue;
        }
        if (verb == BlockVerb::write) {
            fill(g_buffers[buffer], plan, round, block);
        } else {
            memset(g_buffers[buffer], 0, plan.block_bytes);
        }
        if (!g_disk.submit(verb, block * plan.block_bytes / kSectorBytes, g_buffers[buffer],
                           static_cast<uint32_t>(plan.block_bytes), block * kDepthMax + buffer)) {
            fail_at("cannot submit", round, block, 0);
        }
        busy[buffer] = true;
    }
    while (g_disk.in_flight()) {
        one_done(plan, verb, round, busy);
    }
}

void flush(uint64_t round) {
    uint32_t other_lines = 0;
    if (g_disk.can_flush()) {
        const uint8_t status = g_disk.run(BlockVerb::flush, 0, nullptr, 0, other_lines);
        if (status != 0) {
            fail_at("flush failed", round, 0, status);
        }
    }
}

// Two writers, one place: the result must be one of them, whole.
void overlap(const Plan& plan, uint64_t round) {
    bool busy[kDepthMax] = {};
    const auto bytes = static_cast<uint32_t>(plan.block_bytes);
    fill(g_buffers[0], plan, round, plan.blocks);
    fill(g_buffers[1], plan, round, plan.blocks + 1);
    if (!g_disk.submit(BlockVerb::write, 0, g_buffers[0], bytes, 0) ||
        !g_disk.submit(BlockVerb::write, 0, g_buffers[1], bytes, 1)) {
        fail_at("cannot submit", round, 0, 0);
    }
    one_done(plan, BlockVerb::write, round, busy);
    one_done(plan, BlockVerb::write, round, busy);
    uint32_t other_lines = 0;
    if (g_disk.run(BlockVerb::read, 0, g_buffers[2], bytes, other_lines) != 0 ||
        (!is_block(g_buffers[2], plan, round, plan.blocks) &&
         !is_block(g_buffers[2], plan, round, plan.blocks + 1))) {
        fail_at("neither of two overlapping writes", round, 0, g_buffers[2][1]);
    }
}

Plan read_plan(Text command_line) {
    Plan plan{};
    plan.blocks = option_number(command_line, "antipode.blocks", 64);
    plan.block_bytes = option_number(command_line, "antipode.block", 4096);
    plan.depth = option_number(command_line, "antipode.depth", 4);
    plan.rounds = option_number(command_line, "antipode.rounds", 0);
    plan.every = option_number(command_line, "antipode.every", 1);
    plan.overlap = option_number(command_line, "antipode.overlap", 0) != 0;
    if (plan.blocks == 0 || plan.every == 0 || plan.depth == 0 || plan.depth > kDepthMax ||
        plan.block_bytes == 0 || plan.block_bytes > kBlockBytesMax ||
        plan.block_bytes % kSectorBytes != 0) {
        fail("disk_writer: an option is out of range");
    }
    return plan;
}

// The round that block 0 holds, 0 if it holds none.
uint64_t last_round(const Plan& plan) {
    uint32_t other_lines = 0;
    const auto bytes = static_cast<uint32_t>(plan.block_bytes);
    if (g_disk.run(BlockVerb::read, 0, g_buffers[0], bytes, other_lines) != 0) {
        fail_at("read failed", 0, 0, 0);
    }
    const uint64_t round = g_buffers[0][0];
    return is_block(g_buffers[0], plan, round, g_buffers[0][1]) ? round : 0;
}

}  // namespace

[[noreturn]] void guest_main(Text command_line) {
    const Plan plan = read_plan(command_line);
    g_disk.open(command_line);
    if (plan.blocks * plan.block_bytes > g_disk.sectors() * kSectorBytes) {
        fail("disk_writer: the disk is too small");
    }
    uint64_t round = last_round(plan);
    Line<160> line;
    line.text("disk_writer: ready sectors=").number(g_disk.sectors()).text(" round=").number(round);
    print(line);
    for (uint64_t count = 1;; ++count) {
        ++round;
        if (plan.overlap) {
            overlap(plan, round);
        }
        pass(plan, BlockVerb::write, round);
        flush(round);
        pass(plan, BlockVerb::read, round);
        if (count % plan.every == 0) {
            line.text("disk_writer: round=").number(round).text(" blocks=").number(plan.blocks);
            line.text(" errors=0");
            print(line);
        }
        if (plan.rounds != 0 && count >= plan.rounds) {
            succeed();
        }
    }
}

}  // namespace antipode::guest
