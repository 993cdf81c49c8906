// Answers as people read them: columns of a list of objects, by the paths of their fields.
//
// Threads: pure functions.
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <vector>

namespace antipode::web {

struct Column {
    // pairs: a list of pairs, each with its state.
    enum class Kind { text, seconds, time, bytes, rate, ratio, yes, pairs };
    std::string title;
    std::string field;  // "link.rtt_seconds"
    Kind kind = Kind::text;
};

// The items below each other; "nothing" when there is none. Control characters never reach the
// terminal.
std::string table(const boost::json::value& items, const std::vector<Column>& columns);
// One field of an object as text; "-" for null or absent.
std::string cell(const boost::json::value& item, const Column& column);

}  // namespace antipode::web
