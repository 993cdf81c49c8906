// Who has what the other lacks: the decision table, and a small world in which every history is
// tried.
#include "disksync/core/generations.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace antipode::disksync {
namespace {

CopyView copy(uint64_t id, uint64_t current) {
    CopyView view;
    view.id = DiskId(id);
    view.generations.current = Generation(current);
    view.state = DiskState::up_to_date;
    view.size_bytes = 1 << 20;
    return view;
}

SyncKind kind_of(const CopyView& one, const CopyView& other) {
    return decide(one, other).kind;
}

SyncDirection mirrored(SyncDirection direction) {
    if (direction == SyncDirection::none) return direction;
    return direction == SyncDirection::we_send ? SyncDirection::peer_sends : SyncDirection::we_send;
}

TEST(Generations, EqualAndNew) {
    EXPECT_EQ(kind_of(copy(1, 10), copy(2, 10)), SyncKind::none);
    EXPECT_EQ(kind_of(copy(1, 0), copy(2, 0)), SyncKind::not_initialised);
    EXPECT_EQ(kind_of(copy(1, kEmptyGeneration.value()), copy(2, kEmptyGeneration.value())),
              SyncKind::none);
    const SyncDecision decision = decide(copy(1, 0), copy(2, 10));
    EXPECT_EQ(decision.kind, SyncKind::full);
    EXPECT_EQ(decision.direction, SyncDirection::peer_sends);
    EXPECT_EQ(kind_of(copy(1, 10), copy(2, 11)), SyncKind::unrelated);
}

TEST(Generations, AWriteWithoutThePeer) {
    CopyView ours = copy(1, 10);
    const CopyView theirs = copy(2, 10);
    start_generation(ours.generations, Generation(11));
    ours.marked_blocks = 1;
    const SyncDecision decision = decide(ours, theirs);
    EXPECT_EQ(decision.kind, SyncKind::blocks);
    EXPECT_EQ(decision.direction, SyncDirection::we_send);
    // And after the resync nothing is left to do, whichever side lost the last message.
    CopyView target = theirs;
    take_over(target.generations, ours.generations);
    CopyView unaware = ours;
    unaware.marked_blocks = 0;
    EXPECT_EQ(kind_of(unaware, target), SyncKind::none);
    peer_caught_up(ours.generations);
    ours.marked_blocks = 0;
    EXPECT_EQ(kind_of(ours, target), SyncKind::none);
    EXPECT_TRUE(in_history(ours.generations, Generation(10)));
    EXPECT_TRUE(in_history(target.generations, Generation(10)));
}

// The source writes on after it has sent its end of resync, and does not know whether it arrived.
TEST(Generations, LostEndOfResync) {
    CopyView source = copy(1, 10);
    start_generation(source.generations, Generation(11));
    CopyView took_over = copy(2, 10);
    take_over(took_over.generations, source.generations);
    start_generation(source.generations, Generation(12));
    source.marked_blocks = 1;
    EXPECT_EQ(decide(source, took_over).kind, SyncKind::blocks);
    EXPECT_EQ(decide(source, copy(2, 10)).kind, SyncKind::blocks);
}

TEST(Generations, TooOldForTheBitmap) {
    CopyView ours = copy(1, 10);
    start_generation(ours.generations, Generation(11));
    peer_caught_up(ours.generations);  // with some third copy
    start_generation(ours.generations, Generation(12));
    const SyncDecision decision = decide(ours, copy(2, 10));
    EXPECT_EQ(decision.kind, SyncKind::full);
    EXPECT_EQ(decision.direction, SyncDirection::we_send);
}

TEST(Generations, SplitBrain) {
    CopyView ours = copy(1, 10);
    CopyView theirs = copy(2, 10);
    start_generation(ours.generations, Generation(11));
    start_generation(theirs.generations, Generation(12));
    const SyncDecision decision = decide(ours, theirs);
    EXPECT_EQ(decision.kind, SyncKind::split_brain);
    EXPECT_TRUE(decision.blocks_known);
    start_generation(theirs.generations, Generation(13));
    EXPECT_EQ(decide(ours, theirs).kind, SyncKind::split_brain);
    EXPECT_TRUE(decide(ours, theirs).blocks_known);
    // When the common ancestor has left the bases, only a full sync can help.
    peer_caught_up(theirs.generations);
    start_generation(theirs.generations, Generation(14));
    EXPECT_EQ(decide(ours, theirs).kind, SyncKind::split_brain);
    EXPECT_FALSE(decide(ours, theirs).blocks_known);
}

TEST(Generations, CrashedPrimarySendsItsLog) {
    CopyView ours = copy(1, 10);
    ours.role = DiskRole::primary;
    ours.crashed_primary = true;
    ours.marked_blocks = 64;
    SyncDecision decision = decide(ours, copy(2, 10));
    EXPECT_EQ(decision.kind, SyncKind::blocks);
    EXPECT_EQ(decision.direction, SyncDirection::we_send);
    // But not over one that has been promoted since, with or without a write.
    CopyView promoted = copy(2, 10);
    promoted.role = DiskRole::primary;
    start_generation(promoted.generations, Generation(11));
    ours.role = DiskRole::secondary;
    decision = decide(ours, promoted);
    EXPECT_EQ(decision.kind, SyncKind::blocks);
    EXPECT_EQ(decision.direction, SyncDirection::peer_sends);
}

TEST(Generations, WhatMustNotBe) {
    CopyView ours = copy(1, 10);
    start_generation(ours.generations, Generation(11));
    CopyView theirs = copy(2, 10);
    theirs.role = DiskRole::primary;
    EXPECT_EQ(kind_of(ours, theirs), SyncKind::refused);  // would change a disk under a VM
    theirs.role = DiskRole::secondary;
    theirs.size_bytes = 512;
    EXPECT_EQ(kind_of(ours, theirs), SyncKind::refused);  // does not fit
    theirs.size_bytes = ours.size_bytes;
    ours.state = DiskState::inconsistent;
    EXPECT_EQ(kind_of(ours, theirs), SyncKind::refused);  // has nothing whole to give
}

// A world of two copies whose contents are sets of writes: every decision is compared with the
// truth.
class World {
  public:
    explicit World(uint64_t seed) : random_(seed) {
        for (Side& side : sides_) {
            side.view =
                copy(static_cast<uint64_t>(&side - sides_.data()) + 1, kEmptyGeneration.value());
        }
    }
    void step() {
        Side& side = sides_[random_.below(2)];
        Side& other = &side == &sides_[0] ? sides_[1] : sides_[0];
        switch (random_.below(6)) {
            case 0:  // promote
                if (side.view.role == DiskRole::primary || connected_) return;
                if (side.view.state == DiskState::inconsistent) return;
                side.view.role = DiskRole::primary;
                begin(side);
                return;
            case 1:
                side.view.role = DiskRole::secondary;
                return;
            case 2:
            case 3:  // write
                if (side.view.role != DiskRole::primary) return;
                write(side, other);
                return;
            case 4:
                connected_ = false;
                return;
            default:
                connect();
        }
    }

