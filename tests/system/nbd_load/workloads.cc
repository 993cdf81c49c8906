#include "tests/system/nbd_load/workloads.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <set>

#include "common/base/random.h"
#include "tests/system/nbd_load/client.h"

namespace antipode::nbd_load {

namespace {

constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kExerciseBytesMax = uint64_t{256} << 10;

void fill(Slot& slot, uint64_t number) {
    for (size_t at = 0; at + sizeof(number) <= slot.length_bytes; at += sizeof(number)) {
        std::memcpy(slot.buffer.data() + at, &number, sizeof(number));
    }
}

Failure failed(const Slot& slot, const char* what) {
    return fail(Errc::io, "{} at {} of {} bytes: {}", what, slot.offset_bytes, slot.length_bytes,
                std::strerror(slot.error_number));
}

uint64_t span_of(const Client& client, const Options& options) {
    const uint64_t size = client.size_bytes(0);
    return options.span_bytes == 0 ? size : std::min(size, options.span_bytes);
}

void print_measured(std::vector<double>& micros, double seconds, uint64_t block_bytes) {
    std::sort(micros.begin(), micros.end());
    const auto at = [&](double part) {
        return micros[std::min(micros.size() - 1,
                               static_cast<size_t>(part * static_cast<double>(micros.size())))];
    };
    const double rate = static_cast<double>(micros.size()) / seconds;
    std::printf(
        "{\"operations\":%zu,\"operations_per_second\":%.1f,\"bytes_per_second\":%.0f,"
        "\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
        micros.size(), rate, rate * static_cast<double>(block_bytes), at(0.5), at(0.99));
}

// One after the other: what a database's commit waits for.
Result<double> write_then_flush(Client& client, Slot& slot) {
    slot.operation = Operation::write;
    FT_TRY_VOID(client.issue(0, slot, Client::Fua::no));
    const Instant began = slot.began;
    FT_TRY(const auto written, client.wait());
    if (slot.error_number != 0) return failed(slot, "write");
    client.release(slot);
    slot.operation = Operation::flush;
    FT_TRY_VOID(client.issue(0, slot, Client::Fua::no));
    FT_TRY(const auto flushed, client.wait());
    if (slot.error_number != 0) return failed(slot, "flush");
    client.release(slot);
    return std::chrono::duration<double, std::micro>(slot.over - began).count();
}

}  // namespace

Result<> measure(const Options& options) {
    FT_TRY(const auto client, Client::connect(options.uris, options.depth, options.block_bytes));
    Random random(options.seed);
    const uint64_t blocks = span_of(*client, options) / options.block_bytes;
    if (blocks == 0) return fail(Errc::invalid_argument, "the disk is smaller than a block");
    const bool flushes = options.operation == "write-then-flush";
    std::vector<double> micros;
    const Instant began = MonotonicClock::now();
    const Instant end = began + std::chrono::duration_cast<Duration>(
                                    std::chrono::duration<double>(options.seconds));
    while (MonotonicClock::now() < end) {
        while (Slot* slot = client->free_slot()) {
            slot->operation = options.operation == "read" ? Operation::read : Operation::write;
            slot->offset_bytes = random.below(blocks) * options.block_bytes;
            slot->length_bytes = options.block_bytes;
            fill(*slot, random.next());
            if (flushes) {
                FT_TRY(const double took, write_then_flush(*client, *slot));
                micros.push_back(took);
                break;
            }
            FT_TRY_VOID(client->issue(random.below(client->connections()), *slot,
                                      options.fua ? Client::Fua::yes : Client::Fua::no));
        }
        if (flushes) continue;
        FT_TRY(const auto ended, client->wait());
        for (Slot* slot : ended) {
            if (slot->error_number != 0) return failed(*slot, options.operation.c_str());
            micros.push_back(
                std::chrono::duration<double, std::micro>(slot->over - slot->began).count());
            client->release(*slot);
        }
    }
    const double seconds = std::chrono::duration<double>(MonotonicClock::now() - began).count();
    while (client->in_flight() != 0) {
        FT_TRY(const auto ended, client->wait());
        for (Slot* slot : ended) client->release(*slot);
    }
    print_measured(micros, seconds, options.block_bytes);
    return {};
}

namespace {

void block_termination() {
    sigset_t termination;
    sigemptyset(&termination);
    sigaddset(&termination, SIGTERM);
    sigprocmask(SIG_BLOCK, &termination, nullptr);
}

bool termination_wanted() {
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1;
}

}  // namespace

Result<> record(const Options& options) {
    // A line is out before what it says happens: this may be killed at any moment. SIGTERM ends it
    // once all that was begun is answered. It stays blocked: no wait of libnbd is interrupted.
    block_termination();
    std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);
    FT_TRY(const auto client, Client::connect(options.uris, options.depth, options.block_bytes));
    Random random(options.seed);
    const uint64_t blocks = span_of(*client, options) / options.block_bytes;
    std::set<std::pair<size_t, uint64_t>> busy;
    uint64_t begun = 0;
    uint64_t number = options.first_number;
    for (;;) {
        const bool more = begun < options.operations && !termination_wanted();
        if (!more && client->in_flight() == 0) return {};
        Slot* slot = more ? client->free_slot() : nullptr;
        if (slot != nullptr) {
            const size_t disk = random.below(client->connections());
            const uint64_t block = random.below(blocks);
            ++begun;
            if (random.chance(0.03)) {
                slot->operation = Operation::flush;
                slot->number = 0;
                FT_TRY_VOID(client->issue(disk, *slot, Client::Fua::no));
                continue;
            }
            if (!busy.insert({disk, block}).second) continue;
            slot->operation = Operation::write;
            slot->number = number++;
            slot->offset_bytes = block * options.block_bytes;
            slot->length_bytes = options.block_bytes;
            fill(*slot, slot->number);
            std::printf("w %llu %zu %llu\n", static_cast<unsigned long long>(slot->number), disk,
                        static_cast<unsigned long long>(block));
            FT_TRY_VOID(client->issue(disk, *slot,
                                      random.chance(0.05) ? Client::Fua::yes : Client::Fua::no));
            continue;
        }
        FT_TRY(const auto ended, client->wait());
        for (Slot* each : ended) {
            if (each->error_number != 0) return failed(*each, "write or flush");
            if (each->number != 0) {
                std::printf("a %llu\n", static_cast<unsigned long long>(each->number));
                busy.erase({each->connection, each->offset_bytes / options.block_bytes});
            }
            client->release(*each);
        }
    }
}

