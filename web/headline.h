// What a pair is, in one word and one sentence: the judgment that the page, the REST API and the
// command line share, so that they never disagree. Pure.
//
// A pair is seen through one or more views: the statuses that the replicators of its sites report,
// as far as this host can reach them. From one view the other site is inferred, and says so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "replicator/control/control_api.h"

namespace antipode::web {

// How bad, from good to bad; the page pairs each with a shape and a word, never with colour alone.
enum class Mood { good = 1, busy, warning, bad, unknown };
std::string_view word(Mood mood);

// One site's replicator, as last seen.
struct View {
    std::string id;      // name of its control socket
    std::string socket;  // path of it
    bool reachable = false;
    std::string error;  // why not reachable
    std::optional<control::Status> status;
    int64_t seen_unix_ms = 0;  // last answer
};

struct SiteSummary {
    std::string site;
    std::string word;    // "primary", "backup", "halted"..., "unknown"
    std::string reason;  // "inferred from site-a", or the site's own words
    Mood mood = Mood::unknown;
    bool seen = false;      // by its own replicator's word, now
    bool holds_vm = false;  // the VM runs (or would run) here
};

struct Headline {
    std::string word;  // "protected", "solo", "asking", ...
    std::string reason;
    Mood mood = Mood::unknown;
    int64_t since_unix_ms = 0;
    std::string leader;              // id of the view that numbers are taken from
    std::vector<SiteSummary> sites;  // sorted by name
};

// Idle at one of three sites, with no part in what the tiebreaker's record says: as it should be.
bool is_spare(const control::Status& status);

// `views` are all of one pair and not empty.
Headline judge(const std::vector<const View*>& views);

}  // namespace antipode::web
