// Which messages are refused when their epoch is over.
#include "replicator/control/node_message.h"

#include <gtest/gtest.h>

namespace antipode::control {
namespace {

constexpr NodeMessage kAll[] = {
    NodeMessage::log_batch,      NodeMessage::acknowledge, NodeMessage::peer,
    NodeMessage::lag_report,     NodeMessage::seed_piece,  NodeMessage::seed_progress,
    NodeMessage::heal,           NodeMessage::resend,      NodeMessage::switch_wanted,
    NodeMessage::switch_refused, NodeMessage::verify,
};

TEST(NodeMessage, only_what_belongs_to_an_epoch_that_is_over_is_stale) {
    for (const NodeMessage message : kAll) {
        const bool bound = is_of_an_epoch(message);
        EXPECT_EQ(is_stale(message, Epoch(3), Epoch(4)), bound) << to_string(message);
        EXPECT_FALSE(is_stale(message, Epoch(4), Epoch(4))) << to_string(message);
        EXPECT_FALSE(is_stale(message, Epoch(5), Epoch(4))) << to_string(message);
    }
    // The core judges its own; a seed is of an attempt.
    EXPECT_FALSE(is_of_an_epoch(NodeMessage::peer));
    EXPECT_FALSE(is_of_an_epoch(NodeMessage::seed_piece));
    EXPECT_TRUE(is_of_an_epoch(NodeMessage::log_batch));
    EXPECT_TRUE(is_of_an_epoch(NodeMessage::acknowledge));
}

TEST(NodeMessage, a_number_of_nothing_is_unknown_and_never_stale) {
    EXPECT_EQ(to_string(static_cast<NodeMessage>(99)), "unknown");
    EXPECT_FALSE(is_stale(static_cast<NodeMessage>(99), Epoch(1), Epoch(2)));
}

}  // namespace
}  // namespace antipode::control
