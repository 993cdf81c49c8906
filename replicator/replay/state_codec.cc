#include "replicator/replay/state_codec.h"

namespace antipode::replay {
namespace {

constexpr unsigned kInHalt = 1;
constexpr unsigned kPaused = 2;  // by an operator
constexpr unsigned kBetweenExits = 4;

}  // namespace

void put_state(vmm::StateWriter& out, const VmState& state) {
    out.put(kVmStateVersion);
    out.put(state.exit.value());
    out.put(state.output.value());
    out.put<uint8_t>(static_cast<uint8_t>((state.in_halt ? kInHalt : 0u) |
                                          (state.held ? kPaused : 0u) |
                                          (state.between_exits ? kBetweenExits : 0u)));
    out.put(state.guest_clock_ns);
    out.put(state.digest_number);
    out.put(state.disk_hash);
    out.put_bytes(state.cpu);
    out.put_bytes(state.machine);
}

VmState get_state(vmm::StateReader& in) {
    VmState state;
    const auto version = in.get<uint8_t>();
    if (version != kVmStateVersion) in.reject("has a VM state of another version");
    state.exit = ExitNumber(in.get<uint64_t>());
    state.output = OutputNumber(in.get<uint64_t>());
    const auto flags =
        in.get_at_most<uint8_t>(kInHalt | kPaused | kBetweenExits, "has a flag that is not known");
    state.in_halt = (flags & kInHalt) != 0;
    state.held = (flags & kPaused) != 0;
    state.between_exits = (flags & kBetweenExits) != 0;
    in.get(state.guest_clock_ns);
    in.get(state.digest_number);
    in.get(state.disk_hash);
    state.cpu = in.get_bytes(VmState::kCpuBytesMax);
    state.machine = in.get_bytes(kMachineBytesMax);
    return state;
}

void put_held(vmm::StateWriter& out, const std::vector<ReplayedOutput>& held) {
    put_list(out, held, [&](const ReplayedOutput& each) {
        out.put(each.number.value());
        out.put(each.output.kind);
        out.put(each.output.device);
        out.put_bytes(each.output.bytes);
    });
}

std::vector<ReplayedOutput> get_held(vmm::StateReader& in) {
    std::vector<ReplayedOutput> held;
    get_list(in, kHeldOutputsMax, [&] {
        ReplayedOutput each;
        each.number = OutputNumber(in.get<uint64_t>());
        const auto kind = in.get<uint8_t>();
        if (kind < 1 || kind > 2) in.reject("has an output of no known kind");
        each.output.kind = static_cast<vmm::Output::Kind>(kind);
        in.get(each.output.device);
        each.output.bytes = in.get_bytes(kOutputBytesMax);
        held.push_back(std::move(each));
    });
    return held;
}

void put_pages(vmm::StateWriter& out, const std::vector<DeltaPages::Page>& pages) {
    put_list(out, pages, [&](const DeltaPages::Page& page) {
        out.put(page.number);
        out.put_bytes(page.bytes);
    });
}

std::vector<DeltaPages::Page> get_pages(vmm::StateReader& in) {
    std::vector<DeltaPages::Page> pages;
    get_list(in, DeltaPages::kPagesMax, [&] {
        DeltaPages::Page page;
        in.get(page.number);
        page.bytes = in.get_bytes(vmm::layout::kPageBytes);
        if (!page.bytes.empty() && page.bytes.size() != vmm::layout::kPageBytes) {
            in.reject("has half a page");
        }
        pages.push_back(std::move(page));
    });
    return pages;
}

}  // namespace antipode::replay
