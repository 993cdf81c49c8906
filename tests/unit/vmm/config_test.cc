// The VM's definition: what is read, and that every mistake is named with its file and field.
#include "replicator/vmm/config.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/temporary_file.h"

namespace antipode::vmm {
namespace {

constexpr const char* kFull = R"({
  "boot-source": {"kernel_image_path": "vmlinux", "initrd_path": "/boot/initrd",
    "boot_args": "quiet"},
  "machine-config": {"vcpu_count": 1, "mem_size_mib": 256},
  "drives": [
    {"drive_id": "root", "path_on_host": "root.img", "is_root_device": true},
    {"drive_id": "data", "path_on_host": "nbd://127.0.0.1:10809/data", "is_read_only": true},
    {"drive_id": "more", "path_on_host": "nbd.img"}],
  "network-interfaces": [
    {"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "06:00:AC:10:00:02"},
    {"iface_id": "eth1", "host_dev_name": "unix:net.sock"}]
})";

VmConfig parsed(const std::string& text) {
    auto config = parse_vm_config(text, "/etc/vms/web1/vm.json");
    if (!config) throw std::runtime_error(config.error().to_string());
    return *config;
}

// The message without the file's name, which each must begin with.
std::string problem(const std::string& text) {
    const auto config = parse_vm_config(text, "vm.json");
    if (config) return "";
    EXPECT_EQ(config.error().code, Errc::invalid_argument);
    EXPECT_EQ(config.error().context.rfind("vm.json: ", 0), 0u) << config.error().context;
    return config.error().context.substr(9);
}

std::string vm(const std::string& machine, const std::string& rest = "",
               const std::string& boot = R"("kernel_image_path": "k")") {
    return "{\"boot-source\": {" + boot + "}, \"machine-config\": {" + machine + "}" + rest + "}";
}

const std::string kMachine = R"("vcpu_count": 1, "mem_size_mib": 64)";

std::string with_drive(const std::string& drive) {
    return vm(kMachine, ", \"drives\": [" + drive + "]");
}
std::string with_network(const std::string& network) {
    return vm(kMachine, ", \"network-interfaces\": [" + network + "]");
}

TEST(VmConfigTest, Everything) {
    const auto config = parsed(kFull);
    EXPECT_EQ(config.kernel_image_path, "/etc/vms/web1/vmlinux");
    EXPECT_EQ(config.initrd_path, "/boot/initrd");
    EXPECT_EQ(config.boot_args, "quiet");
    EXPECT_EQ(config.vcpu_count, 1u);
    EXPECT_EQ(config.mode, ProtectionMode::lockstep);
    EXPECT_EQ(config.mem_size_mib, 256u);
    ASSERT_EQ(config.drives.size(), 3u);
    EXPECT_EQ(config.drives[0].drive_id, "root");
    EXPECT_EQ(config.drives[0].path_on_host, "/etc/vms/web1/root.img");
    EXPECT_TRUE(config.drives[0].is_root_device);
    EXPECT_FALSE(config.drives[0].is_read_only);
    EXPECT_EQ(config.drives[1].path_on_host, "nbd://127.0.0.1:10809/data");
    EXPECT_TRUE(config.drives[1].is_read_only);
    EXPECT_EQ(config.drives[2].path_on_host, "/etc/vms/web1/nbd.img");
    ASSERT_EQ(config.networks.size(), 2u);
    EXPECT_EQ(config.networks[0].guest_mac, (MacAddress{6, 0, 0xac, 0x10, 0, 2}));
    EXPECT_EQ(config.networks[1].guest_mac, (MacAddress{6, 0, 10, 0, 0, 2}));
    EXPECT_EQ(config.networks[1].host_dev_name, "unix:/etc/vms/web1/net.sock");
    EXPECT_EQ(format_mac(config.networks[0].guest_mac), "06:00:ac:10:00:02");
}

TEST(VmConfigTest, TheRootDeviceIsNamedToTheKernel) {
    EXPECT_EQ(root_argument(parsed(kFull)), " root=/dev/vda rw");
    EXPECT_EQ(root_argument(parsed(vm(kMachine))), "");
    const auto second = parsed(vm(kMachine, R"(, "drives": [{"drive_id": "a", "path_on_host": "a"},
        {"drive_id": "b", "path_on_host": "b", "is_root_device": true, "is_read_only": true}])"));
    EXPECT_EQ(root_argument(second), " root=/dev/vdb ro");
    EXPECT_EQ(problem(vm(kMachine, R"(, "drives": [
        {"drive_id": "a", "path_on_host": "a", "is_root_device": true},
        {"drive_id": "b", "path_on_host": "b", "is_root_device": true}])")),
              "two drives have is_root_device");
}

TEST(VmConfigTest, TheLeast) {
    const auto config = parsed(vm(kMachine));
    EXPECT_EQ(config.initrd_path, "");
    EXPECT_EQ(config.boot_args, "");
    EXPECT_TRUE(config.drives.empty());
    EXPECT_TRUE(config.networks.empty());
}

TEST(VmConfigTest, WhatIsNoJsonNamesItsLine) {
    EXPECT_EQ(problem("").rfind("line 1: not JSON: ", 0), 0u);
    EXPECT_EQ(problem("{\n\n  \"a\": tru\n}").rfind("line 3: not JSON: ", 0), 0u);
    EXPECT_EQ(problem("{\"boot-source\": {}").rfind("line 1: not JSON: ", 0), 0u);
    EXPECT_EQ(problem(vm(kMachine) + "\n x").rfind("line 2: not JSON: ", 0), 0u)
        << problem(vm(kMachine) + "\n x");
    EXPECT_EQ(problem(vm(kMachine) + " \n\t\r\n"), "");
    EXPECT_EQ(problem(std::string(100, '[')).rfind("line 1: not JSON: ", 0), 0u);
}

TEST(VmConfigTest, WhatIsNoObject) {
    EXPECT_EQ(problem("[]"), "not an object");
    EXPECT_EQ(problem("7"), "not an object");
    EXPECT_EQ(problem(R"({"boot-source": 1})"), "boot-source is not an object");
    EXPECT_EQ(problem(R"({"machine-config": []})"), "machine-config is not an object");
    EXPECT_EQ(problem(R"({"drives": {}})"), "drives is not a list");
    EXPECT_EQ(problem(R"({"network-interfaces": "x"})"), "network-interfaces is not a list");
    EXPECT_EQ(problem(R"({"drives": [1]})"), "drives[0] is not an object");
}

TEST(VmConfigTest, WhatIsMissing) {
    EXPECT_EQ(problem("{}"), "boot-source is missing");
    EXPECT_EQ(problem(R"({"boot-source": {"kernel_image_path": "k"}})"),
              "machine-config is missing");
    EXPECT_EQ(problem(vm(kMachine, "", "")), "boot-source.kernel_image_path is missing");
    EXPECT_EQ(problem(vm(R"("vcpu_count": 1)")), "machine-config.mem_size_mib is missing");
    EXPECT_EQ(problem(vm(R"("mem_size_mib": 64)")), "machine-config.vcpu_count is missing");
    EXPECT_EQ(problem(with_drive(R"({"path_on_host": "p"})")), "drives[0].drive_id is missing");
    EXPECT_EQ(problem(with_drive(R"({"drive_id": "a"})")), "drives[0].path_on_host is missing");
    EXPECT_EQ(problem(with_network(R"({"host_dev_name": "tap0"})")),
              "network-interfaces[0].iface_id is missing");
    EXPECT_EQ(problem(with_network(R"({"iface_id": "eth0"})")),
              "network-interfaces[0].host_dev_name is missing");
}

TEST(VmConfigTest, WhatIsNotKnown) {
    EXPECT_EQ(problem(vm(kMachine, R"(, "drive": [])")), "drive is not a setting");
    EXPECT_EQ(problem(vm(kMachine, "", R"("kernel_image_path": "k", "initrd": "i")")),
              "boot-source.initrd is not a setting");
    EXPECT_EQ(problem(vm(kMachine, R"(, "entropy": {"rate_limiter": {}})")),
              "entropy.rate_limiter is not a setting");
    EXPECT_EQ(problem(vm(kMachine + R"(, "smt": false)")), "machine-config.smt is not a setting");
    EXPECT_EQ(problem(with_drive(R"({"drive_id": "a", "path_on_host": "p", "readonly": true})")),
              "drives[0].readonly is not a setting");
    EXPECT_EQ(problem(with_network(R"({"iface_id": "e", "host_dev_name": "t", "mac": "x"})")),
              "network-interfaces[0].mac is not a setting");
}

TEST(VmConfigTest, WhatHasTheWrongType) {
    EXPECT_EQ(problem(vm(kMachine, "", R"("kernel_image_path": 1)")),
              "boot-source.kernel_image_path is not a string");
    EXPECT_EQ(problem(vm(kMachine, "", R"("kernel_image_path": "k", "boot_args": ["x"])")),
              "boot-source.boot_args is not a string");
    EXPECT_EQ(problem(with_drive(R"({"drive_id": "a", "path_on_host": "p", "is_read_only": 1})")),
              "drives[0].is_read_only is not true or false");
    for (const char* bad :
         {"0", "1", "-1", "524289", "64.5", "\"64\"", "null", "1e30", "18446744073709551616"}) {
        EXPECT_EQ(problem(vm(std::string(R"("vcpu_count": 1, "mem_size_mib": )") + bad)),
                  "machine-config.mem_size_mib is not a whole number from 2 to 524288")
            << bad;
    }
    EXPECT_EQ(problem(vm(kMachine + R"(, "tsc": "slow")")),
              "machine-config.tsc is \"slow\", not hidden, frozen or live");
    EXPECT_EQ(problem(vm(kMachine + R"(, "tsc": "live")")),
              "machine-config.tsc is live, which lockstep cannot replay: use \"hidden\", or "
              "\"mode\": \"checkpoint\"");
    EXPECT_EQ(problem(vm(R"("vcpu_count": 17, "mem_size_mib": 64)")),
              "machine-config.vcpu_count is not a whole number from 1 to 16");
    EXPECT_EQ(problem(vm(R"("vcpu_count": 2, "mem_size_mib": 64)")),
              "machine-config.vcpu_count is 2, and lockstep can have 1: use \"mode\": "
              "\"checkpoint\"");
    EXPECT_EQ(problem(vm(kMachine + R"(, "mode": "fast")")),
              "machine-config.mode is \"fast\", not lockstep, checkpoint or auto");
    EXPECT_EQ(problem(vm(R"("vcpu_count": 2, "mem_size_mib": 64, "mode": "auto")")),
              "machine-config.vcpu_count is 2, and auto can have 1: use \"mode\": \"checkpoint\"");
    EXPECT_EQ(problem(vm(kMachine + R"(, "tsc": "live", "mode": "auto")")),
              "machine-config.tsc is live, which auto cannot replay: use \"hidden\", or "
              "\"mode\": \"checkpoint\"");
}

TEST(VmConfigTest, AutomaticMode) {
    const auto config = parse_vm_config(vm(kMachine + R"(, "mode": "auto")"), "x");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->mode, ProtectionMode::automatic);
}

