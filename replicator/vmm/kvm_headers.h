// <linux/kvm.h>, made usable from C++.
//
// Debian 12's header expands __DECLARE_FLEX_ARRAY to a struct with an empty member, which is one
// byte in C++ and none in C: the sizes of kvm_cpuid2 and friends change and their ioctls fail with
// EINVAL. A zero-length array is the same in both. The assertions below hold the result to the C
// sizes.
#pragma once

#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <linux/kvm.h>
#pragma GCC diagnostic pop

static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_msr_list) == 4);
static_assert(sizeof(kvm_msrs) == 8);
static_assert(sizeof(kvm_regs) == 144);
static_assert(sizeof(kvm_sregs) == 312);
static_assert(sizeof(kvm_userspace_memory_region) == 32);
