// FormatVersions: which versions of the application's own formats a site can read and write. They
// are a part of the channel's greeting, a line each, so that two sites whose software does not
// understand each other say so at once, and not at the first message that is refused by a number:
//
//   format log 1..1
//   format seed 2..2
//
// THE RULE (docs/PROTOCOL-channel.md): a release that changes a format reads the former version,
// too, and writes the highest that both sites read. Ranges that do not overlap are refused in
// words.
//
// Pure values. A line that is not understood, or of a format that is not known, is of a newer
// release, and is left to it: it knows ours.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace antipode::control {

struct FormatRange {
    uint8_t oldest = 0;
    uint8_t newest = 0;
    bool operator==(const FormatRange&) const = default;
};

using FormatVersions = std::map<std::string, FormatRange, std::less<>>;

// What both sites need only for what an operator asks for: a site without it is understood all the
// same.
inline constexpr std::string_view kVerifyFormat = "verify";

// Of this software, as its own encoders have them.
FormatVersions own_formats();

// Whether a site of these formats and this one can use a format together.
bool speaks(const FormatVersions& peer, std::string_view format);

std::string to_lines(const FormatVersions& formats);

struct Greeting {
    FormatVersions formats;
    std::string shape;  // the other lines
};
Greeting read_greeting(std::string_view text);

struct FormatsOfSite {
    std::string_view site;
    std::string_view software;
    const FormatVersions& formats;
};
// Why a VM of mode `auto` cannot have this peer, for people; nullopt if it can.
std::optional<std::string> stretch_trouble(const FormatsOfSite& peer);
// Why the two do not understand each other, for people; nullopt if they do.
std::optional<std::string> format_trouble(const FormatsOfSite& own, const FormatsOfSite& peer);

}  // namespace antipode::control
