#include "replicator/control/format_versions.h"

#include <algorithm>
#include <charconv>
#include <span>
#include <vector>

#include "common/wire/channel_frames.h"
#include "common/wire/failover_frames.h"
#include "replicator/checkpoint/checkpoint_part.h"
#include "replicator/control/heal_frames.h"
#include "replicator/control/seed_digests.h"
#include "replicator/control/seed_frames.h"
#include "replicator/control/verify_frames.h"
#include "replicator/replay/log_entry.h"

namespace antipode::control {
namespace {

constexpr std::string_view kPrefix = "format ";

// Each of these formats begins with its version: what the encoder writes is what there is.
FormatRange written(std::span<const std::byte> bytes) {
    const auto version = static_cast<uint8_t>(bytes.front());
    return {version, version};
}

std::optional<uint8_t> number(std::string_view text) {
    uint8_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value == 0) return std::nullopt;
    return value;
}

// "log 1..2"
void read_format(std::string_view text, FormatVersions& formats) {
    const auto space = text.find(' ');
    const auto dots = text.find("..");
    if (space == std::string_view::npos || dots == std::string_view::npos || dots < space) return;
    const auto oldest = number(text.substr(space + 1, dots - space - 1));
    const auto newest = number(text.substr(dots + 2));
    if (!oldest || !newest || *oldest > *newest) return;
    formats.insert_or_assign(std::string(text.substr(0, space)), FormatRange{*oldest, *newest});
}

std::string words(const FormatRange& range) {
    return range.oldest == range.newest
               ? fmt::format("version {}", range.newest)
               : fmt::format("versions {} to {}", range.oldest, range.newest);
}

}  // namespace

FormatVersions own_formats() {
    const replay::LogBatch batch{
        LogIndex(1), OutputNumber(), 0, {{ExitNumber(1), replay::Passed{}}}};
    const replay::LogBatch stretch{
        LogIndex(1), OutputNumber(), 0, {{ExitNumber(1), replay::StretchBegin{}}}};
    const checkpoint::Part part{1, checkpoint::MachinePart{{std::byte{0}}}};
    FormatVersions formats;
    // A batch is written as the oldest version that has its entries.
    formats["log"] = {written(replay::encode(batch)).oldest,
                      written(replay::encode(stretch)).newest};
    formats["peer"] = written(wire::encode(wire::PeerMessage()));
    formats["seed"] = written(encode(SeedPiece(SeedChunk{1, 0, 0, SeedChunk::kBytes, {}})));
    formats["seed-digests"] = written(encode(SeedDigests{1, 0, 0, 1, {ChunkDigest()}}));
    formats["heal"] = written(encode(HealMessage(HealDone{1, 0})));
    formats["checkpoint"] = written(checkpoint::PartEncoder().encode(part));
    formats[std::string(kVerifyFormat)] = written(encode(VerifyMessage(VerifyDrop{1})));
    return formats;
}

bool speaks(const FormatVersions& peer, std::string_view format) {
    const FormatVersions own = own_formats();
    const auto ours = own.find(format);
    const auto theirs = peer.find(format);
    return ours != own.end() && theirs != peer.end() &&
           wire::common_version(ours->second.oldest, ours->second.newest, theirs->second.oldest,
                                theirs->second.newest) != 0;
}

std::optional<std::string> stretch_trouble(const FormatsOfSite& peer) {
    const auto log = peer.formats.find("log");
    if (log != peer.formats.end() && log->second.newest >= replay::kLogVersionStretches) {
        return std::nullopt;
    }
    return fmt::format(
        "machine-config.mode is auto, which needs version {} of the log format, and {} (software "
        "{}) does not speak it: bring it to this site's release, or use \"mode\": \"lockstep\"",
        replay::kLogVersionStretches, peer.site, peer.software);
}

std::string to_lines(const FormatVersions& formats) {
    std::string text;
    for (const auto& [name, range] : formats) {
        text += fmt::format("{}{} {}..{}\n", kPrefix, name, range.oldest, range.newest);
    }
    return text;
}

Greeting read_greeting(std::string_view text) {
    Greeting greeting;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.starts_with(kPrefix)) {
            read_format(line.substr(kPrefix.size()), greeting.formats);
        } else {
            greeting.shape += fmt::format("{}\n", line);
        }
    }
    return greeting;
}

std::optional<std::string> format_trouble(const FormatsOfSite& own, const FormatsOfSite& peer) {
    for (const auto& [name, ours] : own.formats) {
        if (name == kVerifyFormat) continue;
        const auto found = peer.formats.find(name);
        if (found == peer.formats.end()) {
            return fmt::format(
                "{} (software {}) does not say which version of the {} format it speaks, {} "
                "(software {}) speaks {}: bring both to one release",
                peer.site, peer.software, name, own.site, own.software, words(ours));
        }
        const FormatRange& theirs = found->second;
        if (wire::common_version(ours.oldest, ours.newest, theirs.oldest, theirs.newest) != 0) {
            continue;
        }
        const bool we_are_older = ours.newest < theirs.oldest;
        return fmt::format(
            "{} (software {}) speaks {} of the {} format, {} (software {}) speaks {}: bring {} to "
            "the release of {}",
            peer.site, peer.software, words(theirs), name, own.site, own.software, words(ours),
            we_are_older ? own.site : peer.site, we_are_older ? peer.site : own.site);
    }
    return std::nullopt;
}

}  // namespace antipode::control
