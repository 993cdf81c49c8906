#include "replicator/control/restore.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "disksync/local_store.h"
#include "replicator/control/lone_vm.h"
#include "replicator/control/seed_receiver.h"
#include "replicator/control/snapshot_file.h"

namespace antipode::control {
namespace {

constexpr size_t kWritesMax = 32;
constexpr size_t kInputBytes = 4096;

spdlog::logger& log() {
    static spdlog::logger& instance = logger("restore");
    return instance;
}

// Makes the files that are not there, and refuses those that are if they are not to be lost.
Result<void> prepare_drives(const SnapshotShape& shape, const vmm::VmConfig& config,
                            RestoreOptions::Existing existing) {
    for (size_t i = 0; i < config.drives.size(); ++i) {
        const std::string& path = config.drives[i].path_on_host;
        if (disksync::is_nbd_uri(path)) {
            if (existing == RestoreOptions::Existing::overwrite) continue;
            return fail(Errc::already_exists, "drive {}: {}: would be overwritten",
                        config.drives[i].drive_id, path);
        }
        struct stat info {};
        if (::stat(path.c_str(), &info) == 0) {
            if (existing == RestoreOptions::Existing::overwrite) continue;
            return fail(Errc::already_exists, "drive {}: {}: exists, and would be overwritten",
                        config.drives[i].drive_id, path);
        }
        const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(shape.drives[i].size_bytes)) != 0) {
            return fail_errno(errno, "drive {}: {}", config.drives[i].drive_id, path);
        }
    }
    return {};
}

class Restored {
  public:
    explicit Restored(const RestoreOptions& options)
        : options_(options),
          input_(context_),
          signals_(context_),
          vm_(context_,
              {print,
               [this](const std::string& text) {
                   log().info("the VM has ended: {}", text);
                   end();
               }},
              std::make_shared<FrameCounters>()) {}

    Result<void> run() {
        FT_TRY(config_, vmm::load_vm_config(options_.directory + "/vm.json"));
        FT_TRY(auto reader, SnapshotReader::open(options_.file));
        FT_TRY_VOID(check_shape(reader.shape(), config_));
        FT_TRY_VOID(prepare_drives(reader.shape(), config_, options_.existing));
        FT_TRY(kvm_, open_kvm());
        FT_TRY(auto vm, load(reader));
        context_.restart();  // it had nothing left to do
        if (options_.until == RestoreOptions::Until::the_drives_are_filled) return {};
        FT_TRY_VOID(start(std::move(vm), reader.shape()));
        context_.run();
        vm_.stop();
        disks_->attach(nullptr);
        FT_TRY_VOID(disks_->flush());
        disks_->close();
        return {};
    }

  private:
    static Result<std::unique_ptr<vmm::Kvm>> open_kvm() {
        FT_TRY(auto kvm, vmm::Kvm::open());
        return std::make_unique<vmm::Kvm>(std::move(kvm));
    }
    static void print(std::span<const std::byte> bytes) {
        (void)!write(STDOUT_FILENO, bytes.data(), bytes.size());
    }

    Result<void> open_disks(const SnapshotShape& shape,
                            const std::vector<vmm::DriveConfig>& drives) {
        FT_TRY(const Name pair, Name::parse(shape.pair, "the snapshot's pair"));
        FT_TRY(disks_, DiskSet::open(drives, pair, options_.directory, context_, metrics_));
        for (size_t i = 0; i < drives.size(); ++i) {
            const uint64_t is = disks_->sizes()[i];
            if (is != shape.drives[i].size_bytes) {
                return fail(Errc::invalid_argument, "drive {}: {}: has {} bytes, the snapshot's {}",
                            drives[i].drive_id, drives[i].path_on_host, is,
                            shape.drives[i].size_bytes);
            }
        }
        disks_->set_epoch(disks_->highest_epoch());
        return {};
    }

