#include "tests/system/wan_link/wan.h"

#include <fstream>
#include <iostream>
#include <iterator>

#include "common/base/log.h"

namespace antipode::wan {
namespace {

std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> words;
    while (!text.empty()) {
        const auto start = text.find_first_not_of(" \t\r");
        if (start == std::string_view::npos) break;
        text.remove_prefix(start);
        const auto end = std::min(text.find_first_of(" \t\r"), text.size());
        words.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return words;
}

struct Between {
    std::string from;
    std::string to;
    bool both;
};

Result<Between> between(std::string_view text) {
    for (const std::string_view arrow : {"<->", "->"}) {
        const auto at = text.find(arrow);
        if (at == std::string_view::npos) continue;
        Between found{.from = std::string(text.substr(0, at)),
                      .to = std::string(text.substr(at + arrow.size())),
                      .both = arrow == "<->"};
        if (!found.from.empty() && !found.to.empty() && found.from != found.to) return found;
    }
    return fail(Errc::invalid_argument, "'{}' is no direction; write a->b, a<->b or all", text);
}

double milliseconds(Duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

Wan::Wan(boost::asio::io_context& context, uint64_t seed)
    : context_(context), seed_(seed), script_timer_(context) {}

Direction& Wan::direction(const std::string& from, const std::string& to) {
    auto& found = directions_[{from, to}];
    if (!found) found = std::make_unique<Direction>(seed_ * 1000 + directions_.size());
    return *found;
}

Result<std::vector<Direction*>> Wan::select(std::string_view who) {
    std::vector<Direction*> selected;
    if (who == "all" || who == "both") {
        for (auto& [key, direction] : directions_) selected.push_back(direction.get());
        return selected;
    }
    FT_TRY(const Between found, between(who));
    selected.push_back(&direction(found.from, found.to));
    if (found.both) selected.push_back(&direction(found.to, found.from));
    return selected;
}

Result<std::string> Wan::execute(std::string_view command) {
    const auto words = split(command);
    if (words.empty()) return fail(Errc::invalid_argument, "an empty command");
    const std::string_view verb = words[0];
    if (verb == "forward") return add_forward(words);
    if (verb == "set") return set(words);
    if (verb == "cut" || verb == "heal") return cut(words);
    if (verb == "break") {
        for (auto& forward : forwards_) forward->break_connections();
        return std::string("ok");
    }
    if (verb == "stats") return stats();
    if (verb == "script" && words.size() == 2) {
        std::ifstream file{std::string(words[1])};
        if (!file) return fail(Errc::not_found, "cannot read script {}", words[1]);
        const std::string text(std::istreambuf_iterator<char>(file), {});
        if (auto started = run_script(text); !started) {
            return fail(std::move(started).error().within(words[1]));
        }
        return std::string("ok");
    }
    return fail(Errc::invalid_argument, "'{}' is no command", command);
}

Result<std::string> Wan::add_forward(const std::vector<std::string_view>& words) {
    const bool tcp = words.size() == 5 && words[1] == "tcp";
    const bool udp = words.size() == 7 && words[1] == "udp";
    if (!tcp && !udp) {
        return fail(Errc::invalid_argument,
                    "write: forward tcp a->b LISTEN TARGET, or forward udp a<->b LISTEN_A PEER_A "
                    "LISTEN_B PEER_B");
    }
    FT_TRY(const Between ends, between(words[2]));
    const Line line{.out = &direction(ends.from, ends.to), .back = &direction(ends.to, ends.from)};
    if (tcp) {
        FT_TRY(auto forward, make_tcp_forward(context_, line, words[3], words[4]));
        forwards_.push_back(std::move(forward));
    } else {
        const DatagramEnds near{.listen = words[3], .peer = words[4]};
        const DatagramEnds far{.listen = words[5], .peer = words[6]};
        FT_TRY(auto forward, make_udp_forward(context_, line, near, far));
        forwards_.push_back(std::move(forward));
    }
    return std::string("ok");
}

Result<std::string> Wan::set(const std::vector<std::string_view>& words) {
    if (words.size() < 3) return fail(Errc::invalid_argument, "write: set WHO field=value...");
    FT_TRY(const auto selected, select(words[1]));
    for (Direction* direction : selected) {
        Settings changed = direction->settings();  // all fields, or none
        for (size_t index = 2; index < words.size(); ++index) {
            const auto equals = words[index].find('=');
            if (equals == std::string_view::npos) {
                return fail(Errc::invalid_argument, "'{}' is not field=value", words[index]);
            }
            FT_TRY_VOID(set_field(changed, words[index].substr(0, equals),
                                  words[index].substr(equals + 1)));
        }
        direction->settings() = changed;
    }
    return std::string("ok");
}

Result<std::string> Wan::cut(const std::vector<std::string_view>& words) {
    if (words.size() < 2 || words.size() > 3) {
        return fail(Errc::invalid_argument, "write: {} WHO", words[0]);
    }
    Cut cut = Cut::none;
    if (words[0] == "cut") {
        const std::string_view mode = words.size() == 3 ? words[2] : "mode=blackhole";
        if (mode == "mode=blackhole") {
            cut = Cut::blackhole;
        } else if (mode == "mode=hold") {
            cut = Cut::hold;
        } else if (mode == "mode=reset") {
            cut = Cut::reset;
        } else {
            return fail(Errc::invalid_argument, "'{}': mode is blackhole, hold or reset", mode);
        }
    }
    FT_TRY(const auto selected, select(words[1]));
    for (Direction* direction : selected) direction->set_cut(cut);
    for (auto& forward : forwards_) forward->cut_changed();
    return std::string("ok");
}

std::string Wan::stats() const {
    std::string json = "{\"directions\":{";
    for (const auto& [key, direction] : directions_) {
        const DirectionStats& stats = direction->stats();
        const auto deliveries = static_cast<double>(std::max<uint64_t>(stats.deliveries, 1));
        if (json.back() == '}') json += ',';
        json += fmt::format(
            "\"{}->{}\":{{\"cut\":{},\"stream_bytes\":{},\"stalls\":{},\"datagrams\":{},"
            "\"datagram_bytes\":{},\"datagrams_lost\":{},\"datagrams_cut\":{},"
            "\"datagrams_overflow\":{},\"datagrams_duplicated\":{},\"datagrams_reordered\":{},"
            "\"buffered_bytes\":{},\"buffered_bytes_peak\":{},\"lateness_ms_mean\":{:.4f},"
            "\"lateness_ms_max\":{:.4f}}}",
            key.first, key.second, direction->cut() != Cut::none, stats.stream_bytes, stats.stalls,
            stats.datagrams, stats.datagram_bytes, stats.datagrams_lost, stats.datagrams_cut,
            stats.datagrams_overflow, stats.datagrams_duplicated, stats.datagrams_reordered,
            stats.buffered_bytes, stats.buffered_bytes_peak,
            milliseconds(stats.lateness_sum) / deliveries, milliseconds(stats.lateness_max));
    }
    size_t connections = 0;
    for (const auto& forward : forwards_) connections += forward->connections();
    return json + fmt::format("}},\"connections\":{}}}", connections);
}

Result<> Wan::run_script(std::string_view text) {
    FT_TRY(script_, Script::parse(text, seed_));
    script_at_ = MonotonicClock::now();
    next_step();
    return {};
}

void Wan::next_step() {
    auto step = script_->next();
    if (!step) return;
    script_at_ += step->wait;  // from the plan, not from now: no drift
    script_timer_.expires_at(std::chrono::steady_clock::time_point(script_at_.time_since_epoch()));
    script_timer_.async_wait([this, command = std::move(step->command)](auto error) {
        if (!error) run_step(command);
    });
}

void Wan::run_step(const std::string& command) {
    if (command.starts_with("script ")) {
        logger("wan").error("script: a script cannot start another");
    } else if (!command.empty()) {
        if (auto done = execute(command); !done) {
            logger("wan").error("script: {}: {}", command, done.error().to_string());
        } else {
            logger("wan").info("script: {}", command);
        }
    }
    next_step();
}

}  // namespace antipode::wan
