#include "replicator/replay/bare_guest.h"

#include <cerrno>
#include <cstring>
#include <elf.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "common/base/unique_fd.h"

// Absolute addresses are kBareGuestBase (0x100000) + an offset: the code runs where it is loaded,
// not where it is linked. Data: IDT 0x110000, TSS 0x111000, ring 3's stack below 0x130000, memory
// that is worked on 0x200000 to 0x2fffff, REP's target 0x300000.
asm(R"(
.section .rodata
.balign 16
.globl antipode_torture_begin, antipode_torture_end
antipode_torture_begin:
    lgdt 0x100000 + torture_gdtr - antipode_torture_begin
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x120000, %esp
    push $0x08
    push $0x100000 + 1f - antipode_torture_begin
    lretq
1:  movq $0x120000, 0x111004            # TSS: the stack of ring 0
    mov $0x28, %eax
    ltr %ax
    mov $0x110000 + 16 * 6, %edi        # ud2
    mov $0x100000 + torture_call - antipode_torture_begin, %eax
    call torture_gate
    mov $0x110000 + 16 * 0x20, %edi     # the interrupt
    mov $0x100000 + torture_interrupt - antipode_torture_begin, %eax
    call torture_gate
    lidt 0x100000 + torture_idtr - antipode_torture_begin
    mov $0x9e3779b97f4a7c15, %r12
    mov $400, %r15d
torture_loop:
    in $0x10, %eax
    xor %rax, %r12
    push $0x1b
    push $0x130000
    push $0x2
    push $0x23
    push $0x100000 + torture_ring3 - antipode_torture_begin
    iretq
torture_back:                           # from ring 3, by ud2
    mov %r12, %rax
    mov %r12d, %edi
    and $0xff8, %edi
    add $0x300000, %edi
    mov $64, %ecx
    rep stosq
    mov $0xd0000000, %ebx
    mov %r12d, (%rbx)
    mov 4(%rbx), %eax
    add %rax, %r12
    mov $0x10, %ecx
    rdmsr
    rol $7, %r12
    xor %rax, %r12
    sti
    nop
    mov %r12d, %eax
    out %eax, $0x11
    test $7, %r15d
    jnz 1f
    hlt
1:  cli
    dec %r15d
    jnz torture_loop
    out %eax, $0x12
    hlt
torture_ring3:
    mov $3000, %ecx
    movq %r12, %xmm0
    mov $0x6906969b, %r9d
1:  imul %r9, %r12
    add $0x14057b7e, %r12
    mov %r12, %rsi
    shr $33, %rsi
    and $0xffff8, %esi
    xor %r12, 0x200000(%rsi)
    add 0x200000(%rsi), %r12
    movq %r12, %xmm1
    paddq %xmm1, %xmm0
    dec %ecx
    jnz 1b
    movq %xmm0, %rax
    xor %rax, %r12
    ud2
torture_call:
    add $40, %rsp
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    jmp torture_back
torture_interrupt:
    add $0x1234567, %r12
    rol $13, %r12
    iretq
torture_gate:                           # entry at rdi, handler in eax
    mov %ax, (%rdi)
    movw $0x08, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shr $16, %eax
    mov %ax, 6(%rdi)
    movq $0, 8(%rdi)
    ret
.balign 8
torture_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 0x08 ring 0 code
    .quad 0x00cf93000000ffff            # 0x10 ring 0 data
    .quad 0x00cff3000000ffff            # 0x18 ring 3 data
    .quad 0x00affb000000ffff            # 0x20 ring 3 code
    .quad 0x0000891110000067, 0         # 0x28 TSS at 0x111000
torture_gdtr:
    .word 55
    .quad 0x100000 + torture_gdt - antipode_torture_begin
torture_idtr:
    .word 16 * 0x21 - 1
    .quad 0x110000
antipode_torture_end:

.globl antipode_cpuid_begin, antipode_cpuid_end
antipode_cpuid_begin:
    in $0x14, %eax
    mov %eax, %esi
    in $0x14, %eax
    mov %eax, %ecx
    mov %esi, %eax
    cpuid
    out %eax, $0x15
    mov %ebx, %eax
    out %eax, $0x15
    mov %ecx, %eax
    out %eax, $0x15
    mov %edx, %eax
    out %eax, $0x15
    jmp antipode_cpuid_begin
antipode_cpuid_end:

.globl antipode_loop_begin, antipode_loop_end
antipode_loop_begin:
    mov $0x120000, %esp
    mov $0x12345, %r12d
    mov $300, %r15d
1:  lea (%r12,%r12,4), %r12
    add $7, %r12
    mov $0x300000, %edi
    mov %r12d, %eax
    mov $5, %ecx
    rep stosq
    call 2f
    dec %r15d
    jnz 1b
    out %eax, $0x12
    hlt
2:  test $1, %r12d
    jz 3f
    xor $0x5555, %r12
3:  ret
antipode_loop_end:

.globl antipode_smp_begin, antipode_smp_end
antipode_smp_begin:
    mov $0x100000 + smp_second - antipode_smp_begin, %esi
    mov $0x8000, %edi
    mov $antipode_smp_end - smp_second, %ecx
    rep movsb
    mov $0xfee00000, %ebx
    movl $0x1ff, 0xf0(%rbx)             # local APIC on
    movl $0x000c4500, 0x300(%rbx)       # INIT to all others
    movl $0x000c4608, 0x300(%rbx)       # SIPI: begin at 0x8000
1:  incl 0x6000
    testl $0xff, 0x6000
    jnz 1b
    out %eax, $0x11
    jmp 1b
.code16
smp_second:
    xor %ax, %ax
    mov %ax, %ds
1:  incl 0x6004
    testl $0xff, 0x6004
    jnz 1b
    out %eax, $0x11
    jmp 1b
antipode_smp_end:
.code64
.text
)");

