// Script: a sequence of line changes over time, with chance from a seed. Text, one step a line:
//
//     set a<->b delay_ms=10..150 loss=0.01      a command; LOW..HIGH draws a number
//     wait 200ms..3s                            s or ms; alone or as LOW..HIGH
//     repeat 5 {                                a block; without a number it repeats for ever
//         choose {                              exactly one of its steps
//             cut a->b
//             sequence {                        several steps as one
//                 cut a<->b mode=reset
//             }
//         }
//         wait 1s
//         heal a<->b
//     }
//
// INVARIANTS: equal text and seed give equal steps. A block that repeats for ever waits at least
// 1 ms a round. Pure: it says what to do next and after how long; the owner does it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/result.h"

namespace antipode::wan {

class Script {
  public:
    static Result<Script> parse(std::string_view text, uint64_t seed);

    struct Step {
        Duration wait{};      // before the command
        std::string command;  // empty: only wait
    };
    std::optional<Step> next();

  private:
    enum class Kind { command, wait, repeat, choose };
    struct Node {
        Kind kind = Kind::command;
        std::string text;
        Duration low{};
        Duration high{};
        uint64_t rounds = 1;  // of repeat; 0 = for ever
        std::vector<size_t> children;
    };
    struct Frame {
        size_t node;
        size_t child = 0;
        uint64_t round = 0;
    };

    explicit Script(uint64_t seed) : random_(seed) {}
    Result<> parse_line(std::string_view line, std::vector<size_t>& open);
    Duration least_wait(size_t node) const;
    std::optional<Step> enter(size_t index);
    std::string draw(std::string_view command);

    std::vector<Node> nodes_;  // 0 is the whole script
    std::vector<Frame> stack_;
    Random random_;
};

}  // namespace antipode::wan
