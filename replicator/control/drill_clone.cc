#include "replicator/control/drill_clone.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <mutex>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/freer.h"
#include "common/base/log.h"
#include "disksync/local_store.h"
#include "replicator/control/lone_vm.h"

namespace antipode::control {
namespace {

constexpr Duration kReportInterval = std::chrono::milliseconds(100);
constexpr size_t kConsolePartBytes = 8192;
constexpr int kNice = 10;  // the backup comes first
constexpr int kDigestNice = 19;

// The drives as they are now; the overlay knows what is not as it was.
class Drives {
  public:
    static Result<Drives> open(const vmm::VmConfig& config) {
        Drives drives;
        for (const auto& drive : config.drives) {
            if (disksync::is_nbd_uri(drive.path_on_host)) {
                disksync::StoreOptions options;
                options.access = disksync::StoreAccess::read_only;
                FT_TRY(auto store, disksync::open_store(drive.path_on_host, options));
                drives.stores_.push_back(std::move(store));
                drives.files_.emplace_back();
                continue;
            }
            UniqueFd fd(::open(drive.path_on_host.c_str(), O_RDONLY | O_CLOEXEC));
            if (!fd) return fail_errno(errno, "{}", drive.path_on_host);
            drives.files_.push_back(std::move(fd));
            drives.stores_.emplace_back();
        }
        return drives;
    }
    Result<void> read(size_t index, uint64_t offset_bytes, std::span<std::byte> data) {
        if (stores_[index]) {
            disksync::StoreRequest order;
            order.offset_bytes = offset_bytes;
            order.length_bytes = data.size();
            order.buffer = data;
            return disksync::run_blocking(*stores_[index], std::move(order));
        }
        while (!data.empty()) {
            const ssize_t got = pread(files_[index].get(), data.data(), data.size(),
                                      static_cast<off_t>(offset_bytes));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return fail_errno(got < 0 ? errno : EIO, "drive {}", index);
            data = data.subspan(static_cast<size_t>(got));
            offset_bytes += static_cast<uint64_t>(got);
        }
        return {};
    }

  private:
    std::vector<UniqueFd> files_;
    std::vector<std::unique_ptr<disksync::LocalStore>> stores_;
};

// Carries the copy's requests out, one after the other, on a thread of its own.
class OverlayDisk final : public replay::DiskPort {
  public:
    OverlayDisk(Drives drives, const std::vector<std::shared_ptr<DrillOverlay>>& overlays)
        : drives_(std::move(drives)), overlays_(overlays) {}

    void begin(replay::VmEngine& engine) {
        engine_ = &engine;
        worker_ = std::thread([this] { work(); });  // ends with the process, which never returns
    }
    void submit(vmm::BlockRequest&& request) override {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(request));
        changed_.notify_one();
    }

  private:
    void work() {
        for (;;) {
            vmm::BlockRequest request;
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [this] { return !queue_.empty(); });
                request = std::move(queue_.front());
                queue_.pop_front();
            }
            const auto done = carry_out(request);
            if (!done) logger("drill").error("{}", done.error().to_string());
            engine_->block_done(request.device, request.number,
                                done ? vmm::BlockStatus::ok : vmm::BlockStatus::io_error,
                                std::move(request.data));
        }
    }
    Result<void> carry_out(vmm::BlockRequest& request) {
        DrillOverlay& overlay = *overlays_[request.device];
        const auto drive = [&](uint64_t at, std::span<std::byte> data) {
            return drives_.read(request.device, at, data);
        };
        switch (request.operation) {
            case vmm::BlockOperation::read:
                return overlay.read(request.offset_bytes, request.data, drive);
            case vmm::BlockOperation::write:
                return overlay.write(request.offset_bytes, request.data, drive);
            case vmm::BlockOperation::discard:
            case vmm::BlockOperation::write_zeroes: {
                const std::vector<std::byte> zero(DrillOverlay::kChunkBytes);
                for (uint64_t done = 0; done < request.length_bytes; done += zero.size()) {
                    const size_t part =
                        std::min<uint64_t>(zero.size(), request.length_bytes - done);
                    FT_TRY_VOID(overlay.write(request.offset_bytes + done,
                                              std::span(zero).first(part), drive));
                }
                return {};
            }
            case vmm::BlockOperation::flush:
                return {};  // nothing of a drill outlives it
        }
        return {};
    }

    Drives drives_;
    const std::vector<std::shared_ptr<DrillOverlay>>& overlays_;
    replay::VmEngine* engine_ = nullptr;
    std::thread worker_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<vmm::BlockRequest> queue_;
};

