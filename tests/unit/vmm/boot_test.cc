// The boot loader: where things go, and kernels that are no kernels.
#include "replicator/vmm/boot.h"

#include <array>
#include <cstring>
#include <elf.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/guest_ring.h"
#include "tests/unit/vmm/temporary_file.h"

namespace antipode::vmm {
namespace {

constexpr uint64_t kMiB = 1 << 20;

struct Segment {
    uint64_t at;
    std::vector<std::byte> bytes;
    uint64_t memory_bytes;
    uint32_t type = PT_LOAD;
};

// A small vmlinux, of which a test can then break any field.
struct Elf {
    Elf64_Ehdr header{};
    std::vector<Elf64_Phdr> segments;
    std::vector<std::byte> contents;

    explicit Elf(const std::vector<Segment>& parts, uint64_t entry) {
        std::memcpy(header.e_ident, ELFMAG, SELFMAG);
        header.e_ident[EI_CLASS] = ELFCLASS64;
        header.e_ident[EI_DATA] = ELFDATA2LSB;
        header.e_type = ET_EXEC;
        header.e_machine = EM_X86_64;
        header.e_entry = entry;
        header.e_phoff = sizeof header;
        header.e_phentsize = sizeof(Elf64_Phdr);
        header.e_phnum = static_cast<uint16_t>(parts.size());
        uint64_t offset = sizeof header + parts.size() * sizeof(Elf64_Phdr);
        for (const Segment& part : parts) {
            Elf64_Phdr segment{};
            segment.p_type = part.type;
            segment.p_offset = offset;
            segment.p_paddr = part.at;
            segment.p_filesz = part.bytes.size();
            segment.p_memsz = part.memory_bytes;
            segments.push_back(segment);
            contents.insert(contents.end(), part.bytes.begin(), part.bytes.end());
            offset += part.bytes.size();
        }
    }
    std::vector<std::byte> file() const {
        std::vector<std::byte> all;
        const auto append = [&all](const void* data, size_t bytes) {
            const auto* from = static_cast<const std::byte*>(data);
            all.insert(all.end(), from, from + bytes);
        };
        append(&header, sizeof header);
        append(segments.data(), segments.size() * sizeof(Elf64_Phdr));
        append(contents.data(), contents.size());
        return all;
    }
};

std::vector<std::byte> filled(size_t bytes, uint8_t value) {
    return std::vector<std::byte>(bytes, std::byte{value});
}

Elf small_kernel() {
    return Elf({{kMiB, filled(100, 0x90), 4096}, {2 * kMiB, filled(5000, 0xcc), 8000}}, kMiB + 16);
}

class BootTest : public testing::Test {
  protected:
    Result<uint64_t> load(const Elf& elf, const std::string& command_line = "",
                          const std::string& initrd = "") {
        const TemporaryFile file(elf.file());
        return load_boot_image({file.path(), initrd, command_line}, memory_);
    }
    // The message without the file's name.
    std::string problem(const Elf& elf) { return problem_of(elf.file()); }
    std::string problem_of(std::span<const std::byte> bytes) {
        const TemporaryFile file(bytes);
        const auto loaded = load_boot_image({file.path(), "", ""}, memory_);
        if (loaded) return "";
        EXPECT_EQ(loaded.error().code, Errc::invalid_argument);
        EXPECT_EQ(loaded.error().context.rfind(file.path() + ": ", 0), 0u);
        return loaded.error().context.substr(file.path().size() + 2);
    }
    template <typename T>
    T zero_page(uint64_t offset) {
        return *memory_.load<T>(GuestPhys(layout::kZeroPage + offset));
    }
    std::string text_at(uint64_t at, size_t bytes) {
        const auto view = memory_.view(GuestPhys(at), bytes);
        return {reinterpret_cast<const char*>(view->data()), bytes};
    }