  private:
    struct Side {
        CopyView view;
        std::array<uint64_t, 8> blocks{};  // contents: number of the last write
        std::array<bool, 8> marked{};
        bool begun = false;   // a generation of its own since the two were last equal
        bool exposed = true;  // the current generation may be the peer's as well
    };
    void begin(Side& side) {
        start_generation(side.view.generations, Generation(++fresh_));
        side.exposed = false;
        side.begun = true;
    }
    void write(Side& side, Side& other) {
        const uint64_t block = random_.below(8);
        const uint64_t number = ++writes_;
        if (connected_) {
            side.blocks[block] = other.blocks[block] = number;
            return;
        }
        if (side.exposed) begin(side);
        side.blocks[block] = number;
        side.marked[block] = true;
        count(side);
    }
    void count(Side& side) {
        side.view.marked_blocks =
            static_cast<uint64_t>(std::count(side.marked.begin(), side.marked.end(), true));
    }
    void connect() {
        if (connected_) return;
        Side& a = sides_[0];
        Side& b = sides_[1];
        const SyncDecision decision = decide(a.view, b.view);
        const SyncDecision mirror = decide(b.view, a.view);
        ASSERT_EQ(decision.kind, mirror.kind);
        ASSERT_EQ(decision.direction, mirrored(mirror.direction));
        switch (decision.kind) {
            case SyncKind::none:
                ASSERT_EQ(a.blocks, b.blocks) << "said to be equal";
                connected_ = true;
                a.exposed = b.exposed = true;
                return;
            case SyncKind::blocks:
            case SyncKind::full:
                decision.direction == SyncDirection::we_send ? sync(a, b, decision.kind)
                                                             : sync(b, a, decision.kind);
                return;
            case SyncKind::split_brain:
                ASSERT_TRUE(a.begun && b.begun) << "a split brain that is none";
                if (decision.blocks_known) check_known(a, b);
                // An operator chooses.
                a.view.role = b.view.role = DiskRole::secondary;
                sync(a, b, decision.blocks_known ? SyncKind::blocks : SyncKind::full);
                return;
            case SyncKind::refused:
            case SyncKind::not_initialised:
                return;
            case SyncKind::unrelated:
                FAIL() << "the two have a common past";
        }
    }
    void check_known(const Side& a, const Side& b) {
        for (size_t block = 0; block < 8; ++block) {
            if (a.marked[block] || b.marked[block]) continue;
            ASSERT_EQ(a.blocks[block], b.blocks[block]) << "block " << block << " is not marked";
        }
    }
    void sync(Side& source, Side& target, SyncKind kind) {
        if (kind == SyncKind::blocks) check_known(source, target);
        if (kind == SyncKind::full) source.marked.fill(true);
        // No block of the source may be older than one that is thrown away without a split brain.
        for (size_t block = 0; block < 8; ++block) source.marked[block] |= target.marked[block];
        const bool breaks = random_.chance(0.3);
        const size_t until = breaks ? random_.below(8) : 8;
        for (size_t block = 0; block < until; ++block) {
            if (source.marked[block]) target.blocks[block] = source.blocks[block];
            source.marked[block] = false;
        }
        count(source);
        if (breaks) {
            target.view.state = DiskState::inconsistent;
            target.marked.fill(false);
            count(target);
            // The next write of the source cannot tell what the target has.
            source.exposed = true;
            return;
        }
        target.view.state = DiskState::up_to_date;
        target.marked.fill(false);
        count(target);
        take_over(target.view.generations, source.view.generations);
        source.exposed = target.exposed = true;
        source.begun = target.begun = false;
        if (random_.chance(0.5)) {
            peer_caught_up(source.view.generations);
            connected_ = true;
        }
    }

