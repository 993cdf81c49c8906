// VmConfig: a VM's definition, a JSON file in Firecracker's shape.
//
//   { "boot-source": {"kernel_image_path", "initrd_path"?, "boot_args"?},
//     "machine-config": {"vcpu_count", "mem_size_mib", "tsc"?: "hidden", "mode"?: "lockstep"},
//     "drives": [{"drive_id", "path_on_host", "is_read_only"?, "is_root_device"?}],
//     "network-interfaces": [{"iface_id", "host_dev_name", "guest_mac"?}],
//     "entropy": {}? }
//
// Relative paths are relative to the file. An unknown key is an error that names it: a misspelt
// setting must not be silently ignored in a product that people trust with their only copy.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/name.h"
#include "common/base/result.h"
#include "replicator/vmm/devices/virtio_net/net_device.h"

namespace antipode::vmm {

struct DriveConfig {
    std::string drive_id;
    std::string path_on_host;  // a file, a block device, or an nbd: URI
    bool is_read_only = false;
    bool is_root_device = false;  // at most one is
};

struct NetworkConfig {
    std::string iface_id;
    std::string host_dev_name;  // a TAP interface, or unix:PATH for frames over a socket (tests)
    MacAddress guest_mac{};
};

// What the guest may know of the time-stamp counter (docs/HOSTS.md).
enum class TscPolicy : uint8_t {
    hidden,  // nothing: CPUID does not show it, the guest's kernel does not use it
    frozen,  // it stands still between exits; needs TSC scaling
    live,    // it runs, and goes on over a failover; in checkpoint mode only (tsc.h)
};

// How a VM is protected. More than one vCPU needs `checkpoint`.
enum class ProtectionMode : uint8_t {
    lockstep,    // its execution is recorded and replayed
    checkpoint,  // its state is copied again and again (docs/PROTOCOL-checkpoint.md)
    automatic,   // lockstep, and by deltas where that does not do (docs/adr/0008-automatic-mode.md)
};

struct VmConfig {
    static constexpr uint32_t kVcpusMax = 16;
    // The guest is told that it has 40 bits of physical address (cpuid_policy.cc).
    static constexpr uint64_t kMemoryMibMax = 512 * 1024;

    std::string kernel_image_path;
    std::string initrd_path;  // empty: none
    std::string boot_args;
    uint32_t vcpu_count = 1;
    uint64_t mem_size_mib = 128;
    TscPolicy tsc = TscPolicy::hidden;
    ProtectionMode mode = ProtectionMode::lockstep;
    std::vector<DriveConfig> drives;
    std::vector<NetworkConfig> networks;
    bool has_entropy = false;  // a virtio-rng device
};

// `origin` is the file's name, for messages and for relative paths.
Result<VmConfig> parse_vm_config(std::string_view json, const std::string& origin);
Result<VmConfig> load_vm_config(const std::string& path);

// " root=/dev/vdX rw" (or ro) if a drive is the root device, for the kernel's command line.
std::string root_argument(const VmConfig& config);

std::string format_mac(const MacAddress& mac);

}  // namespace antipode::vmm