TEST(VmConfigTest, SeveralVcpusInCheckpointMode) {
    const auto config =
        parse_vm_config(vm(R"("vcpu_count": 4, "mem_size_mib": 64, "mode": "checkpoint")"), "x");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->vcpu_count, 4u);
    EXPECT_EQ(config->mode, ProtectionMode::checkpoint);
}

TEST(VmConfigTest, ALiveTscInCheckpointMode) {
    const auto config =
        parse_vm_config(vm(kMachine + R"(, "tsc": "live", "mode": "checkpoint")"), "x");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->tsc, TscPolicy::live);
}

TEST(VmConfigTest, WhatIsEmpty) {
    EXPECT_EQ(problem(vm(kMachine, "", R"("kernel_image_path": "")")),
              "boot-source.kernel_image_path is not set to anything");
    EXPECT_EQ(problem(with_drive(R"({"drive_id": "a", "path_on_host": ""})")),
              "drives[0].path_on_host is not set to anything");
    EXPECT_EQ(problem(with_network(R"({"iface_id": "eth0", "host_dev_name": ""})")),
              "network-interfaces[0].host_dev_name is not set to anything");
}

TEST(VmConfigTest, NamesAreNames) {
    const auto drive = [](const std::string& id) {
        return problem(with_drive("{\"drive_id\": \"" + id + "\", \"path_on_host\": \"p\"}"));
    };
    EXPECT_EQ(drive("a-1"), "");
    for (const char* bad : {"-a", "A", "a b", "a/b", "01234567890123456789012345678901"}) {
        EXPECT_EQ(drive(bad).rfind("drives[0].drive_id", 0), 0u) << drive(bad);
    }
    EXPECT_EQ(problem(with_network(R"({"iface_id": "eth 0", "host_dev_name": "tap0"})"))
                  .rfind("network-interfaces[0].iface_id", 0),
              0u);
}

