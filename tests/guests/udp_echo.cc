// The echo service without an operating system: ARP, ICMP echo, and UDP with a record on the disk
// per answer.
//
// A datagram to our address and port is a request. All requests that are there at the same time are
// written to the ledger (tests/guests/ledger_format.h) in one disk request, flushed, and only then
// answered, each with its payload and ` seq=N` (and ` uptime_ms=U` with antipode.clock_hz), and a
// newline if it came with one.
//
// A frame that arrives twice is two requests: nothing is kept that could tell them apart, the
// client's request ids do. Malformed frames, fragments, wrong checksums and frames for others are
// dropped without an answer.
//
// antipode.ip=10.0.2.15   our address (/PREFIX is accepted and ignored: we answer to whoever sent)
// antipode.port=7         our port
// antipode.clock_hz=0     timer interrupts to keep the uptime by, 0 = no clock
// antipode.smp=0          1: a second vCPU counts meanwhile (lib/smp.h); a wrong count ends it
//
// `calm` as payload is for udp_restless.cc and has no answer.
// `quit` as payload ends it with EXIT-SUCCESS. Console: `udp_echo: ready ip=A port=P records=N
// of=M`. A disk that fails a write is EXIT-FAILURE: nothing unwritten is ever answered.
#include "tests/guests/ledger_format.h"
#include "tests/guests/lib/block.h"
#include "tests/guests/lib/kernel.h"
#include "tests/guests/lib/net.h"
#include "tests/guests/lib/smp.h"

