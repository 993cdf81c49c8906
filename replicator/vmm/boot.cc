#include "replicator/vmm/boot.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <numeric>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>
#include <xxhash.h>

#include "common/base/unique_fd.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kFileBytesMax = uint64_t{1} << 30;
constexpr uint16_t kProgramHeadersMax = 64;

// An image on its way into the guest's memory: read where it is wanted, never as a whole.
class ImageFile {
  public:
    static Result<ImageFile> open(const std::string& path) {
        UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd) return fail_errno(errno, "{}", path);
        struct stat info {};
        if (fstat(fd.get(), &info) != 0) return fail_errno(errno, "{}", path);
        if (!S_ISREG(info.st_mode)) return fail(Errc::invalid_argument, "{}: is not a file", path);
        const auto size = static_cast<uint64_t>(info.st_size);
        if (size > kFileBytesMax) {
            return fail(Errc::limit, "{}: has {} bytes, at most {} are loaded", path, size,
                        kFileBytesMax);
        }
        return ImageFile(path, std::move(fd), size);
    }
    uint64_t size() const { return size_; }
    // [offset, offset + into.size()) lies in it.
    Result<void> read(uint64_t offset, std::span<std::byte> into) const {
        while (!into.empty()) {
            const ssize_t count =
                pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset));
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return fail_errno(errno, "{}", path_);
            if (count == 0)
                return fail(Errc::io, "{}: ends at {} of {} bytes", path_, offset, size_);
            into = into.subspan(static_cast<size_t>(count));
            offset += static_cast<uint64_t>(count);
        }
        return {};
    }
    // False: it ends before, or cannot be read.
    template <typename T>
    bool copy_out(uint64_t offset, T& value) const {
        if (offset > size_ || size_ - offset < sizeof value) return false;
        return read(offset, std::as_writable_bytes(std::span(&value, 1))).has_value();
    }

  private:
    ImageFile(std::string path, UniqueFd fd, uint64_t size)
        : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}

    std::string path_;
    UniqueFd fd_;
    uint64_t size_;
};

