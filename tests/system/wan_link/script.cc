#include "tests/system/wan_link/script.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace antipode::wan {
namespace {

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::optional<double> number(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

Result<Duration> duration(std::string_view text) {
    double unit_ms = 1000;
    std::string_view digits = text;
    if (digits.ends_with("ms")) {
        unit_ms = 1;
        digits.remove_suffix(2);
    } else if (digits.ends_with("s")) {
        digits.remove_suffix(1);
    } else {
        return fail(Errc::invalid_argument, "'{}' is no time; write 200ms or 3s", text);
    }
    const auto count = number(digits);
    if (!count || !(*count >= 0 && *count <= 86'400'000)) {
        return fail(Errc::invalid_argument, "'{}' is no time; write 200ms or 3s", text);
    }
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double, std::milli>(*count * unit_ms));
}

}  // namespace

Result<Script> Script::parse(std::string_view text, uint64_t seed) {
    Script script(seed);
    script.nodes_.push_back(Node{.kind = Kind::repeat, .text = "", .children = {}});
    std::vector<size_t> open{0};
    size_t line_number = 0;
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        ++line_number;
        line = trimmed(line.substr(0, line.find('#')));
        if (line.empty()) continue;
        if (auto parsed = script.parse_line(line, open); !parsed) {
            return fail(std::move(parsed).error().within(fmt::format("line {}", line_number)));
        }
    }
    if (open.size() != 1) {
        return fail(Errc::invalid_argument, "{} blocks are not closed", open.size() - 1);
    }
    for (size_t index = 0; index < script.nodes_.size(); ++index) {
        const Node& node = script.nodes_[index];
        if (node.kind != Kind::repeat || node.rounds != 0) continue;
        Duration round{};
        for (const size_t child : node.children) round += script.least_wait(child);
        if (round < std::chrono::milliseconds(1)) {
            return fail(Errc::invalid_argument, "a repeat without a number must wait 1ms a round");
        }
    }
    script.stack_.push_back(Frame{.node = 0});
    return script;
}

Result<> Script::parse_line(std::string_view line, std::vector<size_t>& open) {
    if (line == "}") {
        if (open.size() == 1) return fail(Errc::invalid_argument, "'}}' closes nothing");
        if (nodes_[open.back()].children.empty()) {
            return fail(Errc::invalid_argument, "the block is empty");
        }
        open.pop_back();
        return {};
    }
    Node node;
    const bool block = line.ends_with('{');
    const std::string_view head = block ? trimmed(line.substr(0, line.size() - 1)) : line;
    const std::string_view word = head.substr(0, head.find(' '));
    const std::string_view rest = trimmed(head.substr(word.size()));
    if (block && (word == "repeat" || word == "sequence")) {
        node.kind = Kind::repeat;
        if (word == "repeat") {
            const auto rounds = rest.empty() ? 0 : number(rest).value_or(-1);
            if (rounds < 0 || rounds > 1e9 || (!rest.empty() && rounds < 1)) {
                return fail(Errc::invalid_argument, "'{}' is no number of rounds", rest);
            }
            node.rounds = static_cast<uint64_t>(rounds);
        }
    } else if (block && word == "choose" && rest.empty()) {
        node.kind = Kind::choose;
    } else if (block) {
        return fail(Errc::invalid_argument, "'{}' opens no block: repeat, choose, sequence", word);
    } else if (word == "wait") {
        node.kind = Kind::wait;
        const auto dots = rest.find("..");
        FT_TRY(node.low, duration(rest.substr(0, dots)));
        node.high = node.low;
        if (dots != std::string_view::npos) {
            FT_TRY(node.high, duration(rest.substr(dots + 2)));
        }
        if (node.high < node.low) return fail(Errc::invalid_argument, "'{}' is backwards", rest);
    } else {
        node.text = line;
    }
    nodes_[open.back()].children.push_back(nodes_.size());
    if (block) open.push_back(nodes_.size());
    nodes_.push_back(std::move(node));
    return {};
}

Duration Script::least_wait(size_t index) const {
    const Node& node = nodes_[index];
    if (node.kind == Kind::wait) return node.low;
    if (node.kind == Kind::command) return Duration::zero();
    Duration least = node.kind == Kind::choose ? Duration::max() : Duration::zero();
    for (const size_t child : node.children) {
        const Duration wait = least_wait(child);
        least = node.kind == Kind::choose ? std::min(least, wait) : least + wait;
    }
    return least;
}

std::optional<Script::Step> Script::next() {
    while (!stack_.empty()) {
        Frame& frame = stack_.back();
        const Node& node = nodes_[frame.node];
        if (frame.child == node.children.size()) {
            frame.child = 0;
            if (node.rounds == 0 || ++frame.round < node.rounds) continue;
            stack_.pop_back();
            continue;
        }
        if (auto step = enter(node.children[frame.child++])) return step;
    }
    return std::nullopt;
}

// A step to do, or nothing when the node was a block that is now on the stack.
std::optional<Script::Step> Script::enter(size_t index) {
    while (nodes_[index].kind == Kind::choose) {
        index = nodes_[index].children[random_.below(nodes_[index].children.size())];
    }
    const Node& node = nodes_[index];
    if (node.kind == Kind::repeat) {
        stack_.push_back(Frame{.node = index});
        return std::nullopt;
    }
    if (node.kind == Kind::wait) {
        const auto low = static_cast<uint64_t>(node.low.count());
        const auto high = static_cast<uint64_t>(node.high.count());
        return Step{.wait = Duration(static_cast<Duration::rep>(random_.between(low, high))),
                    .command = {}};
    }
    return Step{.wait = {}, .command = draw(node.text)};
}

// Each `=LOW..HIGH` becomes `=NUMBER`.
std::string Script::draw(std::string_view command) {
    std::string drawn;
    while (!command.empty()) {
        const auto end = std::min(command.find(' '), command.size());
        const std::string_view word = command.substr(0, end);
        const auto equals = word.find('=');
        const auto dots = word.find("..");
        if (!drawn.empty()) drawn += ' ';
        if (equals != std::string_view::npos && dots != std::string_view::npos && dots > equals) {
            const auto low = number(word.substr(equals + 1, dots - equals - 1));
            const auto high = number(word.substr(dots + 2));
            if (low && high) {
                drawn += fmt::format("{}={:.6g}", word.substr(0, equals),
                                     *low + (*high - *low) * random_.unit());
            } else {
                drawn += word;
            }
        } else {
            drawn += word;
        }
        command.remove_prefix(std::min(end + 1, command.size()));
    }
    return drawn;
}

}  // namespace antipode::wan
