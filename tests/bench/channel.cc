// The channel against raw ZeroMQ, with and without CURVE, in one run over loopback: throughput of
// incompressible, mixed and text data, messages a second, how late a log message is beside full
// bulk, and processor time. Medians of turns.
#include <algorithm>
#include <cstdio>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>
#include <zmq.h>

#include "common/base/check.h"
#include "common/base/random.h"
#include "replicator/replay/log_entry.h"
#include "tests/unit/stream/channel_pair.h"

namespace antipode::stream {
namespace {

constexpr size_t kMessageBytes = 64 << 10;
constexpr uint64_t kTurnBytes = uint64_t{192} << 20;
constexpr int kTurns = 3;
// Until the window and the level of compression are what this line and these bytes ask for.
constexpr Duration kWarmUp = std::chrono::milliseconds(2500);
constexpr uint64_t kSmallMessages = 200'000;
constexpr Duration kPatience = std::chrono::seconds(60);

int missed = 0;

void show(const std::string& name, double value, const char* unit, const std::string& rest = {}) {
    std::printf("%s %.4g %s%s%s\n", name.c_str(), value, unit, rest.empty() ? "" : " ",
                rest.c_str());
    std::fflush(stdout);
}

void show_ratio(const std::string& name, double value, const char* unit, double peer, double goal) {
    const double ratio = value / peer;
    if (ratio < goal) ++missed;
    show(name, value, unit, fmt::format("goal=>={} ratio={:.3f}", goal, ratio));
}

void show_at_most(const std::string& name, double value, const char* unit, double goal) {
    if (value > goal) ++missed;
    show(name, value, unit, fmt::format("goal=<={} ratio={:.3f}", goal, value / goal));
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

double cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

double seconds_since(Instant begin) {
    return std::chrono::duration<double>(MonotonicClock::now() - begin).count();
}

using Pieces = std::vector<std::vector<std::byte>>;

// 16 MiB, so that no window of a compressor holds all of it.
Pieces make_pieces(const std::function<std::byte(Random&, size_t)>& make) {
    Random random(42);
    Pieces pieces(256, std::vector<std::byte>(kMessageBytes));
    for (auto& piece : pieces) {
        for (size_t i = 0; i < piece.size(); ++i) piece[i] = make(random, i);
    }
    return pieces;
}

Pieces incompressible() {
    return make_pieces([](Random& r, size_t) { return static_cast<std::byte>(r.next() & 0xff); });
}

// Half of each page random, half a pattern that repeats with differences, as memory and disks have.
Pieces mixed() {
    return make_pieces([](Random& r, size_t i) {
        const bool noise = i % 4096 < 2048;
        return static_cast<std::byte>(noise ? r.next() & 0xff : (i / 64 + r.below(2)) & 0xff);
    });
}

Pieces text() {
    static const std::vector<std::string> kWords{
        "the ", "primary ", "records ", "what ", "its ",  "guest ", "does ",  "and ",
        "the ", "backup ",  "replays ", "it ",   "exit ", "by ",    "exit.\n"};
    std::string rest;
    return make_pieces([&rest](Random& r, size_t) {
        if (rest.empty()) rest = kWords[r.below(kWords.size())];
        const auto c = static_cast<std::byte>(rest.front());
        rest.erase(0, 1);
        return c;
    });
}

void must(int result, const char* what) {
    FT_CHECK(result >= 0, "{}: {}", what, zmq_strerror(zmq_errno()));
}

void set_int(void* socket, int option, int value) {
    must(zmq_setsockopt(socket, option, &value, sizeof value), "zmq_setsockopt");
}

void secure(void* pull, void* push) {
    const auto server = *generate_curve_keys();
    const auto client = *generate_curve_keys();
    const auto set = [](void* socket, int option, const std::string& key) {
        must(zmq_setsockopt(socket, option, key.c_str(), key.size()), "CURVE");
    };
    set_int(pull, ZMQ_CURVE_SERVER, 1);
    set(pull, ZMQ_CURVE_SECRETKEY, server.secret_z85);
    set(push, ZMQ_CURVE_SERVERKEY, server.public_key.z85);
    set(push, ZMQ_CURVE_PUBLICKEY, client.public_key.z85);
    set(push, ZMQ_CURVE_SECRETKEY, client.secret_z85);
}

struct Turn {
    double bytes_per_second = 0;
    double cpu_ms_per_megabyte = 0;  // at both ends together
};

Turn turn_of(Instant begin, double cpu_begin) {
    const auto bytes = static_cast<double>(kTurnBytes);
    return {bytes / seconds_since(begin), (cpu_seconds() - cpu_begin) * 1e3 / (bytes / 1e6)};
}

// Through PUSH/PULL over TCP, one I/O thread an end, as the channel has.
Turn raw_turn(const Pieces& pieces, bool curve) {
    void* out = zmq_ctx_new();
    void* in = zmq_ctx_new();
    void* push = zmq_socket(out, ZMQ_PUSH);
    void* pull = zmq_socket(in, ZMQ_PULL);
    if (curve) secure(pull, push);
    must(zmq_bind(pull, "tcp://127.0.0.1:*"), "zmq_bind");
    std::array<char, 128> endpoint{};
    size_t length = endpoint.size();
    must(zmq_getsockopt(pull, ZMQ_LAST_ENDPOINT, endpoint.data(), &length), "ZMQ_LAST_ENDPOINT");
    must(zmq_connect(push, endpoint.data()), "zmq_connect");
    const uint64_t count = kTurnBytes / kMessageBytes;
    std::thread sender([&] {
        for (uint64_t i = 0; i <= count; ++i) {
            const auto& piece = pieces[i % pieces.size()];
            must(zmq_send(push, piece.data(), piece.size(), 0), "zmq_send");
        }
    });
    std::vector<std::byte> room(kMessageBytes);
    must(zmq_recv(pull, room.data(), room.size(), 0), "zmq_recv");  // the line is there
    const double cpu_begin = cpu_seconds();
    const Instant begin = MonotonicClock::now();
    for (uint64_t i = 0; i < count; ++i) {
        must(zmq_recv(pull, room.data(), room.size(), 0), "zmq_recv");
    }
    const Turn turn = turn_of(begin, cpu_begin);
    sender.join();
    zmq_close(push);
    zmq_close(pull);
    zmq_ctx_term(out);
    zmq_ctx_term(in);
    return turn;
}

class Bench {
  public:
    Bench() {
        pair_.a.handler.keep_payloads = pair_.b.handler.keep_payloads = false;
        const auto opened = pair_.open_both();
        FT_CHECK(opened.has_value(), "{}", opened.error().to_string());
        FT_CHECK(pair_.both_up(), "no session");
    }

    void warm_up(const Pieces& pieces);
    Turn throughput(const Pieces& pieces);
    double small_messages();
    void log_entries();
    void latency(const Pieces& pieces);
    ChannelStats stats() const { return pair_.a.channel->stats(); }
    double compression() const {
        const auto stats = pair_.a.channel->stats();
        const auto& seed = stats.of(MessageClass::seed);
        return static_cast<double>(seed.payload_bytes_sent) /
               static_cast<double>(std::max<uint64_t>(seed.body_bytes_sent, 1));
    }

  private:
    void fill(const Pieces& pieces, uint64_t& sent, uint64_t total) {
        while (sent < total &&
               pair_.a.channel->send(MessageClass::seed, 1, Epoch(1),
                                     std::span<const std::byte>(pieces[next_ % pieces.size()]))) {
            sent += kMessageBytes;
            ++next_;
        }
    }
    ChannelPair pair_;
    uint64_t next_ = 0;
    std::vector<Instant> sent_at_;
};

void Bench::warm_up(const Pieces& pieces) {
    const auto& in = pair_.b.handler;
    const uint64_t before = in.payload_bytes;
    uint64_t sent = 0;
    const Instant end = MonotonicClock::now() + kWarmUp;
    const bool good = run_until(
        pair_.context,
        [&] {
            if (MonotonicClock::now() < end) fill(pieces, sent, UINT64_MAX);
            return MonotonicClock::now() >= end && in.payload_bytes - before >= sent;
        },
        kPatience);
    FT_CHECK(good, "{} of {} bytes arrived", in.payload_bytes - before, sent);
}

Turn Bench::throughput(const Pieces& pieces) {
    auto& in = pair_.b.handler;
    const uint64_t before = in.payload_bytes;
    uint64_t sent = 0;
    const double cpu_begin = cpu_seconds();
    const Instant begin = MonotonicClock::now();
    const bool good = run_until(
        pair_.context,
        [&] {
            fill(pieces, sent, kTurnBytes);
            return in.payload_bytes - before >= kTurnBytes;
        },
        kPatience);
    FT_CHECK(good, "{} of {} bytes arrived", in.payload_bytes - before, kTurnBytes);
    return turn_of(begin, cpu_begin);
}

// Log messages of 32 bytes, as small batches are.
double Bench::small_messages() {
    auto& in = pair_.b.handler;
    const uint64_t before = in.message_count;
    const std::vector<std::byte> payload(32, std::byte{7});
    uint64_t sent = 0;
    const Instant begin = MonotonicClock::now();
    const bool good = run_until(
        pair_.context,
        [&] {
            while (sent < kSmallMessages &&
                   pair_.a.channel->send(MessageClass::log, 1, Epoch(1),
                                         std::span<const std::byte>(payload))) {
                ++sent;
            }
            return in.message_count - before >= kSmallMessages;
        },
        kPatience);
    FT_CHECK(good, "log messages are missing");
    return static_cast<double>(kSmallMessages) / seconds_since(begin);
}

// A stretch of a server's log: a request comes, is answered and written to the disk; ticks between.
replay::LogBatch server_batch(Random& random, uint64_t& exit, uint64_t& request, size_t requests) {
    using namespace replay;
    LogBatch batch{LogIndex(1 + request * 8), OutputNumber(request), request * 2'000'000, {}};
    const auto add = [&](uint64_t step, LogEntry::Body body) {
        exit += step;
        batch.entries.push_back({ExitNumber(exit), std::move(body)});
    };
    const auto clock = [&] {
        const uint64_t pm_timer = (request * 7159 + random.below(2000)) & 0xffffff;
        return InputRead{vmm::InputKind::pm_timer, pm_timer};
    };
    for (size_t i = 0; i < requests; ++i) {
        std::vector<std::byte> frame(98);
        for (auto& each : frame) each = static_cast<std::byte>(random.next());
        add(random.between(1, 3), FrameReceived{0, std::move(frame)});
        add(random.between(1, 5), clock());
        add(random.between(4, 9), BlockDone{0, request, vmm::BlockStatus::ok});
        add(random.between(2, 4), OutputMark{static_cast<uint32_t>(random.next())});
        if (++request % 10 == 0) {
            add(random.between(2, 30), TimerTick{});
            add(random.between(1, 3), clock());
            add(0, clock());
        }
    }
    add(0, Passed{});
    return batch;
}

// What is of the world outside, and no form of saying it: frames, console input, pages, states.
size_t payload_bytes(const replay::LogEntry& entry) {
    using namespace replay;
    if (const auto* frame = std::get_if<FrameReceived>(&entry.body)) return frame->bytes.size();
    if (const auto* input = std::get_if<ConsoleInput>(&entry.body)) return input->bytes.size();
    if (const auto* state = std::get_if<DeltaState>(&entry.body)) return state->cpu.size();
    if (const auto* part = std::get_if<CheckpointPart>(&entry.body)) return part->bytes.size();
    if (const auto* delta = std::get_if<DeltaPages>(&entry.body)) {
        size_t bytes = 0;
        for (const auto& page : delta->pages) bytes += page.bytes.size();
        return bytes;
    }
    return 0;
}

// The kinds of entries that a server's log does not have, or seldom, as they are.
replay::LogBatch seldom_batch(Random& random) {
    using namespace replay;
    LogBatch batch{LogIndex(1), OutputNumber(1), 1'000'000, {}};
    uint64_t exit = 1'000'000;
    const auto add = [&](LogEntry::Body body) {
        exit += random.between(1, 30);
        batch.entries.push_back({ExitNumber(exit), std::move(body)});
    };
    for (int i = 0; i < 16; ++i) {
        add(ConsoleInput{std::vector<std::byte>(1)});
        add(DigestMark{random.next(), random.next(), random.next(), random.next()});
        DeltaPages pages;
        for (uint64_t page = random.below(1000); pages.pages.size() < 8;
             page += random.between(1, 40)) {
            pages.pages.push_back({page, std::vector<std::byte>(4096)});
        }
        add(std::move(pages));
        add(DeltaState{std::vector<std::byte>(1500)});
        add(VmControl{VmControl::Kind::pause});
        add(CheckpointPart{std::vector<std::byte>(8192)});
    }
    return batch;
}

// By kind, payload excepted: how many, and their bytes.
class KindBytes {
  public:
    void add(const replay::LogBatch& batch) {
        const auto sizes = replay::entry_bytes(batch);
        for (size_t i = 0; i < sizes.size(); ++i) {
            const auto& entry = batch.entries[i];
            auto& [count, bytes] = kinds_[std::string(replay::kind_of(entry))];
            ++count;
            bytes += sizes[i] - payload_bytes(entry);
        }
    }
    void show() const {
        for (const auto& [kind, sum] : kinds_) {
            const double each = static_cast<double>(sum.second) / static_cast<double>(sum.first);
            const std::string name = "log_bytes_" + kind;
            if (kind == "timer-tick") {
                show_at_most(name, each, "B", 2);
            } else if (kind == "block-done" || kind == "frame-received") {
                show_at_most(name, each, "B", 12);
            } else {
                stream::show(name, each, "B");
            }
        }
    }

  private:
    std::map<std::string, std::pair<uint64_t, uint64_t>> kinds_;
};

// Entries a second, from batches of values at one end to batches of values at the other; what they
// take by kind, payload excepted; and what each takes of the line in all.
void Bench::log_entries() {
    constexpr uint64_t kEntries = 2'000'000;
    constexpr size_t kRequestsABatch = 16;
    Random random(7);
    uint64_t exit = 0;
    uint64_t request = 0;
    uint64_t sent = 0;
    uint64_t received = 0;
    uint64_t payload = 0;
    KindBytes kinds;
    kinds.add(seldom_batch(random));
    pair_.b.handler.keep_payloads = true;
    pair_.b.handler.on_each = [&](const Recorded::Message& message) {
        const auto batch = replay::decode_log_batch(message.payload);
        FT_CHECK(batch.has_value(), "{}", batch.error().to_string());
        received += batch->entries.size();
        pair_.b.handler.messages.clear();
    };
    std::vector<replay::LogBatch> batches;
    while (batches.size() < 8192) {  // more than a compressor's window holds
        batches.push_back(server_batch(random, exit, request, kRequestsABatch));
        kinds.add(batches.back());
    }
    const auto before = pair_.a.channel->stats();
    const double cpu_before = cpu_seconds();
    const Instant begin = MonotonicClock::now();
    size_t next = 0;
    const bool good = run_until(
        pair_.context,
        [&] {
            while (sent < kEntries) {
                const auto& batch = batches[next % batches.size()];
                if (!pair_.a.channel->send(MessageClass::log, 1, Epoch(1), replay::encode(batch))) {
                    break;
                }
                sent += batch.entries.size();
                for (const auto& entry : batch.entries) payload += payload_bytes(entry);
                ++next;
            }
            return sent >= kEntries && received >= sent;
        },
        kPatience);
    FT_CHECK(good, "log entries are missing");
    const double took = seconds_since(begin);
    const auto count = static_cast<double>(received);
    show("channel_log_entries", count / took, "1/s");
    show("channel_log_entry_cpu_both_ends", (cpu_seconds() - cpu_before) * 1e6 / count, "us");
    kinds.show();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the figures are a little late
    const auto after = pair_.a.channel->stats();
    const double wire = static_cast<double>(after.wire_bytes_sent - before.wire_bytes_sent);
    show("log_line_bytes_each_beside_payload", (wire - static_cast<double>(payload)) / count, "B");
    pair_.b.handler.on_each = nullptr;
    pair_.b.handler.keep_payloads = false;
}

// One way, of a log message a millisecond, while bulk takes all it can get.
void Bench::latency(const Pieces& pieces) {
    std::vector<double> late;
    pair_.b.handler.on_each = [&](const Recorded::Message& message) {
        if (message.message_class != MessageClass::log) return;
        late.push_back(seconds_since(sent_at_[late.size()]));
    };
    pair_.b.handler.keep_payloads = false;
    uint64_t sent = 0;
    Instant next = MonotonicClock::now();
    const std::vector<std::byte> payload(32, std::byte{7});
    constexpr size_t kCount = 3000;
    const bool good = run_until(
        pair_.context,
        [&] {
            fill(pieces, sent, UINT64_MAX);
            if (sent_at_.size() < kCount && MonotonicClock::now() >= next) {
                next += std::chrono::milliseconds(1);
                sent_at_.push_back(MonotonicClock::now());
                (void)pair_.a.channel->send(MessageClass::log, 1, Epoch(1),
                                            std::span<const std::byte>(payload));
            }
            return late.size() >= kCount;
        },
        kPatience);
    FT_CHECK(good, "log messages are missing");
    std::sort(late.begin(), late.end());
    show("log_one_way_beside_bulk_p50", late[late.size() / 2] * 1e3, "ms");
    show("log_one_way_beside_bulk_p99", late[late.size() * 99 / 100] * 1e3, "ms");
    pair_.b.handler.on_each = nullptr;
}

// Medians of some turns.
class Turns {
  public:
    void add(const Turn& turn) {
        rates_.push_back(turn.bytes_per_second / 1e6);
        cpus_.push_back(turn.cpu_ms_per_megabyte);
    }
    double rate() const { return median(rates_); }  // MB/s
    double cpu() const { return median(cpus_); }    // ms/MB

  private:
    std::vector<double> rates_;
    std::vector<double> cpus_;
};

void throughput(const std::string& name, const Pieces& pieces, std::optional<double> goal) {
    Turns plain;
    Turns curve;
    Turns ours;
    double ratio = 1;
    ChannelStats line;
    for (int turn = 0; turn < kTurns; ++turn) {
        plain.add(raw_turn(pieces, false));
        curve.add(raw_turn(pieces, true));
        Bench bench;
        bench.warm_up(pieces);
        ours.add(bench.throughput(pieces));
        ratio = bench.compression();
        line = bench.stats();
    }
    show("zmq_plain_" + name, plain.rate(), "MB/s");
    show("zmq_curve_" + name, curve.rate(), "MB/s");
    if (goal) {
        show_ratio("channel_" + name, ours.rate(), "MB/s", curve.rate(), *goal);
    } else {
        show("channel_" + name, ours.rate(), "MB/s",
             fmt::format("ratio={:.3f}", ours.rate() / curve.rate()));
    }
    show("channel_" + name + "_compression", ratio, "x");
    show("channel_" + name + "_level", line.bulk_compression_level, "");
    show("channel_" + name + "_window", static_cast<double>(line.bulk_window_bytes) / 1e3, "kB",
         fmt::format("queue_delay_us={}",
                     line.bulk_queue_delay.value_or(Duration{}).count() / 1000));
    show("zmq_plain_" + name + "_cpu_both_ends", plain.cpu(), "ms/MB");
    show("zmq_curve_" + name + "_cpu_both_ends", curve.cpu(), "ms/MB");
    show("channel_" + name + "_cpu_both_ends", ours.cpu(), "ms/MB",
         fmt::format("ratio={:.3f}", ours.cpu() / curve.cpu()));
}

}  // namespace
}  // namespace antipode::stream

// bench_channel [incompressible|mixed|text|log]: a part of it.
int main(int argc, char** argv) {
    using namespace antipode::stream;
    const std::string part = argc > 1 ? argv[1] : "";
    const auto wanted = [&](const char* name) { return part.empty() || part == name; };
    if (wanted("incompressible")) throughput("incompressible", incompressible(), 0.9);
    if (wanted("mixed")) throughput("mixed", mixed(), 1.4);
    if (wanted("text")) throughput("text", text(), std::nullopt);
    if (!wanted("log")) return missed == 0 ? 0 : 1;
    Bench bench;
    show("channel_log_messages", bench.small_messages(), "1/s");
    bench.log_entries();
    bench.latency(incompressible());
    return missed == 0 ? 0 : 1;
}
