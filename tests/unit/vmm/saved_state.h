// The state of a device as bytes, and what load() says to them: every device of ours has save() and
// load() of the same shape.
#pragma once

#include <string>
#include <vector>

#include "replicator/vmm/state_io.h"

namespace antipode::vmm {

// "" if the bytes were taken, all of them; else why not.
template <typename Device, typename... More>
std::string load_problem(Device& device, std::span<const std::byte> bytes, More&... more) {
    StateReader in(bytes);
    device.load(in, more...);
    if (!in.ok()) return in.problem();
    return in.at_end() ? "" : "bytes are left over";
}

// What must hold for every device: its state loads into a new one and saves to the same bytes, no
// part of it does, and changed bytes are refused or save to exactly themselves.
template <typename Make, typename... More>
std::string state_trouble(std::span<const std::byte> good, Make make, More&... more) {
    {
        auto device = make();
        const auto problem = load_problem(device, good, more...);
        if (!problem.empty()) return "its own state was refused: " + problem;
        if (saved(device) != std::vector<std::byte>(good.begin(), good.end())) {
            return "saves to other bytes than were loaded";
        }
    }
    for (size_t length = 0; length < good.size(); ++length) {
        auto device = make();
        if (load_problem(device, good.first(length), more...).empty()) {
            return "took " + std::to_string(length) + " bytes of " + std::to_string(good.size());
        }
    }
    for (size_t bit = 0; bit < good.size() * 8; ++bit) {
        std::vector<std::byte> changed(good.begin(), good.end());
        changed[bit / 8] ^= std::byte{1} << (bit % 8);
        auto device = make();
        if (!load_problem(device, changed, more...).empty()) continue;
        if (saved(device) != changed)
            return "took a flip of bit " + std::to_string(bit) + " in part";
    }
    return "";
}

}  // namespace antipode::vmm
