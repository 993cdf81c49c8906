#include "replicator/vmm/devices/pit/i8254.h"

#include "replicator/vmm/layout.h"

namespace antipode::vmm {
namespace {

constexpr uint32_t kCountMax = 65536;
constexpr uint8_t kModeMax = 5;
constexpr uint8_t kSpeakerBits = 3;

}  // namespace

I8254::Schedule I8254::schedule() const {
    const Channel& channel = channels_[0];
    if (!channel.counting) return {Repeat::none, 0, generation_};
    const bool periodic = channel.mode == 2 || channel.mode == 3;
    return {periodic ? Repeat::periodic : Repeat::once, channel.reload, generation_};
}

bool I8254::tick() {
    Channel& channel = channels_[0];
    if (!channel.counting) return false;
    if (channel.mode != 2 && channel.mode != 3) channel.counting = false;
    return true;
}

void I8254::command(uint8_t value) {
    const unsigned select = value >> 6;
    if (select == 3) {  // read-back
        for (unsigned i = 0; i < channels_.size(); ++i) {
            if ((value & (2u << i)) == 0) continue;
            if ((value & 0x10) == 0) channels_[i].status_latched = true;
        }
        return;
    }
    Channel& channel = channels_[select];
    const auto access = static_cast<Access>((value >> 4) & 3);
    // The count is taken at the read that follows a latch command: one exit later, one logged
    // value.
    if (access == Access::latch) return;
    channel = Channel{};
    channel.access = access;
    channel.mode = (value >> 1) & 7;
    if (channel.mode > kModeMax) channel.mode = static_cast<uint8_t>(channel.mode - 4);
    if (select == 0) ++generation_;  // the output is at rest until a count is written
}

void I8254::write_count(Channel& channel, uint8_t value, bool& restarted) {
    uint32_t count = 0;
    switch (channel.access) {
        case Access::latch:
            return;
        case Access::low:
            count = value;
            break;
        case Access::high:
            count = static_cast<uint32_t>(value) << 8;
            break;
        case Access::low_then_high:
            if (!channel.second_byte) {
                channel.low_byte = value;
                channel.second_byte = true;
                return;
            }
            channel.second_byte = false;
            count = static_cast<uint32_t>(value) << 8 | channel.low_byte;
            break;
    }
    channel.reload = count == 0 ? kCountMax : count;
    channel.counting = true;
    restarted = true;
}

void I8254::write(uint16_t port, uint8_t value) {
    if (port == layout::kPortPitCommand) return command(value);
    const unsigned index = port - layout::kPortPitChannel0;
    bool restarted = false;
    write_count(channels_[index], value, restarted);
    if (restarted && index == 0) ++generation_;
}

void I8254::latch_count(Channel& channel, bool is_channel0, InputSource& inputs) {
    uint32_t count = 0;
    if (is_channel0 && channel.counting) {
        const uint64_t elapsed = inputs.read(InputKind::pit_counter);
        const uint32_t into = static_cast<uint32_t>(elapsed % channel.reload);
        count = channel.reload - into;
        if (channel.mode == 3) count &= ~uint32_t{1};
    }
    channel.latch = static_cast<uint16_t>(count);
    channel.latched = true;
}

uint8_t I8254::read(uint16_t port, InputSource& inputs) {
    if (port == layout::kPortPitCommand) return 0xff;
    const unsigned index = port - layout::kPortPitChannel0;
    Channel& channel = channels_[index];
    if (channel.status_latched) {
        channel.status_latched = false;
        return static_cast<uint8_t>((channel.counting ? 0 : 0x40) |
                                    static_cast<uint8_t>(channel.access) << 4 | channel.mode << 1);
    }
    if (!channel.latched) latch_count(channel, index == 0, inputs);
    const auto low = static_cast<uint8_t>(channel.latch & 0xff);
    const auto high = static_cast<uint8_t>(channel.latch >> 8);
    if (channel.access == Access::low || channel.access == Access::high) {
        channel.latched = false;
        return channel.access == Access::low ? low : high;
    }
    channel.read_second = !channel.read_second;
    if (channel.read_second) return low;
    channel.latched = false;
    return high;
}

void I8254::save(StateWriter& out) const {
    for (const Channel& channel : channels_) {
        out.put(channel.access);
        out.put(channel.mode);
        out.put<uint8_t>(channel.counting ? 1 : 0);
        out.put<uint8_t>(channel.second_byte ? 1 : 0);
        out.put(channel.low_byte);
        out.put(channel.reload);
        out.put<uint8_t>(channel.latched ? 1 : 0);
        out.put<uint8_t>(channel.read_second ? 1 : 0);
        out.put(channel.latch);
        out.put<uint8_t>(channel.status_latched ? 1 : 0);
    }
    out.put(generation_);
    out.put(speaker_bits_);
}

void I8254::load(StateReader& in) {
    for (Channel& channel : channels_) {
        channel.access = in.get_at_most(Access::low_then_high, "timer: access is not known");
        channel.mode = in.get_at_most(kModeMax, "timer: mode is not known");
        channel.counting = in.get_flag();
        channel.second_byte = in.get_flag();
        in.get(channel.low_byte);
        channel.reload = in.get_at_most(kCountMax, "timer: count is out of range");
        if (channel.counting && channel.reload == 0) in.reject("timer: counts from zero");
        channel.latched = in.get_flag();
        channel.read_second = in.get_flag();
        in.get(channel.latch);
        channel.status_latched = in.get_flag();
    }
    in.get(generation_);
    speaker_bits_ = in.get_at_most(kSpeakerBits, "timer: speaker bits are out of range");
}

}  // namespace antipode::vmm
