// A VM's definition: taken or refused, with the file's name in front; never a crash.
#include <cstdint>

#include "common/base/check.h"
#include "replicator/vmm/config.h"
#include "replicator/vmm/layout.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace antipode;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto config = vmm::parse_vm_config(text, "/etc/vms/web1/vm.json");
    if (!config) {
        FT_CHECK(config.error().context.rfind("/etc/vms/web1/vm.json: ", 0) == 0, "{}",
                 config.error().context);
        return 0;
    }
    FT_CHECK(!config->kernel_image_path.empty(), "no kernel");
    FT_CHECK(config->mem_size_mib >= 2, "{} MiB", config->mem_size_mib);
    FT_CHECK(config->mem_size_mib <= vmm::VmConfig::kMemoryMibMax, "{} MiB", config->mem_size_mib);
    FT_CHECK(config->drives.size() + config->networks.size() <= vmm::layout::kVirtioIrqs.size(),
             "too many devices");
    for (const auto& network : config->networks) {
        FT_CHECK((network.guest_mac[0] & 1) == 0, "a multicast address");
    }
    return 0;
}