TEST(VmConfigTest, NamesAreGivenOnce) {
    const std::string drive = R"({"drive_id": "a", "path_on_host": "p"})";
    EXPECT_EQ(problem(with_drive(drive + "," + drive)), "two drives have the drive_id a");
    const std::string network = R"({"iface_id": "eth0", "host_dev_name": "tap0"})";
    EXPECT_EQ(problem(with_network(network + "," + network)),
              "two network-interfaces have the iface_id eth0");
}

TEST(VmConfigTest, MacAddresses) {
    const auto mac = [](const std::string& text) {
        return problem(with_network(R"({"iface_id": "e", "host_dev_name": "t", "guest_mac": ")" +
                                    text + "\"}"));
    };
    EXPECT_EQ(mac("06:00:0a:Ff:00:01"), "");
    for (const char* bad :
         {"", "06", "06:00:0a:00:00", "06:00:0a:00:00:01:02", "06-00-0a-00-00-01",
          "06:00:0a:00:00:1", "06:00:0a:00:00:0g", "06:00:0a:00:00: 1", "06:00:0a:00:00:+1",
          "06:00:0a:00:00:0x", " 6:00:0a:00:00:01", "06:00:0a:00:00:01 "}) {
        EXPECT_EQ(mac(bad), fmt::format("network-interfaces[0].guest_mac is \"{}\", not a MAC "
                                        "address like 06:00:00:00:00:01",
                                        bad));
    }
    EXPECT_EQ(mac("01:00:5e:00:00:01"),
              "network-interfaces[0].guest_mac is 01:00:5e:00:00:01, a multicast address");
}

