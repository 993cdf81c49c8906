#include "replicator/vmm/kvm.h"

#include <array>
#include <bit>
#include <cerrno>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "replicator/vmm/layout.h"

namespace antipode::vmm {
namespace {

constexpr int kApiVersion = 12;
constexpr size_t kCpuidEntriesMax = 256;
constexpr unsigned long kTssAddress = 0xfffbd000;  // three pages that no guest memory uses

struct NeededCapability {
    unsigned long number;
    const char* name;
};
constexpr std::array kNeeded{
    NeededCapability{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    NeededCapability{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    NeededCapability{KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
    NeededCapability{KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
};

}  // namespace

Result<int> kvm_ioctl(int fd, unsigned long request, void* argument, const char* name) {
    const int result = ioctl(fd, request, argument);
    if (result < 0) return fail_errno(errno, "{}", name);
    return result;
}

Result<int> kvm_ioctl(int fd, unsigned long request, unsigned long argument, const char* name) {
    const int result = ioctl(fd, request, argument);
    if (result < 0) return fail_errno(errno, "{}", name);
    return result;
}

Result<Kvm> Kvm::open() {
    UniqueFd fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "/dev/kvm");
    FT_TRY(const int version, kvm_ioctl(fd.get(), KVM_GET_API_VERSION, 0ul, "KVM_GET_API_VERSION"));
    if (version != kApiVersion) {
        return fail(Errc::unsupported, "/dev/kvm: API version is {}, expected {}", version,
                    kApiVersion);
    }
    Kvm kvm(std::move(fd));
    for (const auto& needed : kNeeded) {
        if (kvm.capability(needed.number) == 0) {
            return fail(Errc::unsupported, "/dev/kvm: this kernel lacks {}", needed.name);
        }
    }
    return kvm;
}

int Kvm::capability(unsigned long capability) const {
    const int result = ioctl(fd_.get(), KVM_CHECK_EXTENSION, capability);
    return result < 0 ? 0 : result;
}

Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
    std::vector<uint64_t> raw(
        (sizeof(kvm_cpuid2) + kCpuidEntriesMax * sizeof(kvm_cpuid_entry2)) / 8 + 1);
    auto* table = reinterpret_cast<kvm_cpuid2*>(raw.data());
    table->nent = kCpuidEntriesMax;
    FT_TRY_VOID(kvm_ioctl(fd_.get(), KVM_GET_SUPPORTED_CPUID, table, "KVM_GET_SUPPORTED_CPUID"));
    return std::vector<kvm_cpuid_entry2>(table->entries, table->entries + table->nent);
}

Result<size_t> Kvm::vcpu_mmap_bytes() const {
    FT_TRY(const int bytes,
           kvm_ioctl(fd_.get(), KVM_GET_VCPU_MMAP_SIZE, 0ul, "KVM_GET_VCPU_MMAP_SIZE"));
    return static_cast<size_t>(bytes);
}

Result<Vm> Vm::create(const Kvm& kvm, GuestMemory& memory, TscMsr tsc_msr) {
    FT_TRY(const int raw, kvm_ioctl(kvm.fd(), KVM_CREATE_VM, 0ul, "KVM_CREATE_VM"));
    const uint64_t low = memory.low_bytes();
    const uint64_t high = memory.size_bytes() - low;
    Vm vm(UniqueFd(raw), low / layout::kPageBytes, high / layout::kPageBytes);
    FT_TRY_VOID(kvm_ioctl(vm.fd(), KVM_SET_TSS_ADDR, kTssAddress, "KVM_SET_TSS_ADDR"));
    const auto host = reinterpret_cast<uint64_t>(memory.host_base());
    std::array regions{
        kvm_userspace_memory_region{0, KVM_MEM_LOG_DIRTY_PAGES, 0, low, host},
        kvm_userspace_memory_region{1, KVM_MEM_LOG_DIRTY_PAGES, layout::kAbove4GiB, high,
                                    host + low},
    };
    for (auto& region : regions) {
        if (region.memory_size == 0) continue;
        FT_TRY_VOID(
            kvm_ioctl(vm.fd(), KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION"));
    }
    FT_TRY_VOID(vm.set_msr_filter(tsc_msr));
    return vm;
}

Result<void> Vm::set_msr_filter(TscMsr tsc_msr) {
    kvm_enable_cap enable{};
    enable.cap = KVM_CAP_X86_USER_SPACE_MSR;
    enable.args[0] = KVM_MSR_EXIT_REASON_FILTER;
    FT_TRY_VOID(kvm_ioctl(fd(), KVM_ENABLE_CAP, &enable, "KVM_CAP_X86_USER_SPACE_MSR"));

    std::array<uint8_t, 1> denied{};  // a zero bit denies
    kvm_msr_filter filter{};
    filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
    struct Range {
        uint32_t flags;
        uint32_t base;
        uint32_t count;
    };
    constexpr uint32_t kBoth = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
    const std::array ranges{
        Range{tsc_msr == TscMsr::filtered ? kBoth : uint32_t{KVM_MSR_FILTER_WRITE}, 0x10, 1},
        Range{kBoth, 0x11, 2},        // old kvmclock
        Range{kBoth, 0x4b564d00, 8},  // kvmclock, asynchronous page faults, steal time
    };
    for (size_t i = 0; i < ranges.size(); ++i) {
        filter.ranges[i] = {ranges[i].flags, ranges[i].count, ranges[i].base, denied.data()};
    }
    FT_TRY_VOID(kvm_ioctl(fd(), KVM_X86_SET_MSR_FILTER, &filter, "KVM_X86_SET_MSR_FILTER"));
    return {};
}

Result<void> Vm::collect_dirty(std::vector<uint64_t>& bitmap) {
    bitmap.resize((low_pages_ + high_pages_ + 63) / 64);
    FT_TRY_VOID(collect_slot(0, 0, low_pages_, bitmap));
    if (high_pages_ > 0) FT_TRY_VOID(collect_slot(1, low_pages_, high_pages_, bitmap));
    return {};
}

Result<void> Vm::collect_slot(uint32_t slot, uint64_t first_page, uint64_t pages,
                              std::vector<uint64_t>& bitmap) {
    scratch_.assign((pages + 63) / 64, 0);
    kvm_dirty_log log{};
    log.slot = slot;
    log.dirty_bitmap = scratch_.data();
    FT_TRY_VOID(kvm_ioctl(fd(), KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG"));
    // first_page is 0 or the low memory's page count; that is a multiple of 64 when there is more.
    for (size_t i = 0; i < scratch_.size(); ++i) bitmap[first_page / 64 + i] |= scratch_[i];
    return {};
}

}  // namespace antipode::vmm
