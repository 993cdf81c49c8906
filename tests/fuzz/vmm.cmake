antipode_fuzz(vmm_config SOURCES vmm_config.cc DEPENDS replicator_vmm)
antipode_fuzz(vmm_kernel SOURCES vmm_kernel.cc DEPENDS replicator_vmm MUTATIONS 5000)
antipode_fuzz(vmm_cpu_state SOURCES vmm_cpu_state.cc DEPENDS replicator_vmm)
antipode_fuzz(vmm_machine SOURCES vmm_machine.cc vmm_twin.cc vmm_guest.cc DEPENDS replicator_vmm
    MUTATIONS 5000)
antipode_fuzz(vmm_entropy SOURCES vmm_entropy.cc vmm_twin.cc DEPENDS replicator_vmm MUTATIONS 5000)
antipode_fuzz(vmm_state SOURCES vmm_state.cc vmm_twin.cc vmm_guest.cc DEPENDS replicator_vmm
    MUTATIONS 5000)

add_executable(fuzz_seeds EXCLUDE_FROM_ALL vmm_seeds.cc)
target_include_directories(fuzz_seeds PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(fuzz_seeds PRIVATE replicator_replay)
antipode_pch(fuzz_seeds)
