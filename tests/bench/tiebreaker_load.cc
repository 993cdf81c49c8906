#include "tests/bench/tiebreaker_load.h"

#include <algorithm>
#include <arpa/inet.h>
#include <fcntl.h>
#include <fstream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sstream>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/base/check.h"
#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker::bench {
namespace {

using testing::member;
using testing::request;
using wire::RequestKind;

constexpr size_t kHandshakesAtOnce = 128;
constexpr std::chrono::seconds kPatience(60);
// As ArbiterClient and the failover core do it.
constexpr std::chrono::seconds kPingInterval(3);
constexpr uint64_t kPingsPerQuery = 7;
constexpr uint64_t kPollNumber = 4;

void watch(int epoll, int operation, int descriptor, size_t index, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = index;
    FT_CHECK(::epoll_ctl(epoll, operation, descriptor, &event) == 0, "epoll: errno {}", errno);
}

double ms_since(Instant begin) {
    return std::chrono::duration<double, std::milli>(MonotonicClock::now() - begin).count();
}

}  // namespace

double resident_kib(pid_t pid) {
    std::ifstream status(fmt::format("/proc/{}/status", pid));
    std::string word;
    while (status >> word) {
        if (word != "VmRSS:") continue;
        double kib = 0;
        status >> kib;
        return kib;
    }
    FT_CHECK(false, "process {}: has no VmRSS", pid);
    return 0;
}

double cpu_seconds(pid_t pid) {
    std::ifstream stat(fmt::format("/proc/{}/stat", pid));
    std::string text;
    std::getline(stat, text);
    const size_t name_end = text.rfind(')');
    FT_CHECK(name_end != std::string::npos, "process {}: has no stat", pid);
    std::istringstream rest(text.substr(name_end + 1));
    constexpr int kUserTicks = 14;  // fields as proc(5) counts them; the state is the third
    std::string skipped;
    for (int field = 3; field < kUserTicks; ++field) rest >> skipped;
    double user = 0, kernel = 0;
    rest >> user >> kernel;
    return (user + kernel) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::string write_load_config(const testing::TempDirectory& directory,
                              const testing::Certificates& made, const std::string& database,
                              uint16_t port, Rates rates, const std::string& limits) {
    const env::TlsFiles files = made.files("tb");
    const std::string text = fmt::format(
        "listen = \"127.0.0.1:{}\"\n[tls]\nca = \"{}\"\ncrl = \"{}\"\ncertificate = \"{}\"\n"
        "key = \"{}\"\n[store]\npath = \"{}\"\n[limits]\n{}{}",
        port, files.ca, files.crl, files.certificate, files.key, database,
        rates == Rates::as_shipped
            ? ""
            : "idle_seconds = 600\nrequests_per_second = 100000\nrequests_burst = 100000\n"
              "site_requests_per_second = 1000000\nsite_requests_burst = 1000000\n",
        limits);
    const std::string path = directory / "tiebreaker.toml";
    const auto written = write_file(path, text, 0600, Existing::replace);
    FT_CHECK(written.has_value(), "{}", written.error().context);
    return path;
}

bool allow_descriptors(size_t count) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < count) return false;
    files.rlim_cur = files.rlim_max;
    return ::setrlimit(RLIMIT_NOFILE, &files) == 0;
}

Load::Load(uint16_t port, testing::SslContextPointer a, testing::SslContextPointer b)
    : port_(port), a_(std::move(a)), b_(std::move(b)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    FT_CHECK(epoll_ >= 0, "epoll");
}

Load::~Load() {
    for (Connection& connection : connections_) {
        if (connection.ssl != nullptr) SSL_free(connection.ssl);
        if (connection.descriptor >= 0) ::close(connection.descriptor);
    }
    ::close(epoll_);
}

