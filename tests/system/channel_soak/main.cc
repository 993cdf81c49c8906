// channel_soak: the two ends of a channel in one process, for as long as asked, over whatever line
// lies between them (tests/system/channel_soak_test.py puts the emulator there). Both ends send
// numbered messages of random sizes in every class; each must arrive once, in order and whole. The
// process's memory must not grow once it has settled. Prints one line of JSON; exit code 1 if a
// promise was broken.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "common/base/check.h"
#include "common/base/random.h"
#include "tests/unit/stream/channel_pair.h"

namespace antipode::stream {
namespace {

constexpr uint64_t kBoundBytes = 4 << 20;  // of each class at each end, so that growth shows
constexpr size_t kUrgentBytesMax = 2048;
constexpr size_t kBulkBytesMax = 128 << 10;
constexpr size_t kNumberBytes = 8;
constexpr Duration kTurn = std::chrono::milliseconds(1);
constexpr Duration kDrainPatience = std::chrono::seconds(60);
constexpr Duration kMemoryInterval = std::chrono::milliseconds(250);

struct Settings {
    std::string a_listen, b_listen, a_peer, b_peer;
    double seconds = 60;
    uint64_t seed = 1;
    uint64_t bulk_cap_bytes_per_second = 4 << 20;
};

// Message `number` of a class is the same at both ends; half of them compress.
std::vector<std::byte> payload_of(MessageClass message_class, uint64_t number, uint64_t seed) {
    Random random(seed ^ (number << 3) ^ wire::index_of(message_class));
    const size_t most = wire::is_bulk(message_class) ? kBulkBytesMax : kUrgentBytesMax;
    std::vector<std::byte> bytes(kNumberBytes + random.below(most - kNumberBytes + 1));
    std::memcpy(bytes.data(), &number, kNumberBytes);
    const bool text = random.chance(0.5);
    for (size_t i = kNumberBytes; i < bytes.size(); i += sizeof(uint64_t)) {
        const uint64_t word = text ? 0x6f66667562206120 + (i & 0xf) : random.next();
        std::memcpy(bytes.data() + i, &word, std::min(sizeof word, bytes.size() - i));
    }
    return bytes;
}

uint64_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    uint64_t total = 0;
    uint64_t resident = 0;
    file >> total >> resident;
    return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

class End {
  public:
    End(Side& side, uint64_t seed) : side_(side), seed_(seed) {
        side.handler.on_each = [this](const Recorded::Message& message) { take(message); };
    }

    // What fits; a message of log and one of control a turn.
    void send() {
        for (const auto c : wire::kMessageClasses) {
            const int most = wire::is_bulk(c) ? 4 : 1;
            for (int i = 0; i < most; ++i) {
                const size_t index = wire::index_of(c);
                if (side_.channel->unsent_bytes(c) > kBoundBytes / 2) break;
                if (!side_.channel->send(c, 1, Epoch(1), payload_of(c, sent_[index], seed_))) break;
                ++sent_[index];
            }
        }
    }
    void take(const Recorded::Message& message) {
        uint64_t& expected = received_[wire::index_of(message.message_class)];
        uint64_t number = 0;
        if (message.payload.size() >= kNumberBytes) {
            std::memcpy(&number, message.payload.data(), kNumberBytes);
        }
        if (number < expected) ++repeated_;
        if (number > expected) lost_ += number - expected;
        if (message.payload != payload_of(message.message_class, number, seed_)) ++wrong_;
        expected = std::max(expected, number + 1);
        side_.handler.messages.clear();
    }
    bool has_all_of(const End& other) const { return received_ == other.sent_; }
    uint64_t broken() const { return lost_ + repeated_ + wrong_; }
    uint64_t missing(const End& other) const {
        uint64_t count = 0;
        for (size_t i = 0; i < sent_.size(); ++i) count += other.sent_[i] - received_[i];
        return count;
    }
    std::string json(const End& other) const {
        const auto stats = side_.channel->stats();
        uint64_t repeats = 0;
        uint64_t duplicates = 0;
        for (const auto& stream : stats.streams) {
            repeats += stream.frames_repeated;
            duplicates += stream.duplicates;
        }
        return fmt::format(
            R"({{"sent":[{}],"received":[{}],"lost":{},"repeated":{},"wrong":{},"missing":{},)"
            R"("sessions":{},"resumes":{},"reconnects":{},"frames_repeated":{},"duplicates":{},)"
            R"("garbage":{},"wire_bytes_sent":{}}})",
            fmt::join(sent_, ","), fmt::join(received_, ","), lost_, repeated_, wrong_,
            missing(other), stats.sessions, stats.resumes, stats.reconnects, repeats, duplicates,
            stats.garbage_frames, stats.wire_bytes_sent);
    }