Result<uint64_t> load_elf(const std::string& path, GuestMemory& memory, uint64_t& end) {
    FT_TRY(const ImageFile file, ImageFile::open(path));
    Elf64_Ehdr header{};
    if (!file.copy_out(0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != EM_X86_64) {
        return fail(Errc::invalid_argument, "{}: is not an x86-64 ELF kernel (vmlinux)", path);
    }
    if (header.e_phnum == 0 || header.e_phnum > kProgramHeadersMax ||
        header.e_phentsize != sizeof(Elf64_Phdr)) {
        return fail(Errc::invalid_argument, "{}: has {} program headers of {} bytes", path,
                    header.e_phnum, header.e_phentsize);
    }
    bool has_entry = false;
    for (uint16_t i = 0; i < header.e_phnum; ++i) {
        Elf64_Phdr segment{};
        if (header.e_phoff > file.size() ||
            !file.copy_out(header.e_phoff + i * sizeof segment, segment)) {
            return fail(Errc::invalid_argument, "{}: program header {} is cut off", path, i);
        }
        if (segment.p_type != PT_LOAD || segment.p_memsz == 0) continue;
        if (segment.p_offset > file.size() || segment.p_filesz > file.size() - segment.p_offset ||
            segment.p_filesz > segment.p_memsz) {
            return fail(Errc::invalid_argument, "{}: segment {} is cut off", path, i);
        }
        const auto target = memory.mutable_span(GuestPhys(segment.p_paddr), segment.p_memsz);
        if (!target || segment.p_paddr < layout::kHighMemory) {
            return fail(Errc::invalid_argument,
                        "{}: segment {} at {:#x}, {} bytes, does not fit into {} MiB of memory",
                        path, i, segment.p_paddr, segment.p_memsz, memory.size_bytes() >> 20);
        }
        FT_TRY_VOID(file.read(segment.p_offset, target->first(segment.p_filesz)));
        end = std::max(end, segment.p_paddr + segment.p_memsz);
        has_entry = has_entry || (header.e_entry >= segment.p_paddr &&
                                  header.e_entry - segment.p_paddr < segment.p_memsz);
    }
    if (!has_entry) {
        return fail(Errc::invalid_argument, "{}: entry point {:#x} is in no segment", path,
                    header.e_entry);
    }
    return header.e_entry;
}

struct Initrd {
    uint64_t at = 0;
    uint64_t bytes = 0;
};

Result<Initrd> load_initrd(const std::string& path, GuestMemory& memory, uint64_t kernel_end) {
    if (path.empty()) return Initrd{};
    FT_TRY(const ImageFile file, ImageFile::open(path));
    const uint64_t room = memory.low_bytes();
    if (file.size() == 0) return fail(Errc::invalid_argument, "{}: is empty", path);
    if (file.size() > room) {
        return fail(Errc::invalid_argument, "{}: {} bytes do not fit into memory", path,
                    file.size());
    }
    const uint64_t at = (room - file.size()) & ~(layout::kPageBytes - 1);
    const auto target = memory.mutable_span(GuestPhys(at), file.size());
    if (at < kernel_end || !target) {
        return fail(Errc::invalid_argument, "{}: {} bytes do not fit behind the kernel in {} MiB",
                    path, file.size(), memory.size_bytes() >> 20);
    }
    FT_TRY_VOID(file.read(0, *target));
    return Initrd{at, file.size()};
}

template <typename T>
void poke(std::span<std::byte> area, size_t offset, T value) {
    std::memcpy(area.data() + offset, &value, sizeof value);
}

// struct boot_params; offsets from Documentation/x86/zero-page.rst and boot.rst.
void write_zero_page(GuestMemory& memory, const Initrd& initrd) {
    std::array<std::byte, layout::kPageBytes> zero_page{};
    const std::span<std::byte> page(zero_page);
    struct Range {
        uint64_t at;
        uint64_t bytes;
    };
    std::vector<Range> ram{{0, layout::kMpTable},
                           {layout::kHighMemory, memory.low_bytes() - layout::kHighMemory}};
    if (memory.size_bytes() > memory.low_bytes()) {
        ram.push_back({layout::kAbove4GiB, memory.size_bytes() - memory.low_bytes()});
    }
    poke<uint8_t>(page, 0x1e8, static_cast<uint8_t>(ram.size()));
    for (size_t i = 0; i < ram.size(); ++i) {
        const size_t at = 0x2d0 + 20 * i;
        poke<uint64_t>(page, at, ram[i].at);
        poke<uint64_t>(page, at + 8, ram[i].bytes);
        poke<uint32_t>(page, at + 16, 1);  // usable
    }
    poke<uint16_t>(page, 0x1fe, 0xaa55);
    poke<uint32_t>(page, 0x202, 0x53726448);  // "HdrS"
    poke<uint16_t>(page, 0x206, 0x20c);       // protocol 2.12
    poke<uint8_t>(page, 0x210, 0xff);         // a loader without a number
    poke<uint8_t>(page, 0x211, 1);            // loaded high
    poke<uint32_t>(page, 0x218, static_cast<uint32_t>(initrd.at));
    poke<uint32_t>(page, 0x21c, static_cast<uint32_t>(initrd.bytes));
    poke<uint32_t>(page, 0x228, static_cast<uint32_t>(layout::kCommandLine));
    poke<uint32_t>(page, 0x230, 0x200000);  // kernel alignment
    poke<uint32_t>(page, 0x238, static_cast<uint32_t>(layout::kCommandLineBytesMax - 1));
    (void)memory.write(GuestPhys(layout::kZeroPage), page);
}

uint8_t checksum(std::span<const std::byte> bytes) {
    const auto add = [](unsigned sum, std::byte b) { return sum + static_cast<unsigned>(b); };
    return static_cast<uint8_t>(0u - std::accumulate(bytes.begin(), bytes.end(), 0u, add));
}

// MultiProcessor Specification 1.4, chapter 4: a floating pointer and a table with one processor.
void write_mp_table(GuestMemory& memory) {
    constexpr size_t kPointerBytes = 16;
    constexpr size_t kTableBytes = 64;
    std::array<std::byte, kPointerBytes + kTableBytes> area{};
    const auto pointer = std::span(area).first(kPointerBytes);
    const auto table = std::span(area).subspan(kPointerBytes);
    std::memcpy(pointer.data(), "_MP_", 4);
    poke<uint32_t>(pointer, 4, static_cast<uint32_t>(layout::kMpTable + kPointerBytes));
    poke<uint8_t>(pointer, 8, 1);
    poke<uint8_t>(pointer, 9, 4);
    poke<uint8_t>(pointer, 10, checksum(pointer));
    std::memcpy(table.data(), "PCMP", 4);
    poke<uint16_t>(table, 4, kTableBytes);
    poke<uint8_t>(table, 6, 4);
    std::memcpy(table.data() + 8, "ANTIPODELOCKSTEP    ", 20);
    poke<uint16_t>(table, 34, 1);           // entries
    poke<uint32_t>(table, 36, 0xfee00000);  // where a local APIC would be
    poke<uint8_t>(table, 44 + 2, 0x14);     // processor entry: APIC version
    poke<uint8_t>(table, 44 + 3, 3);        // enabled, bootstrap
    poke<uint32_t>(table, 44 + 4, 0x600);
    poke<uint32_t>(table, 44 + 8, 0x201);
    poke<uint8_t>(table, 7, checksum(table));
    (void)memory.write(GuestPhys(layout::kMpTable), area);
}

}  // namespace