    Random random_;
    std::array<Side, 2> sides_;
    bool connected_ = true;
    uint64_t fresh_ = 100;
    uint64_t writes_ = 0;
};

TEST(Generations, EveryHistoryIsDecidedRight) {
    for (uint64_t seed = 1; seed <= 20'000 && !testing::Test::HasFatalFailure(); ++seed) {
        SCOPED_TRACE(seed);
        World world(seed);
        for (int step = 0; step < 60 && !testing::Test::HasFatalFailure(); ++step) world.step();
    }
}

TEST(SplitPolicies, NamesComeBack) {
    for (int value = 1; value <= 9; ++value) {
        const auto policy = static_cast<SplitPolicy>(value);
        EXPECT_EQ(parse_split_policy(to_string(policy)), policy);
    }
    EXPECT_FALSE(parse_split_policy("violently"));
}

TEST(SplitPolicies, ChooseAsTheirNamesSay) {
    CopyView ours = copy(1, 11);
    CopyView theirs = copy(2, 12);
    ours.generation_time_seconds = 100;
    theirs.generation_time_seconds = 200;
    ours.marked_blocks = 5;
    theirs.marked_blocks = 0;
    ours.epoch = Epoch(3);
    theirs.epoch = Epoch(4);
    const auto with = [&](SplitPolicy policy) {
        const SplitPolicies policies{policy, policy, policy};
        const SyncDirection direction = resolve_split(policies, ours, theirs);
        const bool one_sided =
            policy == SplitPolicy::discard_local || policy == SplitPolicy::discard_remote;
        if (!one_sided) {
            EXPECT_EQ(direction, mirrored(resolve_split(policies, theirs, ours)));
        }
        return direction;
    };
    EXPECT_EQ(with(SplitPolicy::ask), SyncDirection::none);
    EXPECT_EQ(with(SplitPolicy::discard_younger_primary), SyncDirection::we_send);
    EXPECT_EQ(with(SplitPolicy::discard_older_primary), SyncDirection::peer_sends);
    EXPECT_EQ(with(SplitPolicy::discard_zero_changes), SyncDirection::we_send);
    EXPECT_EQ(with(SplitPolicy::discard_least_changes), SyncDirection::we_send);
    EXPECT_EQ(with(SplitPolicy::discard_local), SyncDirection::peer_sends);
    EXPECT_EQ(with(SplitPolicy::discard_remote), SyncDirection::we_send);
    EXPECT_EQ(with(SplitPolicy::lower_epoch), SyncDirection::peer_sends);
    EXPECT_EQ(with(SplitPolicy::discard_secondary), SyncDirection::none);
    theirs.marked_blocks = 7;
    EXPECT_EQ(with(SplitPolicy::discard_zero_changes), SyncDirection::none);
    theirs.role = DiskRole::primary;
    EXPECT_EQ(with(SplitPolicy::discard_secondary), SyncDirection::peer_sends);
    const SplitPreview lost = preview(SyncDirection::peer_sends, ours, theirs);
    EXPECT_EQ(lost.blocks_lost, 5u);
    EXPECT_EQ(lost.lost_since_seconds, 100);
    EXPECT_FALSE(lost.exact);
}

}  // namespace
}  // namespace antipode::disksync