    // Memory and drives, to the end of the file.
    Result<std::unique_ptr<vmm::VirtualMachine>> load(SnapshotReader& reader) {
        auto writable = config_.drives;
        for (auto& drive : writable) drive.is_read_only = false;
        FT_TRY_VOID(open_disks(reader.shape(), writable));
        FT_TRY(auto vm, vmm::build_vm(*kvm_, config_, disks_->sizes()));
        std::optional<std::string> failed;
        SeedReceiver receiver(0, *vm, *disks_,
                              {[](uint64_t) {},
                               {},
                               [this](SeedEnd end) { end_ = std::move(end); },
                               [&failed](const std::string& text) { failed = text; },
                               {}});
        const auto work = boost::asio::make_work_guard(context_);
        for (;;) {
            const uint64_t at = reader.offset();
            FT_TRY(const auto piece, reader.next());
            if (piece) receiver.receive(*piece);
            while (!failed && receiver.writing() > (piece ? kWritesMax : 0)) context_.run_one();
            if (failed) {
                return fail(Errc::corrupt, "{}: offset {}: {}", options_.file, at, *failed);
            }
            if (!piece) break;
        }
        if (!end_) {
            return fail(Errc::corrupt, "{}: offset {}: it ends without a state", options_.file,
                        reader.offset());
        }
        FT_TRY_VOID(disks_->flush());
        disks_->close();
        disks_.reset();
        return vm;
    }

    Result<void> start(std::unique_ptr<vmm::VirtualMachine> vm, const SnapshotShape& shape) {
        vmm::install_kick_handler();
        FT_TRY_VOID(open_disks(shape, config_.drives));
        vm_.prepare(std::move(vm), config_.mode, *disks_);
        FT_TRY_VOID(vm_.engine().restore(end_->state, end_->position));
        disks_->attach(&vm_.engine());
        if (options_.network == RestoreOptions::Network::taps_of_vm_json) {
            std::vector<std::string> taps;
            for (const auto& network : config_.networks) taps.push_back(network.host_dev_name);
            FT_TRY_VOID(vm_.open_ports(taps, config_.networks));
        }
        for (const int number : {SIGTERM, SIGINT}) signals_.add(number);
        signals_.async_wait([this](const boost::system::error_code& error, int) {
            if (!error) end();
        });
        log().info("runs from {} {} of pair {}, unprotected",
                   shape.checkpoint_vcpus == 0 ? "exit" : "checkpoint", end_->state.exit,
                   shape.pair);
        // They had not left when the snapshot was taken; they may leave twice, but not be lost.
        for (const auto& held : end_->held) vm_.emit(held.output);
        vm_.start(end_->state.guest_clock_ns);
        read_input();
        return {};
    }

    // A terminal, a pipe or a socket; a file cannot be waited for.
    void read_input() {
        if (!input_.is_open()) {
            boost::system::error_code refused;
            UniqueFd own(dup(STDIN_FILENO));
            input_.assign(own.get(), refused);
            if (refused) return;
            (void)own.release();
        }
        input_.async_read_some(boost::asio::buffer(buffer_), [this](const auto& error, size_t n) {
            if (error) return;
            (void)vm_.engine().console_input({buffer_.begin(), buffer_.begin() + n});
            read_input();
        });
    }

    void end() {
        boost::system::error_code ignored;
        input_.close(ignored);
        signals_.cancel();
        context_.stop();
    }

    const RestoreOptions& options_;
    boost::asio::io_context context_{1};
    boost::asio::posix::stream_descriptor input_;
    boost::asio::signal_set signals_;
    std::array<std::byte, kInputBytes> buffer_{};
    Registry metrics_;
    vmm::VmConfig config_;
    std::unique_ptr<vmm::Kvm> kvm_;
    std::optional<SeedEnd> end_;
    std::unique_ptr<DiskSet> disks_;
    LoneVm vm_;
};

}  // namespace

Result<void> restore_snapshot(const RestoreOptions& options) {
    return Restored(options).run();
}

}  // namespace antipode::control
