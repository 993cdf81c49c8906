#include "replicator/checkpoint/assembler.h"

namespace antipode::checkpoint {

Result<std::optional<Checkpoint>> Assembler::take(std::span<const std::byte> bytes) {
    FT_TRY(Part part, decoder_.decode(bytes));
    if (current_.number == 0) {
        if (part.checkpoint <= last_number_) {
            return fail(Errc::protocol, "checkpoint {} after {}", part.checkpoint, last_number_);
        }
        current_.number = part.checkpoint;
    } else if (part.checkpoint != current_.number) {
        return fail(Errc::protocol, "a part of checkpoint {} in the middle of {}", part.checkpoint,
                    current_.number);
    }
    const bool is_end = std::holds_alternative<EndPart>(part.body);
    FT_TRY_VOID(std::visit([this](auto& body) { return add(std::move(body)); }, part.body));
    ++part_count_;
    if (!is_end) return std::optional<Checkpoint>();
    last_number_ = current_.number;
    std::optional<Checkpoint> whole(std::move(current_));
    (void)discard();
    return whole;
}

bool Assembler::discard() {
    const bool any = current_.number != 0;
    current_ = Checkpoint{};
    stage_ = Stage::pages;
    part_count_ = 0;
    output_bytes_ = 0;
    return any;
}

void Assembler::restart_after(uint64_t number) {
    (void)discard();
    last_number_ = number;
}

// Each kind in its turn; a stage is never gone back to.
Result<void> Assembler::enter(Stage stage) {
    if (stage < stage_) {
        return fail(Errc::protocol, "checkpoint {}: part {} is out of order", current_.number,
                    part_count_);
    }
    stage_ = stage;
    return {};
}

Result<void> Assembler::add(PagesPart&& body) {
    FT_TRY_VOID(enter(Stage::pages));
    if (!current_.pages.empty() && body.pages.front().number <= current_.pages.back().number) {
        return fail(Errc::protocol, "checkpoint {}: page {} after {}", current_.number,
                    body.pages.front().number, current_.pages.back().number);
    }
    if (body.pages.back().number >= page_count_) {
        return fail(Errc::protocol, "checkpoint {}: page {}, and the VM has {}", current_.number,
                    body.pages.back().number, page_count_);
    }
    for (auto& page : body.pages) current_.pages.push_back(std::move(page));
    return {};
}

Result<void> Assembler::add(OutputsPart&& body) {
    FT_TRY_VOID(enter(Stage::outputs));
    if (!current_.outputs.empty() &&
        body.outputs.front().number <= current_.outputs.back().number) {
        return fail(Errc::protocol, "checkpoint {}: output {} after {}", current_.number,
                    body.outputs.front().number, current_.outputs.back().number);
    }
    for (auto& each : body.outputs) {
        output_bytes_ += content_bytes(each);
        if (output_bytes_ > kOutputBytesMax) {
            return fail(Errc::limit, "checkpoint {}: more than {} bytes of outputs",
                        current_.number, kOutputBytesMax);
        }
        current_.outputs.push_back(std::move(each));
    }
    return {};
}

Result<void> Assembler::add(MachinePart&& body) {
    FT_TRY_VOID(enter(Stage::machine));
    if (current_.machine.size() + body.bytes.size() > kMachineBytesMax) {
        return fail(Errc::limit, "checkpoint {}: more than {} bytes of device state",
                    current_.number, kMachineBytesMax);
    }
    current_.machine.insert(current_.machine.end(), body.bytes.begin(), body.bytes.end());
    return {};
}

Result<void> Assembler::add(EndPart&& body) {
    if (stage_ != Stage::machine) {
        return fail(Errc::protocol, "checkpoint {}: ends without device state", current_.number);
    }
    if (body.part_count != part_count_) {
        return fail(Errc::protocol, "checkpoint {}: {} parts came of {}", current_.number,
                    part_count_, body.part_count);
    }
    if (!current_.outputs.empty() && current_.outputs.back().number != body.output) {
        return fail(Errc::protocol, "checkpoint {}: output {} is said to be the last, {} is",
                    current_.number, body.output, current_.outputs.back().number);
    }
    current_.end = std::move(body);
    return {};
}

}  // namespace antipode::checkpoint
