#include "replicator/control/disk_digester.h"

#include <cstring>

#include "common/base/log.h"
#include "disksync/disk_metadata.h"

namespace antipode::control {

void DiskDigester::ask(const SeedAsk& ask) {
    if (failed_) return;
    if (asks_.size() >= kAsksMax) return fail("the primary asks too much at once");
    const uint64_t chunks =
        ask.drive < disks_.drive_count() ? SeedChunk::count_of(disks_.size_bytes(ask.drive)) : 0;
    if (ask.first_chunk > chunks || ask.chunk_count > chunks - ask.first_chunk) {
        return fail("the primary's disk is larger than this site's");
    }
    asks_.push_back(ask);
    if (asks_.size() == 1) begin_next();
}

void DiskDigester::begin_next() {
    const SeedAsk& ask = asks_.front();
    const auto seed = disksync::random_id();
    if (!seed) return fail(seed.error().to_string());
    answer_ = {ask.attempt, ask.drive, ask.first_chunk, *seed, {}};
    answer_.digests.resize(ask.chunk_count);
    next_ = 0;
    done_ = 0;
    read_on();
}

void DiskDigester::read_on() {
    while (reading_ < kReadsMax && next_ < answer_.digests.size()) {
        const size_t index = next_++;
        ++reading_;
        disks_.read_chunk(answer_.drive, (answer_.first_chunk + index) * SeedChunk::kBytes,
                          SeedChunk::kBytes,
                          [this, alive = alive_, index](Result<std::vector<std::byte>> bytes) {
                              if (*alive) chunk_read(index, bytes);
                          });
    }
}

void DiskDigester::chunk_read(size_t index, const Result<std::vector<std::byte>>& bytes) {
    --reading_;
    if (failed_) return;
    if (bytes) {
        answer_.digests[index] = digest_of(*bytes, answer_.seed);
    } else {
        logger("disksync").warn("{}; it is written anew", bytes.error().to_string());
        for (size_t half = 0; half < 2; ++half) {
            const auto random = disksync::random_id();
            if (!random) return fail(random.error().to_string());
            std::memcpy(answer_.digests[index].bytes.data() + 8 * half, &*random, 8);
        }
    }
    ++done_;
    if (done_ < answer_.digests.size()) return read_on();
    asks_.pop_front();
    hooks_.on_answer(std::exchange(answer_, {}));
    if (!failed_ && !asks_.empty()) begin_next();
}

void DiskDigester::fail(const std::string& text) {
    if (std::exchange(failed_, true)) return;
    hooks_.on_failed(text);
}

}  // namespace antipode::control
