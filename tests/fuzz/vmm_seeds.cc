// Writes the seeds that a fuzzer would not find by itself: whole states, batches and kernels, which
// a checksumless but strict format hides behind hundreds of right bytes.
//
//   fuzz_seeds tests/fuzz/corpus
//
// Run it after a change of format, and commit what it writes (names begin with "seed-").
#include <cstring>
#include <elf.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "replicator/replay/log_entry.h"
#include "replicator/vmm/cpu_state.h"
#include "replicator/vmm/machine.h"

namespace {

using namespace antipode;

void write(const std::filesystem::path& directory, const std::string& name,
           std::span<const std::byte> bytes) {
    std::filesystem::create_directories(directory);
    std::ofstream file(directory / ("seed-" + name), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
}

void log_batches(const std::filesystem::path& directory) {
    using namespace replay;
    const std::vector<std::byte> bytes(60, std::byte{0x5a});
    const std::vector<std::pair<const char*, LogEntry::Body>> bodies{
        {"pm-timer", InputRead{vmm::InputKind::pm_timer, 0x123456}},
        {"pit", InputRead{vmm::InputKind::pit_counter, 70000}},
        {"wall-clock", InputRead{vmm::InputKind::wall_clock, 1735689600}},
        {"output", OutputMark{0xdeadbeef}},
        {"tick", TimerTick{}},
        {"block", BlockDone{3, 300, vmm::BlockStatus::io_error}},
        {"frame", FrameReceived{1, bytes}},
        {"console", ConsoleInput{{std::byte{'l'}, std::byte{'s'}, std::byte{'\n'}}}},
        {"digest", DigestMark{1, 2, 3}},
        {"passed", Passed{}},
        {"pages", DeltaPages{{{7, {}}, {8, std::vector<std::byte>(4096, std::byte{1})}}}},
        {"state", DeltaState{bytes}},
        {"checkpoint", CheckpointPart{bytes}},
        {"stretch-begin", StretchBegin{DeltasReason::busy}},
        {"stretch-end", StretchEnd{StretchEnd::Then::resumed}},
        {"stretch-output", StretchOutput{vmm::Output::Kind::frame, 1, bytes}},
        {"stretch-write", StretchWrite{2, vmm::BlockOperation::write, 4096, bytes.size(), bytes}},
        {"stretch-state", StretchState{StretchState::Piece::last, bytes}},
    };
    LogBatch all{LogIndex(1000), OutputNumber(17), 123456789, {}};
    uint64_t exit = 1'000'000;
    for (const auto& [name, body] : bodies) {
        const LogBatch one{LogIndex(1), OutputNumber(), 0, {{ExitNumber(5), body}}};
        write(directory, name, encode(one));
        all.entries.push_back({ExitNumber(exit), body});
        exit += exit % 40;
    }
    write(directory, "all", encode(all));
}

void state(const std::filesystem::path& directory, const std::string& name,
           const vmm::Machine& machine) {
    const auto saved = vmm::saved(machine);
    vmm::StateWriter out;
    out.put(static_cast<uint16_t>(saved.size()));
    auto bytes = out.take();
    bytes.insert(bytes.end(), saved.begin(), saved.end());
    // Some steps for the guest: ends of requests, notifications, a migration, a reset.
    for (const unsigned each : {12, 7, 0, 0, 12, 7, 0, 6, 10, 0, 10, 3, 14, 4,
                                0,  0, 3, 8, 0,  0, 0, 7, 10, 0, 12, 5, 0,  0}) {
        bytes.push_back(static_cast<std::byte>(each));
    }
    write(directory, name, bytes);
}

struct NoClock final : vmm::InputSource {
    uint64_t read(vmm::InputKind) override { return 0; }
};

// The machine of vmm_twin.cc, with its first disk started as vmm_guest.cc does it.
void states(const std::filesystem::path& directory) {
    vmm::VmConfig config;
    config.drives.push_back({"root", "", false, true});
    config.drives.push_back({"cd", "", true, false});
    config.networks.push_back({"eth0", "", {6, 0, 10, 0, 0, 1}});
    auto memory = *vmm::GuestMemory::allocate(128 * 1024);
    vmm::Machine machine(config, {64 * 1024, 64 * 1024}, memory);
    state(directory, "fresh", machine);
    NoClock clock;
    const auto set = [&](uint64_t offset, uint32_t value) {
        vmm::Exit exit;
        exit.kind = vmm::Exit::Kind::mmio_write;
        exit.address = vmm::layout::kVirtioMmio + offset;
        exit.size = 4;
        exit.count = 1;
        exit.data = std::as_writable_bytes(std::span(&value, 1));
        machine.emulate(exit, clock);
    };
    const auto start = [&] {
        for (const auto& [offset, value] :
             std::initializer_list<std::pair<uint64_t, uint32_t>>{{0x70, 0},
                                                                  {0x24, 1},
                                                                  {0x20, 1},
                                                                  {0x70, 8},
                                                                  {0x38, 8},
                                                                  {0x80, 0x1000},
                                                                  {0x90, 0x2000},
                                                                  {0xa0, 0x2400},
                                                                  {0x44, 1},
                                                                  {0x70, 12}}) {
            set(offset, value);
        }
    };
    start();
    state(directory, "started", machine);
    const auto store = [&](uint64_t at, auto value) {
        (void)memory.store(vmm::GuestPhys(at), value);
    };
    const auto request = [&](uint16_t number, uint32_t type, uint64_t sector) {
        store(0xa000, type);
        store(0xa008, sector);
        const uint16_t data_flags = type == 0 ? 3 : 1;
        store(0x1000, uint64_t{0xa000});
        store(0x1008, uint32_t{16});
        store(0x100c, uint32_t{1 | 1 << 16});
        store(0x1010, uint64_t{0xb000});
        store(0x1018, uint32_t{1024});
        store(0x101c, uint32_t{data_flags | 2u << 16});
        store(0x1020, uint64_t{0xa040});
        store(0x1028, uint32_t{1});
        store(0x102c, uint32_t{2});
        store(0x2004 + 2 * ((number - 1u) % 8), uint16_t{0});
        store(0x2002, number);
        set(0x50, 0);
        (void)machine.take_block_requests();
    };
    request(1, 1, 0);
    request(2, 0, 0);
    request(3, 0, 8);
    state(directory, "in-flight", machine);
    store(0x2002, uint16_t{0});
    start();
    request(1, 1, 1);
    state(directory, "abandoned", machine);
}

void cpu_state(const std::filesystem::path& directory) {
    vmm::CpuState state;
    vmm::StateWriter zero;
    state.save(zero);
    write(directory, "zero", zero.bytes());
    state.msrs = {{0x277, 0x0007040600070406}, {0xc0000082, 0xffffffff81000000}};
    vmm::StateWriter some;
    state.save(some);
    write(directory, "msrs", some.bytes());
}

void kernel(const std::filesystem::path& directory) {
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        std::array<uint8_t, 64> code;
    } file{};
    std::memcpy(file.header.e_ident, ELFMAG, SELFMAG);
    file.header.e_ident[EI_CLASS] = ELFCLASS64;
    file.header.e_ident[EI_DATA] = ELFDATA2LSB;
    file.header.e_machine = EM_X86_64;
    file.header.e_entry = 0x100010;
    file.header.e_phoff = sizeof(Elf64_Ehdr);
    file.header.e_phentsize = sizeof(Elf64_Phdr);
    file.header.e_phnum = 1;
    file.segment.p_type = PT_LOAD;
    file.segment.p_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
    file.segment.p_paddr = 0x100000;
    file.segment.p_filesz = file.code.size();
    file.segment.p_memsz = 0x1000;
    file.code.fill(0x90);
    write(directory, "small", std::as_bytes(std::span(&file, 1)));
}

void config(const std::filesystem::path& directory) {
    const std::string_view text = R"({
  "boot-source": {"kernel_image_path": "vmlinux", "initrd_path": "/i", "boot_args": "quiet"},
  "machine-config": {"vcpu_count": 1, "mem_size_mib": 256},
  "drives": [{"drive_id": "a", "path_on_host": "nbd://h/x", "is_root_device": true,
              "is_read_only": false}],
  "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "unix:s",
                          "guest_mac": "06:00:AC:10:00:02"}]
})";
    write(directory, "full", std::as_bytes(std::span(text)));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const std::filesystem::path corpus = argv[1];
    log_batches(corpus / "replay_log_batch");
    states(corpus / "vmm_state");
    cpu_state(corpus / "vmm_cpu_state");
    kernel(corpus / "vmm_kernel");
    config(corpus / "vmm_config");
    return 0;
}
