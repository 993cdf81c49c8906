// The way into a bare-metal guest, and its trap stubs: the only assembly there is.
//
// Two doors: guest_entry, 64-bit, as our VMM enters it (rsi = Linux zero page, low 4 GiB mapped one
// to one), and guest_entry_pvh, 32-bit protected mode (ebx = PVH start info), so that QEMU can run
// the same file and serve as the reference machine. Both load the page tables and the GDT below and
// go on at kernel_start with interrupts off.
//
// Page tables: one to one for 4 GiB in 2 MiB pages, open to ring 3, accessed and dirty bits set
// beforehand, so that the CPU never writes to them: what it would write is not always the same at
// two sites.
#include <stdint.h>

asm(R"(
.section .note.guest, "a"
.align 4
    .long 4, 4, 18              # name "Xen", 4 bytes, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long guest_entry_pvh

.section .tables, "aw"
.align 4096
guest_pml4:
    .quad guest_pdpt + 0x27
    .fill 511, 8, 0
guest_pdpt:
    .quad guest_pd + 0x0027
    .quad guest_pd + 0x1027
    .quad guest_pd + 0x2027
    .quad guest_pd + 0x3027
    .fill 508, 8, 0
guest_pd:
    .set page, 0
    .rept 2048
    .quad page + 0xe7
    .set page, page + 0x200000
    .endr

.align 16
.globl guest_gdt
guest_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08 ring 0 code
    .quad 0x00cf93000000ffff    # 0x10 ring 0 data
    .quad 0x00cff3000000ffff    # 0x18 ring 3 data
    .quad 0x00affb000000ffff    # 0x20 ring 3 code
    .quad 0, 0                  # 0x28 TSS, filled at start
guest_gdt_end:
guest_gdt_pointer:
    .word guest_gdt_end - guest_gdt - 1
    .quad guest_gdt

.section .bss
.align 4096
.skip 16384
.globl guest_kernel_stack_top
guest_kernel_stack_top:

.section .text.entry, "ax"
.code32
guest_entry_pvh:
    mov 24(%ebx), %esi          # start info: command line, 64 bits of which the low 32 matter
    mov $guest_pml4, %eax
    mov %eax, %cr3
    mov $0x20, %eax             # PAE
    mov %eax, %cr4
    mov $0xc0000080, %ecx       # EFER
    rdmsr
    or $0x100, %eax             # LME
    wrmsr
    mov $0x80000031, %eax       # PG NE ET PE
    mov %eax, %cr0
    lgdt guest_gdt_pointer
    ljmp $0x08, $guest_entry_pvh_64
.code64
guest_entry_pvh_64:
    mov %esi, %edi
    jmp 1f

.globl guest_entry
guest_entry:
    mov 0x228(%rsi), %edi       # boot_params.hdr.cmd_line_ptr
    lgdt guest_gdt_pointer
    mov $guest_pml4, %eax
    mov %rax, %cr3
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $guest_kernel_stack_top, %esp
    push $0x10
    push $guest_kernel_stack_top
    push $2
    push $0x08
    push $2f
    iretq
2:  xor %ebp, %ebp
    mov $guest_kernel_stack_top, %esi
    call kernel_start
    ud2

# kernel_enter_ring3(rip, rsp, rflags, argument)
.globl kernel_enter_ring3
kernel_enter_ring3:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    push $0x1b
    push %rsi
    push %rdx
    push $0x23
    push %rdi
    mov %rcx, %rdi
    iretq

# kernel_wait: the one place where ring 0 takes interrupts by choice.
.globl kernel_wait
kernel_wait:
    sti
    hlt
    cli
    ret

# kernel_out_open(port, value, bytes): an output with interrupts on, so that one can be delivered at
# its exit. The nop ends the shadow of sti.
.globl kernel_out_open
kernel_out_open:
    mov %edi, %eax
    mov %edx, %ecx
    mov %eax, %edx
    mov %esi, %eax
    sti
    nop
    cmp $1, %ecx
    je 1f
    out %eax, %dx
    cli
    ret
1:  out %al, %dx
    cli
    ret

# Interrupts 0x20..0x2f: only what a C function may change is saved.
guest_interrupt:
    push %rax
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    mov 72(%rsp), %edi
    call kernel_interrupt
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    add $8, %rsp
    iretq

# ud2 from ring 3: a system call. rax number, rdi rsi rdx arguments, rax result. What a C function
# may change is changed: call() in kernel.h says so to the compiler. r8: the interrupt frame (rip cs
# rflags rsp ss).
guest_invalid_opcode:
    testb $3, 8(%rsp)
    jz guest_trap_6
    addq $2, (%rsp)
    mov %rax, %rcx
    mov %rsp, %r8
    sub $8, %rsp
    call kernel_call
    add $8, %rsp
    iretq

# Every other exception ends the guest: kernel_exception(vector, error, rip, rsp).
guest_trap_common:
    pop %rdi
    pop %rsi
    mov (%rsp), %rdx
    mov 24(%rsp), %rcx
    and $-16, %rsp
    call kernel_exception
    ud2

guest_trap_6:
    push $0
    push $6
    jmp guest_trap_common

.altmacro
.macro trap vector
trap_\vector:
    # Exceptions 8, 10-14, 17, 21, 29 and 30 bring an error code, the others get one here.
    .if ((0x60227d00 >> \vector) & 1) == 0
    push $0
    .endif
    push $\vector
    jmp guest_trap_common
.endm
.macro interrupt line
interrupt_\line:
    push $\line
    jmp guest_interrupt
.endm
.set i, 0
.rept 32
    trap %i
    .set i, i + 1
.endr
.set i, 0
.rept 16
    interrupt %i
    .set i, i + 1
.endr

.section .rodata
.align 8
.globl guest_trap_table
guest_trap_table:
.macro trap_address vector
    .if \vector == 6
    .quad guest_invalid_opcode
    .else
    .quad trap_\vector
    .endif
.endm
.macro interrupt_address line
    .quad interrupt_\line
.endm
.set i, 0
.rept 32
    trap_address %i
    .set i, i + 1
.endr
.set i, 0
.rept 16
    interrupt_address %i
    .set i, i + 1
.endr
.text
)");
