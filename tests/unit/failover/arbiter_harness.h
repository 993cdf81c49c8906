// A pair's record as the arbiter moves it, and a hand to send it requests.
#pragma once

#include <gtest/gtest.h>
#include <optional>

#include "tiebreaker/arbiter.h"

namespace antipode::tiebreaker {

using wire::Answer;
using wire::AnswerKind;
using wire::PairMode;
using wire::Record;
using wire::RefusalReason;
using wire::Request;
using wire::RequestKind;
using wire::StoreIdentity;

inline const Name kPair = Name::literal("web1");
inline const Name kA = Name::literal("site-a");
inline const Name kB = Name::literal("site-b");
constexpr StoreIdentity kStore{77};
constexpr Context kContext{kStore, PeerPresence::absent};

inline Member a(uint64_t incarnation) {
    return {kA, Incarnation(incarnation)};
}
inline Member b(uint64_t incarnation) {
    return {kB, Incarnation(incarnation)};
}
inline Request ask(RequestKind kind, uint64_t epoch, Member me, Member other = {}) {
    return {kind, kPair, kStore, Epoch(epoch), me, other, {}};
}

class ArbiterFixture : public testing::Test {
  protected:
    Answer send(const Request& request, const Context& context = kContext) {
        const Decision decision = decide(record_, request, context);
        const Decision again = decide(decision.record, request, context);
        EXPECT_EQ(again.record, decision.record) << to_string(request.kind);
        EXPECT_EQ(again.answer.kind, decision.answer.kind) << to_string(request.kind);
        EXPECT_EQ(again.changed, Changed::no);
        EXPECT_EQ(decision.changed == Changed::yes, decision.record != record_);
        record_ = decision.record;
        if (record_) {
            EXPECT_EQ(invalid(*record_), nullptr);
        }
        return decision.answer;
    }

    std::optional<Record> record_;
};

}  // namespace antipode::tiebreaker