TEST(VmConfigTest, NoMoreDevicesThanThereAreLines) {
    std::string drives;
    for (int i = 0; i < 8; ++i) {
        drives += fmt::format("{}{{\"drive_id\": \"d{}\", \"path_on_host\": \"p\"}}",
                              i == 0 ? "" : ",", i);
    }
    EXPECT_EQ(problem(with_drive(drives)), "");
    EXPECT_EQ(problem(vm(kMachine, ", \"drives\": [" + drives +
                                       R"(], "network-interfaces": [)"
                                       R"({"iface_id": "e", "host_dev_name": "t"}])")),
              "9 devices, 8 fit");
}

TEST(VmConfigTest, TheCommandLineHasALimit) {
    const auto args = [](size_t length) {
        return problem(
            vm(kMachine, "",
               R"("kernel_image_path": "k", "boot_args": ")" + std::string(length, 'x') + "\""));
    };
    EXPECT_EQ(args(2048), "");
    EXPECT_EQ(args(2049), "boot-source.boot_args has 2049 characters, 2048 fit");
}

TEST(VmConfigTest, Files) {
    const std::string text = kFull;
    const TemporaryFile file(std::as_bytes(std::span(text)));
    const auto config = load_vm_config(file.path());
    ASSERT_TRUE(config);
    EXPECT_EQ(config->kernel_image_path, "/proc/self/fd/vmlinux");
    const auto none = load_vm_config("/nonexistent/vm.json");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, Errc::not_found);
    EXPECT_EQ(none.error().context, "/nonexistent/vm.json: No such file or directory");
    const std::string large(2 << 20, ' ');
    const TemporaryFile large_file(std::as_bytes(std::span(large)));
    const auto refused = load_vm_config(large_file.path());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().context, large_file.path() + ": is larger than 1048576 bytes");
}

}  // namespace
}  // namespace antipode::vmm
