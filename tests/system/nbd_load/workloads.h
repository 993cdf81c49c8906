// The workloads of nbd_load. Each prints what it found to standard output.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"

namespace antipode::nbd_load {

struct Options {
    std::vector<std::string> uris;
    uint64_t seed = 1;
    size_t depth = 1;
    uint64_t block_bytes = 4096;
    std::string operation = "write";
    bool fua = false;
    double seconds = 5;
    uint64_t operations = 10'000;
    uint64_t first_number = 1;
    uint64_t span_bytes = 0;  // of the disk, from its start; 0: all of it
};

// Random blocks as fast as they are answered; one line of JSON: operations a second, and how long
// an operation took. `operation`: read, write, or write-then-flush, one after the other.
Result<> measure(const Options& options);

// Writes numbered blocks to all disks, each filled with its number, and says on a line each what it
// began (w NUMBER DISK BLOCK) and what was answered (a NUMBER), in the order in which that
// happened, until the server goes away or `operations` are done. Never two at once to one block.
Result<> record(const Options& options);

// Random writes, zeroes, trims, flushes and reads of any length, over all connections at once (they
// lead to the same disk), every read compared with what must be there. Ends by reading all of it.
Result<> exercise(const Options& options);

}  // namespace antipode::nbd_load
