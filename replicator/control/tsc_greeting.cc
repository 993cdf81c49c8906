#include "replicator/control/tsc_greeting.h"

#include <charconv>
#include <fmt/format.h>

namespace antipode::control {
namespace {

constexpr std::string_view kPrefix = "tsc live, ";
constexpr std::string_view kKhz = " kHz, ";
constexpr std::string_view kScaled = "scaled, ";
constexpr std::string_view kFixed = "fixed, ";

struct Said {
    uint32_t khz = 0;
    vmm::TscScaling scaling = vmm::TscScaling::no;
    std::string_view counter;  // "own", or the machine whose it is
};

bool take(std::string_view& text, std::string_view word) {
    if (!text.starts_with(word)) return false;
    text.remove_prefix(word.size());
    return true;
}

std::optional<Said> read(std::string_view line) {
    Said said;
    if (!take(line, kPrefix)) return std::nullopt;
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), said.khz);
    if (parsed.ec != std::errc()) return std::nullopt;
    line.remove_prefix(static_cast<size_t>(parsed.ptr - line.data()));
    if (!take(line, kKhz)) return std::nullopt;
    if (take(line, kScaled)) {
        said.scaling = vmm::TscScaling::yes;
    } else if (!take(line, kFixed)) {
        return std::nullopt;
    }
    said.counter = line;
    return said;
}

}  // namespace

std::string tsc_line(const vmm::TscTerms& terms, const std::string& machine) {
    const bool own = terms.source == vmm::TscSource::own;
    return fmt::format("{}{}{}{}{}\n", kPrefix, terms.khz, kKhz,
                       terms.scaling == vmm::TscScaling::yes ? kScaled : kFixed,
                       own ? "own" : "of " + machine);
}

std::optional<std::string> take_tsc_line(std::string& text) {
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        if (std::string_view(text).substr(at).starts_with(kPrefix)) {
            std::string line = text.substr(at, end - at);
            text.erase(at, end - at + 1);
            return line;
        }
        at = end + 1;
    }
    return std::nullopt;
}

std::optional<std::string> tsc_trouble(const TscOfSite& own, const TscOfSite& peer) {
    const auto ours = read(own.line);
    const auto theirs = read(peer.line);
    if (!ours || !theirs) {
        return fmt::format("a live TSC: {} says \"{}\", {} says \"{}\", which makes no sense",
                           own.site, own.line, peer.site, peer.line);
    }
    using vmm::TscScaling;
    const bool both_scale = ours->scaling == TscScaling::yes && theirs->scaling == TscScaling::yes;
    if (!both_scale && !vmm::same_frequency(ours->khz, theirs->khz)) {
        return fmt::format(
            "the VM's TSC is live, and cannot go on at the other site: it runs at {} kHz at {}, at "
            "{} kHz at {}, and {} cannot set a guest's frequency (KVM_CAP_TSC_CONTROL)",
            ours->khz, own.site, theirs->khz, peer.site,
            ours->scaling == TscScaling::no ? own.site : peer.site);
    }
    if (ours->counter == theirs->counter) return std::nullopt;
    return fmt::format(
        "the VM's TSC is live, and cannot go on at the other site: KVM at {} shows guests the "
        "host's counter, whatever is set, and {} is another machine",
        ours->counter == "own" ? peer.site : own.site,
        ours->counter == "own" ? own.site : peer.site);
}

}  // namespace antipode::control
