// Process 1 of the Linux guest: an echo service whose every answer is backed by a record on its
// disk.
//
// It brings up eth0, finds the end of the ledger on /dev/vda, and serves TCP and UDP on one port. A
// request is a line (TCP) or a datagram (UDP). Requests that are there at the same time share one
// disk write; no answer leaves before the write (O_DIRECT | O_SYNC) has come back. The answer is
// the request, then ` seq=N uptime_ms=U`, then a newline.
//
// One thread, one poll loop, no allocation. INVARIANTS: an answer with seq=N is sent only after
// record N is on the disk; sequence numbers have no gaps; a request whose write failed is never
// answered (its TCP connection is closed) and its number is given to the next request.
//
// Not stored: `quit`, which restarts the machine, and requests of more than 480 bytes, answered
// `ERR ...`.
//
// Kernel command line: antipode.ip=10.0.2.15/24 antipode.gw=10.0.2.2 (default none) antipode.port=7
// antipode.disk=none (echo without a ledger, seq=0). Console: lines that begin with
// `antipode-guest: `, among them `ready` when it serves, and `EXIT-FAILURE why` before it gives up.
#include "tests/guests/ledger_format.h"
#include "tests/guests/lib/text.h"
#include "tests/guests/linux/sys.h"

namespace antipode::guest {
namespace {

constexpr size_t kConnectionsMax = 16;
constexpr size_t kBatchMax = 32;
constexpr size_t kInputBytes = 4096;
constexpr size_t kOutputBytes = 8192;
constexpr size_t kAnswerBytesMax = kLedgerPayloadBytesMax + 80;

using Message = Line<256>;
using Answer = Line<kAnswerBytesMax>;

struct Connection {
    int fd;         // -1: free
    bool skipping;  // in the middle of a line that is too long
    size_t input_bytes;
    size_t output_bytes;
    char input[kInputBytes];
    char output[kOutputBytes];
};

struct Request {
    Connection* connection;  // nullptr: a datagram from `from`
    sys::SocketAddress from;
    uint32_t payload_bytes;
    bool newline;
    char payload[kLedgerPayloadBytesMax];
};

struct Settings {
    uint32_t ip = 0x0a00020f;
    uint32_t mask = 0xffffff00;
    uint32_t gateway = 0;
    uint16_t port = 7;
    bool disk = true;
};

char g_command_line[4096];
Connection g_connections[kConnectionsMax];
Request g_requests[kBatchMax];
size_t g_request_count = 0;
alignas(4096) LedgerRecord g_records[kBatchMax];
uint64_t g_record_count = 0;
uint64_t g_record_count_max = 0;
uint64_t g_answer_count = 0;
int g_disk = -1;
int g_udp = -1;
int g_tcp = -1;

uint16_t network16(uint16_t x) {
    return __builtin_bswap16(x);
}
uint32_t network32(uint32_t x) {
    return __builtin_bswap32(x);
}

// One write per line: each is a stretch of serial output, and serial output is slow.
void say(Message& line) {
    line.text("\n");
    sys::write(1, line.data(), line.bytes());
}

Message message() {
    Message line;
    line.text("antipode-guest: ");
    return line;
}

[[noreturn]] void fail(const char* what, long result) {
    Message line;
    line.text("EXIT-FAILURE ").text(what).text(" errno ");
    line.number(result < 0 ? static_cast<uint64_t>(-result) : 0);
    say(line);
    sys::restart();
    __builtin_unreachable();
}

long must(const char* what, long result) {
    if (result < 0) {
        fail(what, result);
    }
    return result;
}

Text read_file(const char* path, char* to, size_t bytes) {
    const int fd = static_cast<int>(must(path, sys::open(path, 0)));
    size_t used = 0;
    while (used < bytes) {
        const long got = must(path, sys::read(fd, to + used, bytes - used));
        if (got == 0) {
            break;
        }
        used += static_cast<size_t>(got);
    }
    sys::close(fd);
    return {to, used};
}

Settings read_settings() {
    const Text line = read_file("/proc/cmdline", g_command_line, sizeof g_command_line);
    Settings settings;
    Text value;
    uint64_t prefix = 24;
    if (option(line, "antipode.ip", value)) {
        if (!take_address(value, settings.ip) ||
            (take_char(value, '/') && !take_number(value, prefix)) || !value.empty() ||
            prefix < 1 || prefix > 32) {
            fail("antipode.ip is not an address like 10.0.2.15/24", 0);
        }
        settings.mask = ~uint32_t{0} << (32 - prefix);
    }
    if (option(line, "antipode.gw", value) &&
        (!take_address(value, settings.gateway) || !value.empty())) {
        fail("antipode.gw is not an address", 0);
    }
    settings.port = static_cast<uint16_t>(option_number(line, "antipode.port", settings.port));
    if (option(line, "antipode.disk", value)) {
        settings.disk = !value.is("none");
    }
    return settings;
}

sys::SocketAddress socket_address(uint32_t ip, uint16_t port) {
    sys::SocketAddress address{};
    address.family = 2;
    address.port = network16(port);
    address.ip = network32(ip);
    return address;
}

void bring_up(const char* name, uint32_t ip, uint32_t mask) {
    const int fd = static_cast<int>(must("socket", sys::socket(2)));
    sys::InterfaceRequest request{};
    memcpy(request.name, name, length_of(name));
    request.address = socket_address(ip, 0);
    must(name, sys::control(fd, sys::kSiocSetAddress, &request));
    request.address = socket_address(mask, 0);
    must(name, sys::control(fd, sys::kSiocSetMask, &request));
    must(name, sys::control(fd, sys::kSiocGetFlags, &request));
    request.flags = static_cast<int16_t>(request.flags | 1 /* IFF_UP */);
    must(name, sys::control(fd, sys::kSiocSetFlags, &request));
    sys::close(fd);
}

void add_default_route(uint32_t gateway) {
    const int fd = static_cast<int>(must("socket", sys::socket(2)));
    sys::Route route{};
    route.destination = socket_address(0, 0);
    route.gateway = socket_address(gateway, 0);
    route.mask = socket_address(0, 0);
    route.flags = 3;  // RTF_UP | RTF_GATEWAY
    must("antipode.gw", sys::control(fd, sys::kSiocAddRoute, &route));
    sys::close(fd);
}

// There is no udev: the device number of vda is in /proc/partitions, as `major minor blocks name`.
void make_disk_node() {
    static char table[2048];
    Words words(read_file("/proc/partitions", table, sizeof table));
    Text fields[4];
    while (words.next(fields[3])) {
        if (fields[3].is("vda")) {
            uint64_t major_number = 0;
            if (take_number(fields[0], major_number)) {
                sys::call(__NR_mknod, sys::address("/dev/vda"), 060600,
                          static_cast<long>(major_number << 8));
                return;
            }
        }
        fields[0] = fields[1];
        fields[1] = fields[2];
        fields[2] = fields[3];
    }
    fail("no disk vda", 0);
}

void open_disk() {
    make_disk_node();
    g_disk = static_cast<int>(
        must("/dev/vda", sys::open("/dev/vda", sys::kReadWrite | sys::kDirect | sys::kSync)));
    uint64_t disk_bytes = 0;
    must("size of /dev/vda", sys::control(g_disk, sys::kBlockBytes, &disk_bytes));
    g_record_count_max = disk_bytes / kLedgerRecordBytes;
    const uint64_t count = ledger_count(g_record_count_max, [](uint64_t index, LedgerRecord& to) {
        const long got =
            sys::pread(g_disk, &g_records[0], kLedgerRecordBytes, index * kLedgerRecordBytes);
        to = g_records[0];
        return got == kLedgerRecordBytes;
    });
    if (count == kLedgerUnreadable) {
        fail("cannot read the ledger", 0);
    }
    g_record_count = count;
}

int listen_on(int type, uint16_t port) {
    const int fd = static_cast<int>(must("socket", sys::socket(type)));
    const int one = 1;
    sys::call(__NR_setsockopt, fd, 1, 2 /* SO_REUSEADDR */, sys::address(&one), sizeof one);
    sys::SocketAddress address = socket_address(0, port);
    must("bind", sys::call(__NR_bind, fd, sys::address(&address), sizeof address));
    if (type == 1) {
        must("listen", sys::call(__NR_listen, fd, 16));
    }
    return fd;
}

void drop(Connection& connection) {
    sys::close(connection.fd);
    connection.fd = -1;
}

void accept_connections() {
    for (Connection& connection : g_connections) {
        if (connection.fd >= 0) {
            continue;
        }
        const long fd = sys::call(__NR_accept4, g_tcp, 0, 0, sys::kNonBlocking);
        if (fd < 0) {
            return;
        }
        const int one = 1;
        sys::call(__NR_setsockopt, fd, 6, 1 /* TCP_NODELAY */, sys::address(&one), sizeof one);
        connection.fd = static_cast<int>(fd);
        connection.skipping = false;
        connection.input_bytes = 0;
        connection.output_bytes = 0;
    }
}

void read_from(Connection& connection) {
    const size_t room = kInputBytes - connection.input_bytes;
    if (room == 0) {
        return;
    }
    const long got = sys::read(connection.fd, connection.input + connection.input_bytes, room);
    if (got > 0) {
        connection.input_bytes += static_cast<size_t>(got);
    } else if (got != sys::kAgain) {
        drop(connection);
    }
}

void flush(Connection& connection) {
    if (connection.output_bytes == 0) {
        return;
    }
    const long put = sys::write(connection.fd, connection.output, connection.output_bytes);
    if (put > 0) {
        connection.output_bytes -= static_cast<size_t>(put);
        memmove(connection.output, connection.output + put, connection.output_bytes);
    } else if (put != sys::kAgain) {
        drop(connection);
    }
}

bool has_room_for_answer(const Connection& connection) {
    // Every request of the batch may be this connection's.
    return connection.output_bytes + kAnswerBytesMax * (g_request_count + 1) <= kOutputBytes;
}

void queue_answer(Connection& connection, const Answer& answer) {
    memcpy(connection.output + connection.output_bytes, answer.data(), answer.bytes());
    connection.output_bytes += answer.bytes();
}

void answer_too_long(Connection& connection) {
    Answer answer;
    answer.text("ERR a request has 480 bytes at most\n");
    queue_answer(connection, answer);
}

// Takes the first line out of the input. True if it became a request or was refused; false if there
// is none.
bool take_line(Connection& connection) {
    size_t end = 0;
    while (end < connection.input_bytes && connection.input[end] != '\n') {
        ++end;
    }
    const bool whole = end < connection.input_bytes;
    if (!whole && end <= kLedgerPayloadBytesMax && !connection.skipping) {
        return false;
    }
    if (whole && end <= kLedgerPayloadBytesMax && !connection.skipping) {
        Request& request = g_requests[g_request_count++];
        request.connection = &connection;
        request.newline = true;
        request.payload_bytes = static_cast<uint32_t>(end);
        memcpy(request.payload, connection.input, end);
    } else if (whole) {
        connection.skipping = false;
        answer_too_long(connection);
    } else {
        connection.skipping = true;
    }
    const size_t used = whole ? end + 1 : end;
    connection.input_bytes -= used;
    memmove(connection.input, connection.input + used, connection.input_bytes);
    return whole;
}

void take_lines() {
    for (Connection& connection : g_connections) {
        while (connection.fd >= 0 && g_request_count < kBatchMax &&
               has_room_for_answer(connection) && take_line(connection)) {
        }
    }
}

void take_datagrams() {
    static char datagram[2048];
    while (g_request_count < kBatchMax) {
        Request& request = g_requests[g_request_count];
        int address_bytes = sizeof request.from;
        const long got = sys::call(__NR_recvfrom, g_udp, sys::address(datagram), sizeof datagram, 0,
                                   sys::address(&request.from), sys::address(&address_bytes));
        if (got < 0) {
            return;
        }
        auto bytes = static_cast<size_t>(got);
        request.newline = bytes != 0 && datagram[bytes - 1] == '\n';
        bytes -= request.newline ? 1 : 0;
        if (bytes > kLedgerPayloadBytesMax) {
            continue;  // no answer: the client's own limit is the same
        }
        request.connection = nullptr;
        request.payload_bytes = static_cast<uint32_t>(bytes);
        memcpy(request.payload, datagram, bytes);
        ++g_request_count;
    }
}

bool is_quit(const Request& request) {
    return Text{request.payload, request.payload_bytes}.is("quit");
}

// Writes the batch to the disk with one write. False: nothing of it may be answered.
bool store_batch(uint64_t now_ms) {
    if (g_disk < 0) {
        return true;
    }
    if (g_record_count + g_request_count > g_record_count_max) {
        Message line = message();
        line.text("the disk is full, records=").number(g_record_count);
        say(line);
        return false;
    }
    for (size_t i = 0; i < g_request_count; ++i) {
        ledger_fill(g_records[i], g_record_count + i + 1, now_ms, g_requests[i].payload,
                    g_requests[i].payload_bytes);
    }
    const size_t bytes = g_request_count * kLedgerRecordBytes;
    const long put = sys::pwrite(g_disk, g_records, bytes, g_record_count * kLedgerRecordBytes);
    if (put != static_cast<long>(bytes)) {
        Message line = message();
        line.text("disk write failed, errno ").number(put < 0 ? static_cast<uint64_t>(-put) : 0);
        say(line);
        return false;
    }
    return true;
}

void answer_one(const Request& request, uint64_t sequence) {
    Answer answer;
    answer.raw(request.payload, request.payload_bytes).text(" seq=").number(sequence);
    answer.text(" uptime_ms=").number(sys::uptime_ms());
    if (request.newline) {
        answer.text("\n");
    }
    if (request.connection == nullptr) {
        sys::call(__NR_sendto, g_udp, sys::address(answer.data()),
                  static_cast<long>(answer.bytes()), 0, sys::address(&request.from),
                  sizeof request.from);
    } else if (request.connection->fd >= 0) {
        queue_answer(*request.connection, answer);
    }
}

void quit() {
    Message line = message();
    line.text("quit records=").number(g_record_count).text(" uptime_ms=").number(sys::uptime_ms());
    say(line);
    Message last;
    last.text("EXIT-SUCCESS");
    say(last);
    sys::restart();
}

void serve_batch() {
    for (size_t i = 0; i < g_request_count; ++i) {
        if (is_quit(g_requests[i])) {
            quit();
        }
    }
    if (g_request_count == 0) {
        return;
    }
    if (store_batch(sys::uptime_ms())) {
        for (size_t i = 0; i < g_request_count; ++i) {
            answer_one(g_requests[i], g_disk < 0 ? 0 : g_record_count + i + 1);
        }
        g_record_count += g_disk < 0 ? 0 : g_request_count;
        g_answer_count += g_request_count;
    } else {
        for (size_t i = 0; i < g_request_count; ++i) {
            Connection* connection = g_requests[i].connection;
            if (connection != nullptr && connection->fd >= 0) {
                drop(*connection);
            }
        }
    }
    g_request_count = 0;
}

// True if a whole line waits in some connection's input: then poll must not wait.
bool has_work() {
    for (const Connection& connection : g_connections) {
        if (connection.fd < 0 || connection.output_bytes != 0) {
            continue;
        }
        for (size_t i = 0; i < connection.input_bytes; ++i) {
            if (connection.input[i] == '\n') {
                return true;
            }
        }
    }
    return false;
}

size_t fill_poll(sys::Poll* polls) {
    polls[0] = {g_udp, sys::kPollIn, 0};
    polls[1] = {g_tcp, 0, 0};
    for (size_t i = 0; i < kConnectionsMax; ++i) {
        const Connection& connection = g_connections[i];
        sys::Poll& entry = polls[2 + i];
        entry = {connection.fd, 0, 0};  // the kernel passes over a negative fd
        if (connection.fd < 0) {
            polls[1].events = sys::kPollIn;
            continue;
        }
        if (connection.input_bytes < kInputBytes) {
            entry.events = sys::kPollIn;
        }
        if (connection.output_bytes != 0) {
            entry.events = static_cast<short>(entry.events | sys::kPollOut);
        }
    }
    return 2 + kConnectionsMax;
}

void serve() {
    static sys::Poll polls[2 + kConnectionsMax];
    for (;;) {
        const size_t count = fill_poll(polls);
        must("poll", sys::poll(polls, count, has_work() ? 0 : -1));
        for (size_t i = 0; i < kConnectionsMax; ++i) {
            Connection& connection = g_connections[i];
            if (connection.fd >= 0 && (polls[2 + i].happened & (sys::kPollIn | sys::kPollGone))) {
                read_from(connection);
            }
        }
        if (polls[1].happened != 0) {
            accept_connections();
        }
        if (polls[0].happened != 0) {
            take_datagrams();
        }
        take_lines();
        serve_batch();
        for (Connection& connection : g_connections) {
            if (connection.fd >= 0) {
                flush(connection);
            }
        }
    }
}

}  // namespace

extern "C" [[noreturn]] void antipode_guest_run() {
    Message hello = message();
    hello.text("init");
    say(hello);
    sys::call(__NR_mount, sys::address("proc"), sys::address("/proc"), sys::address("proc"));
    const Settings settings = read_settings();
    if (settings.disk) {
        open_disk();
    }
    bring_up("lo", 0x7f000001, 0xff000000);
    bring_up("eth0", settings.ip, settings.mask);
    if (settings.gateway != 0) {
        add_default_route(settings.gateway);
    }
    g_udp = listen_on(2, settings.port);
    g_tcp = listen_on(1, settings.port);
    for (Connection& connection : g_connections) {
        connection.fd = -1;
    }
    Message ready = message();
    ready.text("ready ip=").address(settings.ip).text(" port=").number(settings.port);
    ready.text(" records=").number(g_record_count).text(" of=").number(g_record_count_max);
    ready.text(" uptime_ms=").number(sys::uptime_ms());
    say(ready);
    serve();
    __builtin_unreachable();
}

}  // namespace antipode::guest

// The kernel enters with rsp aligned to 16; a call leaves it as the ABI wants it.
extern "C" __attribute__((naked)) void _start() {
    asm volatile(
        "xor %ebp, %ebp\n"
        "call antipode_guest_run\n"
        "ud2");
}