extern "C" {
extern const std::byte antipode_torture_begin[];
extern const std::byte antipode_torture_end[];
extern const std::byte antipode_cpuid_begin[];
extern const std::byte antipode_cpuid_end[];
extern const std::byte antipode_loop_begin[];
extern const std::byte antipode_loop_end[];
extern const std::byte antipode_smp_begin[];
extern const std::byte antipode_smp_end[];
}

namespace antipode::replay {
namespace {

constexpr uint64_t kMemoryMib = 4;

// The one way into a VM is a kernel's ELF file: this makes one around the code.
std::vector<std::byte> elf_around(std::span<const std::byte> code) {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_entry = kBareGuestBase;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 1;
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = sizeof header + sizeof segment;
    segment.p_paddr = kBareGuestBase;
    segment.p_filesz = code.size();
    segment.p_memsz = code.size();
    std::vector<std::byte> file(sizeof header + sizeof segment);
    std::memcpy(file.data(), &header, sizeof header);
    std::memcpy(file.data() + sizeof header, &segment, sizeof segment);
    file.insert(file.end(), code.begin(), code.end());
    return file;
}

}  // namespace

Result<std::unique_ptr<vmm::VirtualMachine>> build_bare_guest(const vmm::Kvm& kvm,
                                                              std::span<const std::byte> code) {
    const UniqueFd fd(memfd_create("antipode-bare-guest", MFD_CLOEXEC));
    if (!fd) return fail_errno(errno, "memfd_create");
    const auto file = elf_around(code);
    const ssize_t written = write(fd.get(), file.data(), file.size());
    if (written < 0) return fail_errno(errno, "writing a bare guest");
    if (static_cast<size_t>(written) != file.size()) {
        return fail(Errc::io, "writing a bare guest: {} of {} bytes", written, file.size());
    }
    vmm::VmConfig config;
    config.kernel_image_path = fmt::format("/proc/self/fd/{}", fd.get());
    config.mem_size_mib = kMemoryMib;
    return vmm::build_vm(kvm, config, {});
}

std::span<const std::byte> torture_guest() {
    return {antipode_torture_begin, antipode_torture_end};
}
std::span<const std::byte> cpuid_guest() {
    return {antipode_cpuid_begin, antipode_cpuid_end};
}
std::span<const std::byte> smp_guest() {
    return {antipode_smp_begin, antipode_smp_end};
}
std::span<const std::byte> loop_guest() {
    return {antipode_loop_begin, antipode_loop_end};
}

}  // namespace antipode::replay