// Digests of the drives as they were when they were copied, on a thread of its own that yields to
// everything else.
class Digester {
  public:
    Digester(Drives drives, const std::vector<std::shared_ptr<DrillOverlay>>& overlays, int socket)
        : drives_(std::move(drives)), overlays_(overlays), socket_(socket) {}

    void begin() {
        std::thread([this] { work(); }).detach();  // ends with the process, which never returns
    }

  private:
    void work() {
        (void)setpriority(PRIO_PROCESS, 0, kDigestNice);  // of this thread alone
        for (size_t i = 0; i < overlays_.size(); ++i) {
            DrillDigest digest{static_cast<uint32_t>(i), {}};
            if (const auto done = compute(i, digest); !done) {
                logger("drill").warn("digest of drive {}: {}", i, done.error().to_string());
                continue;
            }
            std::array<std::byte, 1 + sizeof digest> message{};
            message[0] = static_cast<std::byte>(DrillWord::digest);
            std::memcpy(message.data() + 1, &digest, sizeof digest);
            while (send(socket_, message.data(), message.size(), MSG_NOSIGNAL) < 0 &&
                   (errno == EAGAIN || errno == EINTR)) {
                pollfd room{socket_, POLLOUT, 0};
                (void)poll(&room, 1, -1);
            }
        }
    }
    Result<void> compute(size_t index, DrillDigest& digest) {
        const std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>> hash(EVP_MD_CTX_new());
        if (!hash || EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr) != 1) {
            return fail(Errc::io, "SHA-256 is not to be had");
        }
        const auto drive = [&](uint64_t at, std::span<std::byte> data) {
            return drives_.read(index, at, data);
        };
        DrillOverlay& overlay = *overlays_[index];
        std::vector<std::byte> buffer(DrillOverlay::kChunkBytes);
        for (uint64_t chunk = 0; chunk < overlay.chunk_count(); ++chunk) {
            const auto data = std::span(buffer).first(overlay.chunk_bytes(chunk));
            FT_TRY_VOID(overlay.read_original(chunk, data, drive));
            if (EVP_DigestUpdate(hash.get(), data.data(), data.size()) != 1) {
                return fail(Errc::io, "SHA-256 failed");
            }
        }
        if (EVP_DigestFinal_ex(hash.get(), digest.sha256.data(), nullptr) != 1) {
            return fail(Errc::io, "SHA-256 failed");
        }
        return {};
    }

    Drives drives_;
    const std::vector<std::shared_ptr<DrillOverlay>>& overlays_;
    const int socket_;
};

class Clone {
  public:
    explicit Clone(const DrillPlan& plan)
        : plan_(plan),
          socket_(context_),
          timer_(context_),
          vm_(context_,
              {[this](std::span<const std::byte> bytes) { print(bytes); },
               [this](const std::string& text) { ended(text); }},
              plan.frames) {}

    Result<void> begin() {
        FT_TRY(kvm_holder_, open_kvm());
        FT_TRY(auto vm, vmm::build_copy(*kvm_holder_, *plan_.config, plan_.drive_bytes,
                                        std::move(plan_.source->memory), plan_.source->boot));
        FT_TRY(auto drives, Drives::open(*plan_.config));
        disk_ = std::make_unique<OverlayDisk>(std::move(drives), plan_.overlays);
        vm_.prepare(std::move(vm), plan_.config->mode, *disk_);
        FT_TRY_VOID(vm_.engine().restore(*plan_.state, plan_.position));
        FT_TRY_VOID(vm_.open_ports(plan_.taps, plan_.config->networks));
        socket_.assign(plan_.socket);
        socket_.non_blocking(true);
        FT_TRY(auto copied, Drives::open(*plan_.config));
        digester_ = std::make_unique<Digester>(std::move(copied), plan_.overlays, plan_.socket);
        digester_->begin();
        disk_->begin(vm_.engine());
        vm_.start(plan_.guest_clock_ns);
        report_.vcpu = 1;
        wait_for_words();
        report();
        return {};
    }
    void run() { context_.run(); }

