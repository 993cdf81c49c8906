// Twin: two machines that are given the same, as the two sites of a pair are, and compared all the
// time. The first records: it samples clocks and asks whether a frame can be received. The
// second gets what the log would carry.
//
// Both have guest memory with guard pages around it, so that an access outside is a crash. Any
// difference, and any broken invariant, is an FT_CHECK.
//
// INVARIANTS checked: equal states, outputs, disk requests, interrupts and memory; disk requests
// within the disk, none that overlaps another one there (one of them writing), none that writes to
// the read-only disk, no number twice; frames of 14 to 1518 bytes; each page that the machine wrote
// is marked dirty; a machine made from the saved state is the same machine.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "replicator/vmm/machine.h"

namespace antipode::fuzz {

class Twin {
  public:
    static constexpr uint64_t kRamBytes = 128 * 1024;
    static constexpr uint64_t kDiskBytes = 64 * 1024;
    static constexpr uint32_t kDrives = 2;  // the second is read-only
    static constexpr uint32_t kDevices = 3;

    // With an entropy device behind the others, or without.
    enum class Entropy : uint8_t { no, yes };
    explicit Twin(Entropy entropy = Entropy::no);

    // Puts both into this state; false if it is refused.
    bool load(std::span<const std::byte> state);

    // What the guest's own instructions do to its memory: KVM would mark these pages.
    void guest_write(uint64_t at, std::span<const std::byte> bytes);
    uint64_t guest_read(uint64_t at, size_t bytes) const;

    // Exits.
    void access(vmm::Exit::Kind kind, uint64_t address, std::span<const std::byte> data,
                uint8_t size);
    void msr(vmm::Exit::Kind kind, uint64_t number);
    void halt();

    // Events.
    void timer_tick();
    void frame(std::span<const std::byte> bytes);
    void console_input(std::span<const std::byte> bytes);
    // Ends the n-th of the requests that are with the disk, if there are any.
    void complete(size_t index, vmm::BlockStatus status);
    void complete_unknown(uint32_t drive, uint64_t number);
    void acknowledge_interrupt();

    // The second machine becomes a new one, made from the first one's state.
    void migrate();
    // At the end: compares the memories.
    void finish();

  private:
    class Recording final : public vmm::InputSource {
      public:
        uint64_t read(vmm::InputKind kind) override;
        struct Read {
            vmm::InputKind kind;
            uint64_t value;
        };
        std::deque<Read> log;
        uint64_t clock = 0;
    };
    class Replaying final : public vmm::InputSource {
      public:
        explicit Replaying(Recording& recording) : recording_(recording) {}
        uint64_t read(vmm::InputKind kind) override;

      private:
        Recording& recording_;
    };

    template <typename Function>
    void both(Function function) {
        function(*first_);
        function(*second_);
    }
    void emulate(vmm::Exit exit, std::span<const std::byte> data);
    void check();
    void check_states();
    void check_outputs();
    void check_requests();
    void check_request(const vmm::BlockRequest& request) const;
    bool known(uint32_t device, uint64_t number) const;

    const Entropy entropy_;
    vmm::GuestMemory& first_memory_;
    vmm::GuestMemory& second_memory_;
    std::vector<std::byte>& shadow_;  // memory as the guest alone would have made it
    std::unique_ptr<vmm::Machine> first_;
    std::unique_ptr<vmm::Machine> second_;
    Recording recording_;
    Replaying replaying_{recording_};
    std::vector<vmm::BlockRequest> with_disk_;
    uint64_t checks_ = 0;
};

}  // namespace antipode::fuzz