namespace antipode::guest {
namespace {

constexpr size_t kBatchMax = 16;
constexpr size_t kMacBytes = 6;
constexpr size_t kEthernetBytes = 14;
constexpr size_t kIpBytes = 20;
constexpr size_t kUdpBytes = 8;
constexpr size_t kArpBytes = 28;
constexpr uint16_t kTypeIp = 0x0800;
constexpr uint16_t kTypeArp = 0x0806;
constexpr uint8_t kProtocolIcmp = 1;
constexpr uint8_t kProtocolUdp = 17;
constexpr size_t kAnswerBytesMax = kLedgerPayloadBytesMax + 80;

struct Request {
    uint8_t mac[kMacBytes];
    uint32_t ip;
    uint16_t port;
    uint32_t payload_bytes;
    bool newline;
    uint8_t payload[kLedgerPayloadBytesMax];
};

BlockDisk g_disk;
NetCard g_net;
Request g_requests[kBatchMax];
size_t g_request_count;
alignas(4096) LedgerRecord g_records[kBatchMax];
uint64_t g_record_count;
uint64_t g_record_count_max;
uint32_t g_ip = 0x0a00020f;
uint16_t g_port = 7;
bool g_clock;
bool g_smp;
uint32_t g_lines;  // interrupts taken, their devices not yet looked after
bool g_quit;
#ifdef ANTIPODE_RESTLESS  // udp_restless.cc
constexpr size_t kSeenWords = 4096;
volatile uint32_t g_seen[kSeenWords];  // nobody reads it, but the digests
bool g_restless = true;
bool g_told;
#else
bool g_restless;
#endif

uint16_t get16(const uint8_t* at) {
    return static_cast<uint16_t>(at[0] << 8 | at[1]);
}
uint32_t get32(const uint8_t* at) {
    return static_cast<uint32_t>(get16(at)) << 16 | get16(at + 2);
}
void put16(uint8_t* at, uint32_t value) {
    at[0] = static_cast<uint8_t>(value >> 8);
    at[1] = static_cast<uint8_t>(value);
}
void put32(uint8_t* at, uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value);
}

// The Internet checksum (RFC 1071) of `bytes` bytes, on top of `sum`.
uint16_t checksum(const uint8_t* data, size_t bytes, uint32_t sum) {
    for (size_t i = 0; i + 1 < bytes; i += 2) {
        sum += get16(data + i);
    }
    if (bytes % 2 != 0) {
        sum += static_cast<uint32_t>(data[bytes - 1]) << 8;
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<uint16_t>(~sum);
}

uint32_t pseudo_header_sum(uint32_t from, uint32_t to, uint8_t protocol, size_t bytes) {
    return (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff) + protocol +
           static_cast<uint32_t>(bytes);
}

void put_ethernet(uint8_t* frame, const uint8_t* to, uint16_t type) {
    memcpy(frame, to, kMacBytes);
    memcpy(frame + kMacBytes, g_net.mac(), kMacBytes);
    put16(frame + 12, type);
}

void put_ip(uint8_t* at, uint8_t protocol, uint32_t to, size_t payload_bytes) {
    memset(at, 0, kIpBytes);
    at[0] = 0x45;
    put16(at + 2, static_cast<uint32_t>(kIpBytes + payload_bytes));
    put16(at + 6, 0x4000);  // do not fragment
    at[8] = 64;
    at[9] = protocol;
    put32(at + 12, g_ip);
    put32(at + 16, to);
    put16(at + 10, checksum(at, kIpBytes, 0));
}

void answer_arp(const uint8_t* frame, size_t bytes) {
    const uint8_t* arp = frame + kEthernetBytes;
    if (bytes < kEthernetBytes + kArpBytes || get32(arp) != 0x00010800 || arp[4] != kMacBytes ||
        arp[5] != 4 || get16(arp + 6) != 1 || get32(arp + 24) != g_ip) {
        return;
    }
    uint8_t reply[60] = {};
    put_ethernet(reply, arp + 8, kTypeArp);
    uint8_t* out = reply + kEthernetBytes;
    put32(out, 0x00010800);
    out[4] = kMacBytes;
    out[5] = 4;
    put16(out + 6, 2);
    memcpy(out + 8, g_net.mac(), kMacBytes);
    put32(out + 14, g_ip);
    memcpy(out + 18, arp + 8, kMacBytes + 4);
    g_net.send(reply, sizeof reply, g_lines);
}

void answer_ping(const uint8_t* frame, const uint8_t* ip, const uint8_t* icmp, size_t bytes) {
    static uint8_t reply[kFrameBytesMax];
    if (bytes < 8 || icmp[0] != 8 || icmp[1] != 0 || checksum(icmp, bytes, 0) != 0) {
        return;
    }
    put_ethernet(reply, frame + kMacBytes, kTypeIp);
    put_ip(reply + kEthernetBytes, kProtocolIcmp, get32(ip + 12), bytes);
    uint8_t* out = reply + kEthernetBytes + kIpBytes;
    memcpy(out, icmp, bytes);
    out[0] = 0;
    put16(out + 2, 0);
    put16(out + 2, checksum(out, bytes, 0));
    g_net.send(reply, kEthernetBytes + kIpBytes + bytes, g_lines);
}

void take_request(const uint8_t* frame, const uint8_t* ip, const uint8_t* udp, size_t bytes) {
    if (bytes < kUdpBytes || get16(udp + 2) != g_port) {
        return;
    }
    const size_t udp_bytes = get16(udp + 4);
    if (udp_bytes < kUdpBytes || udp_bytes > bytes) {
        return;
    }
    const uint32_t from = get32(ip + 12);
    if (get16(udp + 6) != 0 &&
        checksum(udp, udp_bytes, pseudo_header_sum(from, g_ip, kProtocolUdp, udp_bytes)) != 0) {
        return;
    }
    size_t payload_bytes = udp_bytes - kUdpBytes;
    const bool newline = payload_bytes != 0 && udp[udp_bytes - 1] == '\n';
    payload_bytes -= newline ? 1 : 0;
    if (payload_bytes > kLedgerPayloadBytesMax) {
        return;
    }
    const Text text{reinterpret_cast<const char*>(udp + kUdpBytes), payload_bytes};
    if (text.is("quit")) {
        g_quit = true;
        return;
    }
    if (text.is("calm")) {
        g_restless = false;
        return;
    }
    Request& request = g_requests[g_request_count++];
    memcpy(request.mac, frame + kMacBytes, kMacBytes);
    request.ip = from;
    request.port = get16(udp);
    request.newline = newline;
    request.payload_bytes = static_cast<uint32_t>(payload_bytes);
    memcpy(request.payload, udp + kUdpBytes, payload_bytes);
}

void take_ip(const uint8_t* frame, size_t bytes) {
    const uint8_t* ip = frame + kEthernetBytes;
    const size_t room = bytes - kEthernetBytes;
    if (room < kIpBytes || ip[0] >> 4 != 4) {
        return;
    }
    const size_t header_bytes = static_cast<size_t>(ip[0] & 15) * 4;
    const size_t total_bytes = get16(ip + 2);
    const bool fragment = (get16(ip + 6) & 0x3fff) != 0;
    if (header_bytes < kIpBytes || total_bytes < header_bytes || total_bytes > room || fragment ||
        get32(ip + 16) != g_ip || checksum(ip, header_bytes, 0) != 0) {
        return;
    }
    const size_t payload_bytes = total_bytes - header_bytes;
    if (ip[9] == kProtocolIcmp) {
        answer_ping(frame, ip, ip + header_bytes, payload_bytes);
    } else if (ip[9] == kProtocolUdp) {
        take_request(frame, ip, ip + header_bytes, payload_bytes);
    }
}

void take_frame(const uint8_t* frame, size_t bytes) {
    if (bytes < kEthernetBytes) {
        return;
    }
    switch (get16(frame + 12)) {
        case kTypeArp:
            return answer_arp(frame, bytes);
        case kTypeIp:
            return take_ip(frame, bytes);
        default:
            return;
    }
}

// True if there were frames.
bool take_frames() {
    bool any = false;
    size_t bytes = 0;
    uint16_t token = 0;
    while (g_request_count < kBatchMax) {
        const uint8_t* frame = g_net.receive(bytes, token);
        if (frame == nullptr) {
            break;
        }
        any = true;
        take_frame(frame, bytes);
        g_net.release(token);
    }
    if (any) {
        g_net.offer_buffers();
    }
    return any;
}

void must_be_good(const char* what, uint8_t status) {
    if (status != 0) {
        Line<96> line;
        line.text("EXIT-FAILURE udp_echo: ").text(what).text(" status=").number(status);
        line.text(" records=").number(g_record_count);
        print(line);
        finish();
    }
}

void store_batch(uint64_t now_ms) {
    if (g_record_count + g_request_count > g_record_count_max) {
        must_be_good("the disk is full", 1);
    }
    for (size_t i = 0; i < g_request_count; ++i) {
        ledger_fill(g_records[i], g_record_count + i + 1, now_ms, g_requests[i].payload,
                    g_requests[i].payload_bytes);
    }
    const auto bytes = static_cast<uint32_t>(g_request_count * kLedgerRecordBytes);
    must_be_good("write", g_disk.run(BlockVerb::write, g_record_count, g_records, bytes, g_lines));
    if (g_disk.can_flush()) {
        must_be_good("flush", g_disk.run(BlockVerb::flush, 0, nullptr, 0, g_lines));
    }
}

void answer(const Request& request, uint64_t sequence, uint64_t now_ms) {
    static uint8_t frame[kEthernetBytes + kIpBytes + kUdpBytes + kAnswerBytesMax];
    Line<kAnswerBytesMax> text;
    text.raw(request.payload, request.payload_bytes).text(" seq=").number(sequence);
    if (g_clock) {
        text.text(" uptime_ms=").number(now_ms);
    }
    if (request.newline) {
        text.text("\n");
    }
    const size_t udp_bytes = kUdpBytes + text.bytes();
    put_ethernet(frame, request.mac, kTypeIp);
    put_ip(frame + kEthernetBytes, kProtocolUdp, request.ip, udp_bytes);
    uint8_t* udp = frame + kEthernetBytes + kIpBytes;
    put16(udp, g_port);
    put16(udp + 2, request.port);
    put16(udp + 4, static_cast<uint32_t>(udp_bytes));
    put16(udp + 6, 0);
    memcpy(udp + kUdpBytes, text.data(), text.bytes());
    const uint16_t sum =
        checksum(udp, udp_bytes, pseudo_header_sum(g_ip, request.ip, kProtocolUdp, udp_bytes));
    put16(udp + 6, sum == 0 ? 0xffff : sum);
    g_net.send(frame, kEthernetBytes + kIpBytes + udp_bytes, g_lines);
}

void serve_batch() {
    constexpr uint32_t kRounds = 10;
    if (g_request_count == 0) {
        return;
    }
    if (g_smp && (!smp_count(kRounds) || smp_counts().errors != 0)) {
        fail("udp_echo: two vCPUs do not agree");
    }
    const uint64_t now_ms = g_clock ? clock_ms() : 0;
    store_batch(now_ms);
    for (size_t i = 0; i < g_request_count; ++i) {
        answer(g_requests[i], ++g_record_count, now_ms);
    }
    g_request_count = 0;
}

void open_ledger(Text command_line) {
    g_disk.open(command_line);
    g_record_count_max = g_disk.sectors() * kSectorBytes / kLedgerRecordBytes;
    g_record_count = ledger_count(g_record_count_max, [](uint64_t index, LedgerRecord& to) {
        const uint8_t status =
            g_disk.run(BlockVerb::read, index, &g_records[0], kLedgerRecordBytes, g_lines);
        to = g_records[0];
        return status == 0;
    });
    if (g_record_count == kLedgerUnreadable) {
        fail("udp_echo: cannot read the ledger");
    }
}

// Nothing of it but in udp_restless.cc.
void look_at_counter() {
#ifdef ANTIPODE_RESTLESS
    if (g_restless) {
        uint32_t low = 0;
        uint32_t high = 0;
        asm volatile("rdtsc" : "=a"(low), "=d"(high));
        g_seen[(low >> 4) % kSeenWords] = low;
    } else if (!g_told) {
        g_told = true;
        print("udp_restless: calm");
    }
#endif
}

void read_options(Text command_line) {
    Text value;
    uint64_t prefix = 0;
    if (option(command_line, "antipode.ip", value) &&
        (!take_address(value, g_ip) || (take_char(value, '/') && !take_number(value, prefix)) ||
         !value.empty())) {
        fail("udp_echo: antipode.ip is not an address like 10.0.2.15");
    }
    g_port = static_cast<uint16_t>(option_number(command_line, "antipode.port", g_port));
    g_smp = option_number(command_line, "antipode.smp", 0) != 0;
    const uint64_t clock_hz = option_number(command_line, "antipode.clock_hz", 0);
    if (clock_hz != 0) {
        g_clock = true;
        clock_ms();
        start_timer(clock_hz);
    }
}

}  // namespace

[[noreturn]] void guest_main(Text command_line) {
    read_options(command_line);
    open_ledger(command_line);
    g_net.open(command_line);
    if (g_smp) {
        smp_start();
    }
    Line<160> line;
    line.text("udp_echo: ready ip=").address(g_ip).text(" port=").number(g_port);
    line.text(" records=").number(g_record_count).text(" of=").number(g_record_count_max);
    print(line);
    for (;;) {
        look_at_counter();
        if ((g_lines & g_net.device().line_bit()) != 0) {
            g_lines &= ~g_net.device().line_bit();
            g_net.device().acknowledge_interrupt();
        }
        const bool any = take_frames();
        serve_batch();
        if (g_quit) {
            line.text("udp_echo: quit records=").number(g_record_count);
            print(line);
            succeed();
        }
        if (!any) {
            g_lines |= wait();
            if (g_clock) {
                clock_ms();
            }
        }
    }
}

}  // namespace antipode::guest