namespace {

class Exercise {
  public:
    Exercise(Client& client, const Options& options)
        : client_(client), random_(options.seed), model_(span_of(client, options)) {}

    Result<> run(uint64_t operations) {
        for (uint64_t done = 0; done < operations; ++done) {
            Slot* slot = client_.free_slot();
            while (slot == nullptr) {
                FT_TRY_VOID(settle());
                slot = client_.free_slot();
            }
            FT_TRY_VOID(begin(*slot));
        }
        while (client_.in_flight() != 0) FT_TRY_VOID(settle());
        return read_everything();
    }

  private:
    bool overlaps_one_under_way(const Slot& slot) {
        return std::any_of(client_.slots().begin(), client_.slots().end(), [&](const Slot& other) {
            return other.busy && other.operation != Operation::flush &&
                   slot.offset_bytes < other.offset_bytes + other.length_bytes &&
                   other.offset_bytes < slot.offset_bytes + slot.length_bytes;
        });
    }

    Result<> begin(Slot& slot) {
        static constexpr std::array kKinds{
            Operation::read,         Operation::read,  Operation::read,
            Operation::write,        Operation::write, Operation::write,
            Operation::write_zeroes, Operation::trim,  Operation::flush};
        slot.operation = kKinds[random_.below(kKinds.size())];
        const uint64_t sectors = model_.size() / kSectorBytes;
        const uint64_t longest = std::min(sectors, kExerciseBytesMax / kSectorBytes);
        // Mostly short ones: more of them share a block of the bitmap.
        const uint64_t count = random_.chance(0.7)
                                   ? random_.between(1, std::min<uint64_t>(16, longest))
                                   : random_.between(1, longest);
        slot.length_bytes = count * kSectorBytes;
        slot.offset_bytes = random_.below(sectors - count + 1) * kSectorBytes;
        if (slot.operation == Operation::flush) slot.length_bytes = slot.offset_bytes = 0;
        if (slot.operation != Operation::flush && overlaps_one_under_way(slot)) return settle();
        if (slot.operation == Operation::write) {
            for (uint64_t at = 0; at < slot.length_bytes; at += 8) {
                const uint64_t word = random_.next();
                std::memcpy(slot.buffer.data() + at, &word, sizeof(word));
            }
        }
        const auto fua = random_.chance(0.1) ? Client::Fua::yes : Client::Fua::no;
        return client_.issue(random_.below(client_.connections()), slot, fua);
    }

    Result<> settle() {
        if (client_.in_flight() == 0) return {};
        FT_TRY(const auto ended, client_.wait());
        for (Slot* slot : ended) {
            if (slot->error_number != 0) return failed(*slot, "an operation");
            std::byte* model = model_.data() + slot->offset_bytes;
            switch (slot->operation) {
                case Operation::read:
                    FT_TRY_VOID(compare(*slot));
                    break;
                case Operation::write:
                    std::memcpy(model, slot->buffer.data(), slot->length_bytes);
                    break;
                case Operation::write_zeroes:
                case Operation::trim:  // ours reads as zero, so that both copies are the same
                    std::memset(model, 0, slot->length_bytes);
                    break;
                case Operation::flush:
                    break;
            }
            client_.release(*slot);
        }
        return {};
    }

    Result<> compare(const Slot& slot) const {
        const std::byte* model = model_.data() + slot.offset_bytes;
        if (std::memcmp(model, slot.buffer.data(), slot.length_bytes) == 0) return {};
        const auto differs =
            std::mismatch(model, model + slot.length_bytes, slot.buffer.data()).first - model;
        return fail(Errc::corrupt, "a read at {} of {} bytes: byte {} is not what was written",
                    slot.offset_bytes, slot.length_bytes,
                    slot.offset_bytes + static_cast<uint64_t>(differs));
    }

    Result<> read_everything() {
        for (uint64_t at = 0; at < model_.size(); at += kExerciseBytesMax) {
            Slot& slot = *client_.free_slot();
            slot.operation = Operation::read;
            slot.offset_bytes = at;
            slot.length_bytes = std::min<uint64_t>(kExerciseBytesMax, model_.size() - at);
            FT_TRY_VOID(client_.issue(0, slot, Client::Fua::no));
            FT_TRY_VOID(settle());
        }
        return {};
    }

    Client& client_;
    Random random_;
    std::vector<std::byte> model_;  // the disk was of zeroes
};

}  // namespace

Result<> exercise(const Options& options) {
    FT_TRY(const auto client, Client::connect(options.uris, options.depth, kExerciseBytesMax));
    return Exercise(*client, options).run(options.operations);
}

}  // namespace antipode::nbd_load