// Accessed and dirty bits are preset, so that the processor has no reason to write into the tables.
void write_boot_tables(GuestMemory& memory) {
    constexpr uint64_t kEntry = 0x67;  // present, writable, user, accessed, dirty
    constexpr uint64_t kLargePage = 0x80;
    constexpr uint64_t kLargePageBytes = 0x200000;
    constexpr uint64_t kDirectories = 4;
    constexpr uint64_t kPage = layout::kPageBytes;
    const uint64_t directory_pointers = layout::kPageTables + kPage;
    (void)memory.store(GuestPhys(layout::kPageTables), directory_pointers | kEntry);
    for (uint64_t i = 0; i < kDirectories; ++i) {
        const uint64_t directory = directory_pointers + kPage * (1 + i);
        (void)memory.store(GuestPhys(directory_pointers + 8 * i), directory | kEntry);
        std::array<uint64_t, 512> entries{};
        for (uint64_t j = 0; j < entries.size(); ++j) {
            entries[j] = (i * entries.size() + j) * kLargePageBytes | kEntry | kLargePage;
        }
        (void)memory.write(GuestPhys(directory), std::as_bytes(std::span(entries)));
    }
    constexpr std::array<uint64_t, 4> kGdt{0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};
    (void)memory.write(GuestPhys(layout::kGdt), std::as_bytes(std::span(kGdt)));
}

Result<uint64_t> load_boot_image(const BootImage& image, GuestMemory& memory) {
    if (memory.size_bytes() <= layout::kHighMemory) {
        return fail(Errc::invalid_argument, "machine-config.mem_size_mib: {} MiB are too few",
                    memory.size_bytes() >> 20);
    }
    if (image.command_line.size() >= layout::kCommandLineBytesMax) {
        return fail(Errc::invalid_argument, "kernel command line has {} characters, {} fit",
                    image.command_line.size(), layout::kCommandLineBytesMax - 1);
    }
    uint64_t end = 0;
    FT_TRY(const uint64_t entry, load_elf(image.kernel_path, memory, end));
    FT_TRY(const Initrd initrd, load_initrd(image.initrd_path, memory, end));
    const char* text = image.command_line.c_str();
    (void)memory.write(GuestPhys(layout::kCommandLine),
                       std::as_bytes(std::span(text, image.command_line.size() + 1)));
    write_zero_page(memory, initrd);
    write_mp_table(memory);
    write_boot_tables(memory);
    return entry;
}

uint64_t boot_image_digest(const GuestMemory& memory) {
    uint64_t digest = memory.size_bytes();
    for (size_t word = 0; word < memory.vmm_dirty().size(); ++word) {
        // Only what was written: the rest is zero and need not be touched.
        for (uint64_t bits = memory.vmm_dirty()[word]; bits != 0; bits &= bits - 1) {
            const uint64_t page = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
            const auto bytes = memory.page(page);
            digest += XXH3_64bits_withSeed(bytes.data(), bytes.size(), page);
        }
    }
    return digest;
}

Result<void> set_boot_state(Vcpu& vcpu, uint64_t entry) {
    constexpr uint64_t kCr0 = 0x80000031;  // PG, NE, ET, PE
    constexpr uint64_t kCr4Pae = 0x20;
    constexpr uint64_t kEferLongMode = 0x500;
    FT_TRY(kvm_sregs sregs, vcpu.sregs());
    kvm_segment code{};
    code.limit = 0xffffffff;
    code.selector = 0x10;
    code.type = 11;
    code.present = 1;
    code.s = 1;
    code.l = 1;
    code.g = 1;
    kvm_segment data = code;
    data.selector = 0x18;
    data.type = 3;
    data.l = 0;
    data.db = 1;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.gdt.base = layout::kGdt;
    sregs.gdt.limit = 0x1f;
    sregs.idt.limit = 0;
    sregs.cr0 = kCr0;
    sregs.cr3 = layout::kPageTables;
    sregs.cr4 = kCr4Pae;
    sregs.efer = kEferLongMode;
    FT_TRY_VOID(vcpu.set_sregs(sregs));
    kvm_regs regs{};
    regs.rip = entry;
    regs.rsi = layout::kZeroPage;
    regs.rsp = layout::kBootStack;
    regs.rflags = 2;
    return vcpu.set_regs(regs);
}

}  // namespace antipode::vmm
