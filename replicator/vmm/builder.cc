#include "replicator/vmm/builder.h"

#include "replicator/vmm/boot.h"
#include "replicator/vmm/cpuid_policy.h"
#include "replicator/vmm/smp_state.h"

namespace antipode::vmm {

Result<std::optional<TscTerms>> tsc_terms(const Kvm& kvm, TscPolicy policy) {
    switch (policy) {
        case TscPolicy::hidden:
            return std::optional<TscTerms>();
        case TscPolicy::frozen:
            if (kvm.capability(KVM_CAP_TSC_CONTROL) == 0) {
                return fail(Errc::unsupported,
                            "machine-config.tsc: frozen needs a host that scales the TSC "
                            "(KVM_CAP_TSC_CONTROL), and this one does not; use hidden");
            }
            return fail(Errc::unsupported,
                        "machine-config.tsc: frozen has not been shown to stand still between "
                        "exits on any host yet; use hidden");
        case TscPolicy::live:
            break;
    }
    auto terms = examine_tsc(kvm);
    if (!terms) return fail(std::move(terms).error().within("machine-config.tsc: live"));
    return std::optional(*terms);
}

Result<std::unique_ptr<VirtualMachine>> build_vm(const Kvm& kvm, const VmConfig& config,
                                                 const std::vector<uint64_t>& drive_bytes,
                                                 const std::string& scratch_directory) {
    for (size_t i = 0; i < drive_bytes.size(); ++i) {
        if (drive_bytes[i] == 0 || drive_bytes[i] % VirtioBlock::kSectorBytes != 0) {
            return fail(Errc::invalid_argument,
                        "drive {}: {}: size is {} bytes, not a positive multiple of {}",
                        config.drives[i].drive_id, config.drives[i].path_on_host, drive_bytes[i],
                        VirtioBlock::kSectorBytes);
        }
    }
    FT_TRY(GuestMemory memory, GuestMemory::allocate(config.mem_size_mib << 20));
    FT_TRY(auto built, build_copy(kvm, config, drive_bytes, std::move(memory), nullptr));
    const BootImage image{
        config.kernel_image_path, config.initrd_path,
        config.boot_args + root_argument(config) + built->machine->command_line_suffix()};
    FT_TRY(const uint64_t entry, load_boot_image(image, built->memory));
    FT_TRY_VOID(set_boot_state(built->vcpu, entry));
    FT_TRY(built->boot,
           BootSnapshot::take(built->memory, *built->machine, built->vcpu, scratch_directory));
    return built;
}

Result<std::unique_ptr<VirtualMachine>> build_copy(const Kvm& kvm, const VmConfig& config,
                                                   const std::vector<uint64_t>& drive_bytes,
                                                   GuestMemory&& memory,
                                                   std::shared_ptr<const BootSnapshot> boot) {
    FT_TRY(const auto tsc, tsc_terms(kvm, config.tsc));
    FT_TRY(Vm vm, Vm::create(kvm, memory, tsc ? Vm::TscMsr::readable : Vm::TscMsr::filtered));
    const bool in_kernel = config.mode == ProtectionMode::checkpoint;
    if (in_kernel) FT_TRY_VOID(create_irqchip(vm));
    FT_TRY(Vcpu vcpu, Vcpu::create(kvm, vm, 0));
    FT_TRY(const auto supported, kvm.supported_cpuid());
    const auto cpuid_of = [&](uint32_t id) {
        auto table =
            in_kernel ? smp_cpuid(supported, id, config.vcpu_count) : lockstep_cpuid(supported);
        if (tsc) show_tsc(supported, table);
        return table;
    };
    FT_TRY_VOID(vcpu.set_cpuid(cpuid_of(0)));
    auto built = std::make_unique<VirtualMachine>(VirtualMachine{
        std::move(memory), std::move(vm), std::move(vcpu), nullptr, std::move(boot)});
    for (uint32_t id = 1; id < config.vcpu_count; ++id) {
        FT_TRY(Vcpu more, Vcpu::create(kvm, built->vm, static_cast<int>(id)));
        FT_TRY_VOID(more.set_cpuid(cpuid_of(id)));
        built->more_vcpus.push_back(std::make_unique<Vcpu>(std::move(more)));
    }
    built->tsc = tsc;
    if (tsc) FT_TRY_VOID(start_tsc(*tsc, built->vcpus()));
    built->machine = std::make_unique<Machine>(config, drive_bytes, built->memory);
    return built;
}

}  // namespace antipode::vmm