void Load::open(Connection& connection, SSL_CTX* context) {
    connection.descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    FT_CHECK(connection.descriptor >= 0, "socket: errno {}; ulimit -n?", errno);
    const int yes = 1;
    ::setsockopt(connection.descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int connected =
        ::connect(connection.descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    FT_CHECK(connected == 0 || errno == EINPROGRESS, "connect: errno {}", errno);
    connection.ssl = SSL_new(context);
    SSL_set_fd(connection.ssl, connection.descriptor);
    SSL_set_connect_state(connection.ssl);
}

void Load::connect(size_t pairs, size_t per_watcher) {
    pairs_ = pairs;
    per_watcher_ = per_watcher;
    connections_.resize(pairs + (pairs + per_watcher - 1) / per_watcher);
    size_t opened = 0;
    run_until([&] {
        while (opened < connections_.size() && opened < welcome_ + kHandshakesAtOnce) {
            Connection& connection = connections_[opened];
            if (opened < pairs_) connection.pair = fmt::format("vm-{}", opened);
            open(connection, opened < pairs_ ? a_.get() : b_.get());
            connection.events = EPOLLOUT;
            watch(epoll_, EPOLL_CTL_ADD, connection.descriptor, opened, connection.events);
            ++opened;
        }
        return welcome_ == connections_.size() && enrolled_ == pairs_;
    });
    // Who watches may do so only once the pairs name its site.
    for (size_t index = pairs_; index < connections_.size(); ++index) {
        const size_t first = (index - pairs_) * per_watcher_;
        for (size_t pair = first; pair < std::min(first + per_watcher_, pairs_); ++pair) {
            send(index, 1,
                 wire::ArbiterWatch{Name::literal(connections_[pair].pair),
                                    member("site-b", pair + 1)});
        }
    }
    run_until([&] { return watched_ == 2 * pairs_; });
}

void Load::shake(size_t index) {
    Connection& connection = connections_[index];
    ERR_clear_error();
    const int done = SSL_do_handshake(connection.ssl);
    if (done == 1) {
        connection.greeted = true;
        const bool a = index < pairs_;
        send(index, 0, wire::ArbiterHello{Name::literal(a ? "site-a" : "site-b")});
        return;
    }
    const int error = SSL_get_error(connection.ssl, done);
    FT_CHECK(error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE,
             "handshake {}: {} after {} welcomes", index, env::take_tls_errors(), welcome_);
    want(index, error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN);
}

void Load::want(size_t index, uint32_t events) {
    Connection& connection = connections_[index];
    if (connection.events == events) return;
    connection.events = events;
    watch(epoll_, EPOLL_CTL_MOD, connection.descriptor, index, events);
}

void Load::send(size_t index, uint64_t number, wire::ArbiterBody body) {
    Connection& connection = connections_[index];
    wire::StoreIdentity store;
    if (const auto* asked = std::get_if<wire::Request>(&body)) store = asked->store;
    wire::encode({number, store, std::move(body)}, connection.out);
    flush(connection, index);
}

void Load::flush(Connection& connection, size_t index) {
    while (!connection.out.empty()) {
        ERR_clear_error();
        const int put = SSL_write(connection.ssl, connection.out.data(),
                                  static_cast<int>(connection.out.size()));
        if (put <= 0) break;
        connection.out.erase(0, static_cast<size_t>(put));
    }
    want(index, connection.out.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void Load::read(size_t index) {
    Connection& connection = connections_[index];
    std::array<char, 4096> bytes;
    while (true) {
        ERR_clear_error();
        const int got = SSL_read(connection.ssl, bytes.data(), static_cast<int>(bytes.size()));
        if (got <= 0) {
            FT_CHECK(SSL_get_error(connection.ssl, got) == SSL_ERROR_WANT_READ,
                     "connection {}: was cut: {}", index, env::take_tls_errors());
            return;
        }
        connection.in.append(std::as_bytes(std::span(bytes)).first(static_cast<size_t>(got)));
        while (true) {
            auto frame = connection.in.next();
            FT_CHECK(frame.has_value(), "a frame: {}", frame.error().context);
            if (!*frame) break;
            on_frame(index, **frame);
        }
    }
}

void Load::on_frame(size_t index, const wire::ArbiterFrame& frame) {
    Connection& connection = connections_[index];
    if (const auto* error = std::get_if<wire::ArbiterError>(&frame.body)) {
        FT_CHECK(false, "connection {}: {}", index, error->text);
    }
    if (std::holds_alternative<wire::ArbiterWelcome>(frame.body)) {
        ++welcome_;
        store_ = frame.store;
        if (polling_) polls_due_.emplace_back(MonotonicClock::now() + kPingInterval, index);
        if (index >= pairs_) return;
        const uint64_t incarnation = index + 1;
        return send(index, 1,
                    request(RequestKind::create, connection.pair.c_str(), 0,
                            member("site-a", incarnation), member("site-b", incarnation)));
    }
    if (frame.number == kPollNumber) return on_poll_answered(index);
    if (std::holds_alternative<wire::ArbiterRecord>(frame.body)) {
        if (frame.number != 0) ++watched_;
        return;
    }
    const auto* answer = std::get_if<wire::Answer>(&frame.body);
    FT_CHECK(answer != nullptr, "connection {}: an unasked {}", index, to_string(frame.body));
    if (connection.epoch == 0) {
        FT_CHECK(answer->kind == wire::AnswerKind::paired, "enrolment of {}: {}", connection.pair,
                 to_string(answer->kind));
        ++enrolled_;
        send(index, 2,
             wire::ArbiterWatch{Name::literal(connection.pair), member("site-a", index + 1)});
    } else {
        FT_CHECK(answer->record.epoch.value() == connection.epoch + 1, "{}: epoch {}, expected {}",
                 connection.pair, answer->record.epoch, connection.epoch + 1);
        ++connection.answers;
    }
    const bool decision = connection.epoch != 0;
    connection.epoch = answer->record.epoch.value();
    if (decision) decided_(index);
}

void Load::ask(size_t index, Instant due) {
    Connection& connection = connections_[index];
    connection.due = due;
    send(index, 3,
         request(RequestKind::acquire, connection.pair.c_str(), connection.epoch,
                 member("site-a", index + 1), {}, store_));
}

void Load::on_poll_answered(size_t index) {
    Connection& connection = connections_[index];
    polls_took_ms_.push_back(ms_since(connection.polled));
    connection.polled = {};
}

void Load::send_polls() {
    const Instant now = MonotonicClock::now();
    while (!polls_due_.empty() && polls_due_.front().first <= now) {
        const auto [due, index] = polls_due_.front();
        polls_due_.pop_front();
        polls_due_.emplace_back(now + kPingInterval, index);
        Connection& connection = connections_[index];
        if (connection.polled != Instant()) continue;  // one at a time; its wait is counted
        connection.polled = due;
        const bool asks = ++connection.polls % kPingsPerQuery == 0 && index < pairs_;
        if (asks) {
            send(index, kPollNumber,
                 request(RequestKind::query, connection.pair.c_str(), connection.epoch,
                         member("site-a", index + 1), {}, store_));
        } else {
            send(index, kPollNumber, wire::ArbiterPing{});
        }
    }
}

std::vector<double> Load::polls(std::chrono::seconds time) {
    polls_took_ms_.clear();
    const Instant begin = MonotonicClock::now();
    while (MonotonicClock::now() - begin < time) turn(10);
    // Who waits for an answer still has waited for so long at least.
    for (const Connection& connection : connections_) {
        if (connection.polled == Instant()) continue;
        polls_took_ms_.push_back(ms_since(connection.polled));
    }
    std::sort(polls_took_ms_.begin(), polls_took_ms_.end());
    return polls_took_ms_;
}

void Load::turn(int wait_ms) {
    send_polls();
    std::array<epoll_event, 512> events;
    const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait_ms);
    for (int i = 0; i < count; ++i) {
        const size_t index = events[static_cast<size_t>(i)].data.u64;
        Connection& connection = connections_[index];
        if (!connection.greeted) {
            shake(index);
            continue;
        }
        if (!connection.out.empty()) flush(connection, index);
        read(index);
    }
}

void Load::run_until(const std::function<bool()>& done) {
    Instant last = MonotonicClock::now();
    uint64_t before = 0;
    while (!done()) {
        turn(100);
        const uint64_t now = welcome_ + watched_ + enrolled_;
        if (now != before) last = MonotonicClock::now();
        before = now;
        FT_CHECK(MonotonicClock::now() - last < kPatience,
                 "stuck: {} welcome, {} watched, {} enrolled", welcome_, watched_, enrolled_);
    }
}

uint64_t Load::closed_loop(size_t at_once, std::chrono::seconds time) {
    at_once = std::min(at_once, pairs_ / 2);
    uint64_t decisions = 0;
    size_t next = 0;
    size_t under_way = 0;
    bool ending = false;
    const auto ask_next = [&] {
        ask(next, MonotonicClock::now());
        next = (next + 1) % pairs_;
        ++under_way;
    };
    decided_ = [&](size_t) {
        --under_way;
        if (ending) return;
        ++decisions;
        ask_next();
    };
    const Instant begin = MonotonicClock::now();
    for (size_t i = 0; i < at_once; ++i) ask_next();
    while (MonotonicClock::now() - begin < time) turn(10);
    ending = true;
    while (under_way > 0) turn(100);
    return decisions;
}

std::vector<double> Load::open_loop(double per_second, std::chrono::seconds time) {
    std::vector<double> took_ms;
    decided_ = [&](size_t index) { took_ms.push_back(ms_since(connections_[index].due)); };
    const Instant begin = MonotonicClock::now();
    const auto total = static_cast<uint64_t>(per_second * static_cast<double>(time.count()));
    const std::chrono::duration<double> interval(1 / per_second);
    uint64_t asked = 0;
    while (took_ms.size() < total) {
        while (asked < total) {
            const Instant due =
                begin + std::chrono::duration_cast<Duration>(static_cast<double>(asked) * interval);
            if (due > MonotonicClock::now()) break;
            // Pairs in an order that is not the store's; 7919 is no divisor of their number.
            ask(asked * 7919 % pairs_, due);
            ++asked;
        }
        turn(1);
    }
    std::sort(took_ms.begin(), took_ms.end());
    return took_ms;
}

std::vector<double> Load::burst() {
    std::vector<double> took_ms;
    decided_ = [&](size_t index) { took_ms.push_back(ms_since(connections_[index].due)); };
    const Instant begin = MonotonicClock::now();
    for (size_t index = 0; index < pairs_; ++index) ask(index, begin);
    while (took_ms.size() < pairs_) turn(100);
    std::sort(took_ms.begin(), took_ms.end());
    return took_ms;
}

}  // namespace antipode::tiebreaker::bench