  private:
    static Result<std::unique_ptr<vmm::Kvm>> open_kvm() {
        FT_TRY(auto kvm, vmm::Kvm::open());
        return std::make_unique<vmm::Kvm>(std::move(kvm));
    }

    void say(DrillWord word, std::span<const std::byte> bytes) {
        std::vector<std::byte> message{static_cast<std::byte>(word)};
        message.insert(message.end(), bytes.begin(), bytes.end());
        // A parent that does not read is not waited for: reports come again.
        (void)send(plan_.socket, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    void print(std::span<const std::byte> left) {
        while (!left.empty()) {
            const auto part = left.first(std::min(left.size(), kConsolePartBytes));
            say(DrillWord::console, part);
            left = left.subspan(part.size());
        }
    }
    void ended(const std::string& text) {
        report_.vcpu = 2;
        logger("drill").info("the copy has ended: {}", text);
        say(DrillWord::failed, std::as_bytes(std::span(text)));
    }
    void wait_for_words() {
        socket_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                           [this](const boost::system::error_code& error) {
                               if (error) _exit(0);
                               hear();
                               wait_for_words();
                           });
    }
    void hear() {
        std::array<std::byte, kDrillMessageBytesMax> buffer;
        const ssize_t bytes = recv(plan_.socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (bytes == 0) _exit(0);  // the parent has ended the drill
        if (bytes < 1) return;
        if (buffer[0] == static_cast<std::byte>(DrillWord::input)) {
            (void)vm_.engine().console_input({buffer.begin() + 1, buffer.begin() + bytes});
        }
    }
    void report() {
        report_.exits = vm_.engine().exit_number().value();
        report_.uptime_ns = vm_.engine().guest_clock_ns(MonotonicClock::now());
        report_.memory_bytes = own_memory_bytes();
        say(DrillWord::report, std::as_bytes(std::span(&report_, 1)));
        timer_.expires_after(kReportInterval);
        timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error) report();
        });
    }
    static uint64_t own_memory_bytes() {
        std::ifstream file("/proc/self/smaps_rollup");
        std::string line;
        while (std::getline(file, line)) {
            if (line.rfind("Private_Dirty:", 0) == 0) {
                return std::strtoull(line.c_str() + sizeof "Private_Dirty:", nullptr, 10) << 10;
            }
        }
        return 0;
    }

    const DrillPlan& plan_;
    boost::asio::io_context context_{1};
    std::unique_ptr<vmm::Kvm> kvm_holder_;
    boost::asio::posix::stream_descriptor socket_;
    boost::asio::steady_timer timer_;
    std::unique_ptr<OverlayDisk> disk_;
    std::unique_ptr<Digester> digester_;
    LoneVm vm_;
    DrillReport report_{};
};

// Everything that is open here is the backup's. What the copy needs has been duplicated.
void close_all_but(std::vector<int> kept) {
    std::sort(kept.begin(), kept.end());
    unsigned next = STDERR_FILENO + 1;
    for (const int fd : kept) {
        const auto at = static_cast<unsigned>(fd);
        if (at > next) (void)close_range(next, at - 1, 0);
        next = at + 1;
    }
    (void)close_range(next, ~0U, 0);
}

}  // namespace

void run_drill_clone(const DrillPlan& plan) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) (void)std::signal(number, SIG_DFL);
    (void)setpriority(PRIO_PROCESS, 0, kNice);
    std::vector<int> kept{plan.socket};
    if (plan.source->boot) kept.push_back(plan.source->boot->fd());
    for (const auto& overlay : plan.overlays) {
        for (const int fd : overlay->files()) kept.push_back(fd);
    }
    close_all_but(std::move(kept));
    Clone clone(plan);
    if (const auto begun = clone.begin(); !begun) {
        const std::string text = "?" + begun.error().to_string();
        std::vector<char> message(text.begin(), text.end());
        message[0] = static_cast<char>(DrillWord::failed);
        (void)send(plan.socket, message.data(), message.size(), MSG_NOSIGNAL);
        _exit(1);
    }
    clone.run();
    _exit(0);
}

}  // namespace antipode::control
