#include "common/wire/arbiter_messages.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode::wire {

bool is_member(const Record& record, const Member& member) {
    if (record.mode == PairMode::none || member.site.empty()) return false;
    return record.members[0] == member || record.members[1] == member;
}

Member other_member(const Record& record, const Member& one) {
    return record.members[0] == one ? record.members[1] : record.members[0];
}

Name last_partner(const Record& record) {
    if (record.mode == PairMode::solo) return record.former;
    return other_member(record, record.holder).site;
}

bool names_site(const Sites& sites, const Name& site) {
    return !site.empty() && std::find(sites.begin(), sites.end(), site) != sites.end();
}

bool are_last_sites(const Record& record, const Name& one, const Name& other) {
    const bool named = names_site(record.sites, one) && names_site(record.sites, other);
    if (!named || one == other) return false;
    if (record.sites[2].empty()) return true;  // there are no others
    const Name last = last_partner(record);
    const Name& holder = record.holder.site;
    return (one == holder && other == last) || (one == last && other == holder);
}

Epoch forced_epoch(Epoch epoch, const Sites& sites, const Name& me) {
    constexpr unsigned kBlockBits = 32;
    constexpr unsigned kQuarterBits = 30;
    const uint64_t block = (epoch.value() >> kBlockBits) + 1;
    FT_CHECK(block < (uint64_t{1} << kBlockBits), "epoch {} is out of range", epoch);
    FT_CHECK(names_site(sites, me), "{} is no site of the pair", me);
    const auto place =
        static_cast<uint64_t>(std::find(sites.begin(), sites.end(), me) - sites.begin());
    return Epoch((block << kBlockBits) | ((place + 1) << kQuarterBits));
}

Sites sorted_sites(const Name& a, const Name& b) {
    return a < b ? Sites{a, b, Name()} : Sites{b, a, Name()};
}

std::string_view to_string(PairMode mode) {
    switch (mode) {
        case PairMode::none:
            return "none";
        case PairMode::paired:
            return "paired";
        case PairMode::solo:
            return "solo";
    }
    return "?";
}

std::string_view to_string(RequestKind kind) {
    switch (kind) {
        case RequestKind::query:
            return "query";
        case RequestKind::create:
            return "create";
        case RequestKind::acquire:
            return "acquire";
        case RequestKind::pair:
            return "pair";
        case RequestKind::switch_over:
            return "switch_over";
        case RequestKind::reclaim:
            return "reclaim";
        case RequestKind::force:
            return "force";
        case RequestKind::report_force:
            return "report_force";
        case RequestKind::forget:
            return "forget";
    }
    return "?";
}

std::string_view to_string(AnswerKind kind) {
    switch (kind) {
        case AnswerKind::record:
            return "record";
        case AnswerKind::granted:
            return "granted";
        case AnswerKind::paired:
            return "paired";
        case AnswerKind::denied:
            return "denied";
        case AnswerKind::refused:
            return "refused";
    }
    return "?";
}

std::string_view to_string(RefusalReason reason) {
    switch (reason) {
        case RefusalReason::none:
            return "none";
        case RefusalReason::unknown_pair:
            return "unknown_pair";
        case RefusalReason::wrong_store:
            return "wrong_store";
        case RefusalReason::record_too_old:
            return "record_too_old";
        case RefusalReason::peer_connected:
            return "peer_connected";
        case RefusalReason::wrong_site:
            return "wrong_site";
        case RefusalReason::malformed:
            return "malformed";
    }
    return "?";
}

}  // namespace antipode::wire
