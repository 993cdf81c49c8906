// A kernel image of the operator's: loaded or refused; nothing outside of the guest's memory is
// touched (guard pages, ASan), and low memory holds what the loader itself puts there.
#include <cstdint>
#include <cstring>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/unique_fd.h"
#include "replicator/vmm/boot.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode;
    static const UniqueFd file(memfd_create("kernel", MFD_CLOEXEC));
    static vmm::GuestMemory memory = *vmm::GuestMemory::allocate(2 << 20);
    FT_CHECK(ftruncate(file.get(), 0) == 0, "ftruncate");
    FT_CHECK(pwrite(file.get(), data, size, 0) == static_cast<ssize_t>(size), "pwrite");
    const vmm::BootImage image{fmt::format("/proc/self/fd/{}", file.get()), "", "quiet"};
    const auto entry = vmm::load_boot_image(image, memory);
    if (!entry) return 0;
    FT_CHECK(*entry >= vmm::layout::kHighMemory && *entry < memory.size_bytes(), "entry {:#x}",
             *entry);
    const auto magic = memory.load<uint32_t>(vmm::GuestPhys(vmm::layout::kZeroPage + 0x202));
    FT_CHECK(magic == 0x53726448u, "zero page was overwritten");
    return 0;
}
