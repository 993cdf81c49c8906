#include "replicator/vmm/boot_snapshot.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

namespace antipode::vmm {
namespace {

constexpr std::array<std::byte, layout::kPageBytes> kZero{};
constexpr size_t kPagesAtOnce = 64;

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
    return std::memcmp(a.data(), b.data(), a.size()) == 0;
}

Result<UniqueFd> nameless_file(const std::string& directory) {
    constexpr int kMode = 0600;
    UniqueFd fd(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kMode));
    if (fd) return fd;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT) {
        return fail_errno(errno, "boot image in {}", directory);
    }
    // A file system without such files.
    std::string name = directory + "/boot-image.XXXXXX";
    fd = UniqueFd(mkostemp(name.data(), O_CLOEXEC));
    if (!fd) return fail_errno(errno, "boot image in {}", directory);
    (void)unlink(name.c_str());
    return fd;
}

Result<void> append(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t count = write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(errno, "boot image");
        bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return {};
}

}  // namespace

BootSnapshot::Page BootSnapshot::describe(uint64_t number, std::span<const std::byte> bytes) {
    const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
    return {number, hash.low64, hash.high64};
}

Result<std::shared_ptr<const BootSnapshot>> BootSnapshot::take(GuestMemory& memory,
                                                               const Machine& machine, Vcpu& vcpu,
                                                               const std::string& directory) {
    auto snapshot = std::make_shared<BootSnapshot>();
    FT_TRY(snapshot->file_, nameless_file(directory));
    FT_TRY_VOID(snapshot->add(memory));
    snapshot->machine_ = saved(machine);
    FT_TRY(snapshot->cpu_, capture_cpu(vcpu));
    return std::shared_ptr<const BootSnapshot>(std::move(snapshot));
}

// What the VMM has written by now is the image.
Result<void> BootSnapshot::add(GuestMemory& memory) {
    std::vector<std::byte> waiting;
    for (size_t word = 0; word < memory.vmm_dirty().size(); ++word) {
        for (uint64_t bits = memory.vmm_dirty()[word]; bits != 0; bits &= bits - 1) {
            const uint64_t number = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
            const auto bytes = memory.page(number);
            if (equal(bytes, kZero)) continue;
            pages_.push_back(describe(number, bytes));
            waiting.insert(waiting.end(), bytes.begin(), bytes.end());
            if (waiting.size() < kPagesAtOnce * layout::kPageBytes) continue;
            FT_TRY_VOID(append(file_.get(), waiting));
            waiting.clear();
        }
    }
    pages_.shrink_to_fit();
    return append(file_.get(), waiting);
}

// By ascending index: `buffer` holds the group of pages that this one is in.
Result<std::span<const std::byte>> BootSnapshot::page_at(size_t index,
                                                         std::vector<std::byte>& buffer) const {
    const size_t in_group = index % kPagesAtOnce;
    if (in_group == 0) {
        buffer.resize(std::min(kPagesAtOnce, pages_.size() - index) * layout::kPageBytes);
        std::span<std::byte> left(buffer);
        auto at = static_cast<off_t>(index * layout::kPageBytes);
        while (!left.empty()) {
            const ssize_t count = pread(file_.get(), left.data(), left.size(), at);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return fail_errno(errno, "boot image at {}", at);
            if (count == 0) return fail(Errc::corrupt, "boot image: ends at {}", at);
            left = left.subspan(static_cast<size_t>(count));
            at += count;
        }
    }
    const auto bytes = std::span<const std::byte>(buffer).subspan(in_group * layout::kPageBytes,
                                                                  layout::kPageBytes);
    const Page& wanted = pages_[index];
    const Page found = describe(wanted.number, bytes);
    if (found.hash_low != wanted.hash_low || found.hash_high != wanted.hash_high) {
        return fail(Errc::corrupt, "boot image at {}: page {} is not what was loaded",
                    index * layout::kPageBytes, wanted.number);
    }
    return bytes;
}

Result<void> BootSnapshot::restore(GuestMemory& memory, Machine& machine, Vcpu& vcpu) const {
    std::vector<std::byte> buffer;
    size_t next = 0;
    for (uint64_t number = 0; number < memory.page_count(); ++number) {
        std::span<const std::byte> wanted(kZero);
        if (next < pages_.size() && pages_[next].number == number) {
            FT_TRY(wanted, page_at(next++, buffer));
        }
        // Compared first: what is equal need not be sent, hashed or copied again.
        if (equal(memory.page(number), wanted)) continue;
        std::copy(wanted.begin(), wanted.end(), memory.mutable_page(number).begin());
    }
    StateReader state(machine_);
    FT_TRY_VOID(machine.load(state));
    return restore_cpu(vcpu, cpu_);
}

}  // namespace antipode::vmm
