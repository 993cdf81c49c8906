#include "replicator/control/drill.h"

#include <csignal>
#include <cstring>
#include <filesystem>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/hex.h"
#include "common/base/log.h"

namespace antipode::control {
namespace {

constexpr Duration kWatchInterval = std::chrono::milliseconds(100);
constexpr Duration kStartLimit = std::chrono::seconds(10);

}  // namespace

Result<std::unique_ptr<Drill>> Drill::prepare(boost::asio::io_context& context, Settings settings) {
    clean(settings.directory);
    std::error_code error;
    std::filesystem::create_directories(settings.directory, error);
    if (error) return antipode::fail(errno_error(error.value(), settings.directory));
    auto drill = std::unique_ptr<Drill>(new Drill(context, std::move(settings)));
    const auto& made = drill->settings_;
    for (size_t i = 0; i < made.drive_bytes.size(); ++i) {
        const auto path = made.directory + "/" + made.config->drives[i].drive_id;
        FT_TRY(auto overlay, DrillOverlay::create(path, made.drive_bytes[i]));
        drill->overlays_.push_back(std::move(overlay));
        drill->settings_.status.disks.push_back(
            {made.config->drives[i].drive_id, made.drive_bytes[i], ""});
    }
    FT_TRY(drill->frames_, make_shared_frame_counters());
    drill->watch();
    return drill;
}

void Drill::clean(const std::string& directory) {
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
}

Drill::Drill(boost::asio::io_context& context, Settings settings)
    : settings_(std::move(settings)), socket_(context), timer_(context) {
    ends_ = MonotonicClock::now() + settings_.duration;
}

Drill::~Drill() {
    settings_.on_ended = nullptr;
    end(DrillState::ended, "the replicator stops");
}

Result<void> Drill::fork_copy(vmm::VirtualMachine& source, const replay::VmState& state,
                              LogIndex position, uint64_t guest_clock_ns) {
    std::array<int, 2> ends{};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        return fail_errno(errno, "a drill's socket");
    }
    DrillPlan plan;
    plan.socket = ends[1];
    plan.config = settings_.config;
    plan.drive_bytes = settings_.drive_bytes;
    plan.overlays = overlays_;
    plan.taps = settings_.status.taps;
    plan.frames = frames_;
    plan.source = &source;
    plan.state = &state;
    plan.position = position;
    plan.guest_clock_ns = guest_clock_ns;
    process_ = fork();
    if (process_ == 0) run_drill_clone(plan);
    const int error = errno;
    close(ends[1]);
    if (process_ < 0) {
        close(ends[0]);
        return fail_errno(error, "fork of a drill");
    }
    boost::system::error_code refused;
    socket_.assign(ends[0], refused);
    if (refused) {
        close(ends[0]);
        return fail(Errc::io, "a drill's socket: {}", refused.message());
    }
    wait_for_words();
    return {};
}

void Drill::wait_for_words() {
    socket_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                       [this](const boost::system::error_code& error) {
                           if (error || over_) return;
                           hear();
                           if (!over_) wait_for_words();
                       });
}

void Drill::hear() {
    std::array<std::byte, kDrillMessageBytesMax> buffer;
    const ssize_t bytes = recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (bytes < 0) return;
    if (bytes == 0) {
        return end(DrillState::failed,
                   last_words_.empty() ? "the copy's process has died" : last_words_);
    }
    const auto body = std::span(buffer).subspan(1, static_cast<size_t>(bytes) - 1);
    const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
    switch (static_cast<DrillWord>(buffer[0])) {
        case DrillWord::report:
            if (body.size() != sizeof report_) return;
            std::memcpy(&report_, body.data(), sizeof report_);
            if (settings_.status.state == DrillState::starting) {
                settings_.status.state = DrillState::running;
                settings_.status.live_seconds =
                    static_cast<double>(settings_.unix_ms() - settings_.status.started_unix_ms) /
                    1000.0;
            }
            return;
        case DrillWord::console:
            return journal_.add_console(text);
        case DrillWord::failed:
            last_words_ = text;
            settings_.status.text = text;
            return;
        case DrillWord::digest: {
            DrillDigest digest{};
            if (body.size() != sizeof digest) return;
            std::memcpy(&digest, body.data(), sizeof digest);
            if (digest.drive >= settings_.status.disks.size()) return;
            settings_.status.disks[digest.drive].sha256 =
                to_hex(std::as_bytes(std::span(digest.sha256)));
            return;
        }
        case DrillWord::input:
            return;
    }
}

void Drill::watch() {
    const Instant now = MonotonicClock::now();
    uint64_t bytes = 0;
    bool broken = false;
    for (const auto& overlay : overlays_) {
        bytes += overlay->bytes();
        broken = broken || overlay->broken();
    }
    if (broken) return end(DrillState::failed, "an overlay could not be written");
    if (bytes > settings_.status.overlay_bytes_max) {
        return end(DrillState::ended, fmt::format("its overlays hold {} bytes, {} are allowed",
                                                  bytes, settings_.status.overlay_bytes_max));
    }
    if (now >= ends_) return end(DrillState::ended, "its time is up");
    const bool waits = settings_.status.state == DrillState::starting;
    if (waits && now >= ends_ - settings_.duration + kStartLimit) {
        return end(DrillState::failed,
                   "the backup's VM came to no exit, or the copy did not start");
    }
    timer_.expires_after(kWatchInterval);
    timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error && !over_) watch();
    });
}

void Drill::end(DrillState state, const std::string& text) {
    if (over_) return;
    over_ = true;
    if (process_ > 0) {
        (void)kill(process_, SIGKILL);
        (void)waitpid(process_, nullptr, 0);
    }
    boost::system::error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
    settings_.status.state = state;
    settings_.status.text = text;
    settings_.status.ended_unix_ms = settings_.unix_ms();
    report_.vcpu = 2;
    if (settings_.on_ended) settings_.on_ended(status());
}

Result<void> Drill::type(std::string_view text) {
    if (over_ || process_ <= 0) return fail(Errc::busy, "no drill runs");
    std::string message(1, static_cast<char>(DrillWord::input));
    message += text;
    if (message.size() > kDrillMessageBytesMax) return fail(Errc::limit, "text: is too long");
    if (send(socket_.native_handle(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL) <
        0) {
        return fail(Errc::busy, "the drill's copy does not read its console");
    }
    return {};
}

DrillStatus Drill::status() const {
    DrillStatus status = settings_.status;
    status.exits = report_.exits;
    if (report_.vcpu != 0) {
        status.vcpu = report_.vcpu == 1 ? VcpuState::running : VcpuState::stopped;
        status.uptime_seconds = static_cast<double>(report_.uptime_ns) / 1e9;
    }
    status.memory_bytes = report_.memory_bytes;
    if (frames_) {
        status.sent_frames = frames_->sent;
        status.received_frames = frames_->received;
    }
    for (const auto& overlay : overlays_) status.overlay_bytes += overlay->bytes();
    Status shown;
    journal_.fill(shown);
    status.console_tail = shown.vm.console_tail;
    return status;
}

}  // namespace antipode::control
