// A ReplayPair for each guest: one of build/*/guests, or "linux" as ANTIPODE_LINUX_GUEST has it.
#pragma once

#include <cstdlib>
#include <string>
#include <unistd.h>

#include "tests/replay/replay_pair.h"

namespace antipode::replay {

inline bool is_linux(const std::string& guest) {
    return guest == "linux";
}

// Why it cannot run here; empty: it can.
inline std::string guest_missing(const std::string& guest) {
    if (access("/dev/kvm", R_OK | W_OK) != 0) return "no /dev/kvm";
    if (is_linux(guest) && std::getenv("ANTIPODE_LINUX_GUEST") == nullptr) {
        return "no Linux guest: ANTIPODE_LINUX_GUEST is not set";
    }
    return "";
}

inline PairOptions options_for(const std::string& guest, const std::string& arguments) {
    PairOptions options;
    options.config.mem_size_mib = 32;
    options.config.drives.push_back({"root", "memory", false, true});
    options.config.networks.push_back({"eth0", "memory", {6, 0, 10, 0, 0, 1}});
    options.config.has_entropy = guest == "entropy";
    if (is_linux(guest)) {
        const std::string base = std::getenv("ANTIPODE_LINUX_GUEST");
        options.config.kernel_image_path = base + "/vmlinux";
        options.config.initrd_path = base + "/initramfs.cpio";
        options.config.boot_args =
            "console=ttyS0 nolapic noxsave notsc clearcpuid=smap,popcnt,rdrand,rdseed,rdtscp "
            "lpj=20000 rodata=off quiet pmtmr=0x608";
    } else {
        options.config.kernel_image_path = std::string(GUEST_DIRECTORY) + "/" + guest + ".elf";
        options.config.boot_args = arguments;
    }
    return options;
}

}  // namespace antipode::replay