  private:
    Side& side_;
    uint64_t seed_;
    PerClass<uint64_t> sent_{};
    PerClass<uint64_t> received_{};
    uint64_t lost_ = 0;
    uint64_t repeated_ = 0;
    uint64_t wrong_ = 0;
};

ChannelConfig config_of(const ChannelPair& pair, const Side& own, const Side& other,
                        const std::string& listen, const std::string& peer) {
    auto config = pair.config(own, other);
    config.listen = listen;
    config.peer = peer;
    config.send_bytes_max.fill(kBoundBytes);
    config.receive_bytes_max.fill(kBoundBytes);
    return config;
}

struct Memory {
    uint64_t first_half = 0;
    uint64_t second_half = 0;
};

int soak(const Settings& settings) {
    ChannelPair pair;
    auto opened =
        pair.open(pair.a, config_of(pair, pair.a, pair.b, settings.a_listen, settings.a_peer));
    if (opened) {
        opened =
            pair.open(pair.b, config_of(pair, pair.b, pair.a, settings.b_listen, settings.b_peer));
    }
    if (!opened) {
        std::fprintf(stderr, "channel_soak: %s\n", opened.error().to_string().c_str());
        return 2;
    }
    for (Side* side : {&pair.a, &pair.b}) {
        side->channel->set_bulk_cap(settings.bulk_cap_bytes_per_second);
    }
    if (!pair.both_up()) {
        std::fprintf(stderr, "channel_soak: the ends do not find each other\n");
        return 2;
    }
    std::puts("up");  // the line may become bad
    std::fflush(stdout);
    End a(pair.a, settings.seed);
    End b(pair.b, settings.seed);
    const Instant begin = MonotonicClock::now();
    const auto length =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(settings.seconds));
    Memory memory;
    Instant next_turn = begin;
    Instant next_look = begin;
    for (Instant now = begin; now < begin + length; now = MonotonicClock::now()) {
        if (now >= next_turn) {
            next_turn = now + kTurn;
            a.send();
            b.send();
        }
        if (now >= next_look) {
            next_look = now + kMemoryInterval;
            uint64_t& peak = now < begin + length / 2 ? memory.first_half : memory.second_half;
            peak = std::max(peak, resident_bytes());
        }
        pair.context.restart();
        pair.context.run_one_for(kTurn);
    }
    std::puts("drain");  // the line is to be good again
    std::fflush(stdout);
    const bool drained = run_until(
        pair.context, [&] { return a.has_all_of(b) && b.has_all_of(a); }, kDrainPatience);
    std::printf(R"({"a":%s,"b":%s,"drained":%s,"memory_first_half":%lu,"memory_second_half":%lu})"
                "\n",
                a.json(b).c_str(), b.json(a).c_str(), drained ? "true" : "false",
                static_cast<unsigned long>(memory.first_half),
                static_cast<unsigned long>(memory.second_half));
    return drained && a.broken() + b.broken() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace antipode::stream

int main(int argc, char** argv) {
    CLI::App app(
        "Sends numbered messages between the two ends of a channel and counts what is lost");
    antipode::stream::Settings settings;
    app.add_option("--a-listen", settings.a_listen)->required();
    app.add_option("--b-listen", settings.b_listen)->required();
    app.add_option("--a-peer", settings.a_peer)->required();
    app.add_option("--b-peer", settings.b_peer)->required();
    app.add_option("--seconds", settings.seconds)->capture_default_str();
    app.add_option("--seed", settings.seed)->capture_default_str();
    app.add_option("--bulk-cap", settings.bulk_cap_bytes_per_second, "Bytes a second")
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    return antipode::stream::soak(settings);
}