    GuestMemory memory_ = test_memory(16 * kMiB);
};

TEST_F(BootTest, SegmentsGoWhereTheySay) {
    const auto entry = load(small_kernel(), "console=ttyS0");
    ASSERT_TRUE(entry) << entry.error().to_string();
    EXPECT_EQ(*entry, kMiB + 16);
    EXPECT_EQ(memory_.load<uint8_t>(GuestPhys(kMiB)), 0x90);
    EXPECT_EQ(memory_.load<uint8_t>(GuestPhys(kMiB + 99)), 0x90);
    EXPECT_EQ(memory_.load<uint8_t>(GuestPhys(kMiB + 100)), 0);
    EXPECT_EQ(memory_.load<uint8_t>(GuestPhys(2 * kMiB + 4999)), 0xcc);
    EXPECT_EQ(text_at(layout::kCommandLine, 14), std::string("console=ttyS0\0", 14));
}

TEST_F(BootTest, TheZeroPageSaysWhatThereIs) {
    const TemporaryFile initrd(filled(5000, 0x77));
    ASSERT_TRUE(load(small_kernel(), "quiet", initrd.path()));
    EXPECT_EQ(zero_page<uint16_t>(0x1fe), 0xaa55);
    EXPECT_EQ(zero_page<uint32_t>(0x202), 0x53726448u);
    EXPECT_EQ(zero_page<uint32_t>(0x228), layout::kCommandLine);
    ASSERT_EQ(zero_page<uint8_t>(0x1e8), 2);
    EXPECT_EQ(zero_page<uint64_t>(0x2d0), 0u);
    EXPECT_EQ(zero_page<uint64_t>(0x2d8), layout::kMpTable);
    EXPECT_EQ(zero_page<uint64_t>(0x2e4), kMiB);
    EXPECT_EQ(zero_page<uint64_t>(0x2ec), 15 * kMiB);
    const uint32_t at = zero_page<uint32_t>(0x218);
    EXPECT_EQ(at % 4096, 0u);
    EXPECT_EQ(zero_page<uint32_t>(0x21c), 5000u);
    EXPECT_EQ(text_at(at, 5000), std::string(5000, 'w'));
}

TEST_F(BootTest, MemoryAboveTheHoleIsThirdInTheMap) {
    auto memory = test_memory(uint64_t{5} << 30);
    const TemporaryFile kernel(small_kernel().file());
    ASSERT_TRUE(load_boot_image({kernel.path(), "", ""}, memory));
    const auto word = [&](uint64_t offset) {
        return *memory.load<uint64_t>(GuestPhys(layout::kZeroPage + offset));
    };
    EXPECT_EQ(*memory.load<uint8_t>(GuestPhys(layout::kZeroPage + 0x1e8)), 3);
    EXPECT_EQ(word(0x2ec), (uint64_t{3} << 30) - kMiB);
    EXPECT_EQ(word(0x2f8), uint64_t{4} << 30);
    EXPECT_EQ(word(0x300), uint64_t{2} << 30);
}

TEST_F(BootTest, TheLow4GiBAreMappedOneToOne) {
    ASSERT_TRUE(load(small_kernel()));
    const auto entry = [&](uint64_t table, uint64_t index) {
        return *memory_.load<uint64_t>(GuestPhys(table + 8 * index));
    };
    constexpr uint64_t kAddress = 0x000ffffffffff000;
    for (const uint64_t address : std::initializer_list<uint64_t>{
             uint64_t{0}, kMiB, uint64_t{0xd0000000}, uint64_t{0xfee00000}}) {
        const uint64_t top = entry(layout::kPageTables, address >> 39);
        const uint64_t middle = entry(top & kAddress, address >> 30 & 511);
        const uint64_t leaf = entry(middle & kAddress, address >> 21 & 511);
        EXPECT_EQ(leaf & 0x80, 0x80u);  // a 2 MiB page
        for (const uint64_t each : std::initializer_list<uint64_t>{top, middle, leaf})
            EXPECT_EQ(each & 0x63, 0x63u);
        EXPECT_EQ(leaf & kAddress, address & ~uint64_t{0x1fffff});
    }
    EXPECT_EQ(entry(layout::kPageTables, 1), 0u);
}

TEST_F(BootTest, TheMpTableIsWhole) {
    ASSERT_TRUE(load(small_kernel()));
    const auto sum = [&](uint64_t at, size_t bytes) {
        const auto view = memory_.view(GuestPhys(at), bytes);
        unsigned total = 0;
        for (const std::byte each : *view) total += static_cast<unsigned>(each);
        return total & 0xff;
    };
    EXPECT_EQ(text_at(layout::kMpTable, 4), "_MP_");
    EXPECT_EQ(sum(layout::kMpTable, 16), 0u);
    EXPECT_EQ(text_at(layout::kMpTable + 16, 4), "PCMP");
    EXPECT_EQ(sum(layout::kMpTable + 16, *memory_.load<uint16_t>(GuestPhys(layout::kMpTable + 20))),
              0u);
}

// Both sites load by themselves: the same files must make the same memory.
TEST_F(BootTest, LoadingIsAFunctionOfTheFiles) {
    auto other = test_memory(16 * kMiB);
    const TemporaryFile kernel(small_kernel().file());
    const TemporaryFile initrd(filled(9000, 0x12));
    const BootImage image{kernel.path(), initrd.path(), "a b c"};
    ASSERT_TRUE(load_boot_image(image, memory_));
    ASSERT_TRUE(load_boot_image(image, other));
    const auto one = memory_.view(GuestPhys(0), 16 * kMiB);
    const auto two = other.view(GuestPhys(0), 16 * kMiB);
    EXPECT_TRUE(std::equal(one->begin(), one->end(), two->begin()));
    EXPECT_EQ(memory_.vmm_dirty(), other.vmm_dirty());
}

TEST_F(BootTest, OverlappingSegmentsAreLoadedInOrder) {
    const Elf elf({{kMiB, filled(200, 1), 200}, {kMiB + 100, filled(200, 2), 200}}, kMiB);
    ASSERT_TRUE(load(elf));
    EXPECT_EQ(memory_.load<uint8_t>(GuestPhys(kMiB + 99)), 1);
    EXPECT_EQ(memory_.load<uint8_t>(GuestPhys(kMiB + 100)), 2);
}

TEST_F(BootTest, OnlyLoadSegmentsAreLoaded) {
    const Elf elf({{kMiB, filled(16, 1), 16}, {0, filled(16, 9), 16, PT_NOTE}}, kMiB);
    ASSERT_TRUE(load(elf));
    EXPECT_EQ(memory_.load<uint8_t>(GuestPhys(0)), 0);
}

TEST_F(BootTest, EveryTruncationIsRefused) {
    const auto whole = small_kernel().file();
    EXPECT_EQ(problem_of(whole), "");
    const size_t table = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
    for (size_t length = 0; length < whole.size(); length += length < table + 8 ? 1 : 97) {
        const auto text = problem_of(std::span(whole).first(length));
        if (length < sizeof(Elf64_Ehdr)) {
            EXPECT_EQ(text, "is not an x86-64 ELF kernel (vmlinux)") << length;
        } else if (length < table) {
            EXPECT_NE(text.find("cut off"), std::string::npos) << length << text;
        } else {
            EXPECT_EQ(text, length < table + 100 ? "segment 0 is cut off" : "segment 1 is cut off")
                << length;
        }
    }
}

TEST_F(BootTest, WhatIsNoKernel) {
    const std::string expected = "is not an x86-64 ELF kernel (vmlinux)";
    Elf elf = small_kernel();
    elf.header.e_ident[0] = 'M';
    EXPECT_EQ(problem(elf), expected);
    elf = small_kernel();
    elf.header.e_ident[EI_CLASS] = ELFCLASS32;
    EXPECT_EQ(problem(elf), expected);
    elf = small_kernel();
    elf.header.e_ident[EI_DATA] = ELFDATA2MSB;
    EXPECT_EQ(problem(elf), expected);
    elf = small_kernel();
    elf.header.e_machine = EM_AARCH64;
    EXPECT_EQ(problem(elf), expected);
}

TEST_F(BootTest, BrokenProgramHeaders) {
    Elf elf = small_kernel();
    elf.header.e_phnum = 0;
    EXPECT_EQ(problem(elf), "has 0 program headers of 56 bytes");
    elf.header.e_phnum = 65;
    EXPECT_EQ(problem(elf), "has 65 program headers of 56 bytes");
    elf = small_kernel();
    elf.header.e_phentsize = 32;
    EXPECT_EQ(problem(elf), "has 2 program headers of 32 bytes");
    elf = small_kernel();
    for (const uint64_t offset :
         {uint64_t{1} << 40, UINT64_MAX, UINT64_MAX - 55, UINT64_MAX - 2 * 56 + 1}) {
        elf.header.e_phoff = offset;
        EXPECT_EQ(problem(elf), "program header 0 is cut off") << offset;
    }
}

TEST_F(BootTest, BrokenSegments) {
    Elf elf = small_kernel();
    elf.segments[1].p_offset = UINT64_MAX;
    EXPECT_EQ(problem(elf), "segment 1 is cut off");
    elf = small_kernel();
    elf.segments[1].p_filesz = UINT64_MAX;
    EXPECT_EQ(problem(elf), "segment 1 is cut off");
    elf = small_kernel();
    elf.segments[1].p_memsz = elf.segments[1].p_filesz - 1;
    EXPECT_EQ(problem(elf), "segment 1 is cut off");
    struct Case {
        uint64_t at;
        uint64_t bytes;
    };
    for (const Case each :
         {Case{0, 8000}, Case{kMiB - 1, 8000}, Case{16 * kMiB, 8000}, Case{16 * kMiB - 7999, 8000},
          Case{UINT64_MAX, 8000}, Case{uint64_t{4} << 30, 8000}, Case{2 * kMiB, UINT64_MAX},
          Case{2 * kMiB, 14 * kMiB + 1}}) {
        elf = small_kernel();
        elf.segments[1].p_paddr = each.at;
        elf.segments[1].p_memsz = each.bytes;
        EXPECT_EQ(problem(elf),
                  fmt::format("segment 1 at {:#x}, {} bytes, does not fit into 16 MiB of memory",
                              each.at, each.bytes));
    }
}

TEST_F(BootTest, AnEntryOutsideOfTheKernel) {
    for (const uint64_t entry :
         std::initializer_list<uint64_t>{uint64_t{0}, kMiB - 1, kMiB + 4096, UINT64_MAX}) {
        Elf elf = small_kernel();
        elf.header.e_entry = entry;
        EXPECT_EQ(problem(elf), fmt::format("entry point {:#x} is in no segment", entry));
    }
    Elf elf = small_kernel();
    for (auto& segment : elf.segments) segment.p_type = PT_NOTE;
    EXPECT_EQ(problem(elf), fmt::format("entry point {:#x} is in no segment", kMiB + 16));
}

TEST_F(BootTest, RandomDamageIsRefusedOrHarmless) {
    const auto whole = small_kernel().file();
    const size_t headers = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
    for (size_t bit = 0; bit < headers * 8; ++bit) {
        auto changed = whole;
        changed[bit / 8] ^= std::byte{1} << (bit % 8);
        (void)problem_of(changed);  // must not crash: ASan and the guards look
    }
}

TEST_F(BootTest, AnInitrdThatDoesNotFit) {
    for (const size_t bytes : std::initializer_list<size_t>{
             size_t{16 * kMiB}, size_t{16 * kMiB + 1}, size_t{14 * kMiB}}) {
        const TemporaryFile initrd(filled(bytes, 1));
        const auto loaded = load(small_kernel(), "", initrd.path());
        ASSERT_FALSE(loaded);
        EXPECT_EQ(loaded.error().code, Errc::invalid_argument);
        EXPECT_EQ(loaded.error().context.rfind(initrd.path() + ": ", 0), 0u)
            << loaded.error().context;
        EXPECT_NE(loaded.error().context.find("do not fit"), std::string::npos);
    }
    const TemporaryFile largest(filled(14 * kMiB - 8192, 1));
    EXPECT_TRUE(load(small_kernel(), "", largest.path()));
    const TemporaryFile empty(filled(0, 1));
    const auto loaded = load(small_kernel(), "", empty.path());
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().context, empty.path() + ": is empty");
}

TEST_F(BootTest, FilesThatAreNotThere) {
    auto loaded = load_boot_image({"/nonexistent/vmlinux", "", ""}, memory_);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().context, "/nonexistent/vmlinux: No such file or directory");
    loaded = load_boot_image({"/tmp", "", ""}, memory_);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().context, "/tmp: is not a file");
    loaded = load(small_kernel(), "", "/nonexistent/initrd");
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().context, "/nonexistent/initrd: No such file or directory");
}

TEST_F(BootTest, ACommandLineThatIsTooLong) {
    EXPECT_TRUE(load(small_kernel(), std::string(4095, 'x')));
    const auto loaded = load(small_kernel(), std::string(4096, 'x'));
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().context, "kernel command line has 4096 characters, 4095 fit");
}

TEST_F(BootTest, TooLittleMemory) {
    auto little = test_memory(kMiB);
    const TemporaryFile kernel(small_kernel().file());
    const auto loaded = load_boot_image({kernel.path(), "", ""}, little);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().context, "machine-config.mem_size_mib: 1 MiB are too few");
}

}  // namespace
}  // namespace antipode::vmm
