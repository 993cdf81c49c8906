#include "replicator/control/verify_follower.h"

#include <algorithm>

#include "common/base/log.h"
#include "replicator/control/disk_verifier.h"

namespace antipode::control {

VerifyFollower::~VerifyFollower() {
    *alive_ = false;
    while (!asked_.empty()) drop(asked_.begin()->first);
}

DiskRange VerifyFollower::range_of(const VerifyAsk& ask) const {
    return chunk_range(ask.first_chunk, ask.chunk_count, disks_.size_bytes(ask.drive));
}

void VerifyFollower::receive(VerifyMessage message) {
    if (const auto* ask = std::get_if<VerifyAsk>(&message)) {
        begin(*ask);
    } else if (auto* body = std::get_if<VerifyBytes>(&message)) {
        take_bytes(std::move(*body));
    } else if (const auto* dropped = std::get_if<VerifyDrop>(&message)) {
        early_.erase(dropped->number);
        drop(dropped->number);
    }
}

void VerifyFollower::begin(const VerifyAsk& ask) {
    if (asked_.contains(ask.number)) return;
    const uint64_t chunks =
        ask.drive < disks_.drive_count() ? SeedChunk::count_of(disks_.size_bytes(ask.drive)) : 0;
    if (ask.first_chunk >= chunks || ask.chunk_count > chunks - ask.first_chunk) {
        return refuse(ask.number, "the primary names a place beyond the end of a disk");
    }
    if (asked_.size() >= kAsksMax) return refuse(ask.number, "the primary asks too much at once");
    const uint64_t number = ask.number;
    const auto fixed =
        disks_.fix(ask.drive, range_of(ask), ask.point, [this, alive = alive_, number] {
            if (*alive) settled(number);
        });
    if (!fixed) return refuse(number, fixed.error().to_string());
    asked_.emplace(number, Asked{ask, fixed->id, Step::waits, {}, {}});
    if (auto early = early_.extract(number)) take_bytes(std::move(early.mapped()));
}

void VerifyFollower::settled(uint64_t number) {
    const auto found = asked_.find(number);
    if (found == asked_.end()) return;
    Asked& asked = found->second;
    asked.step = Step::settled;
    asked.settled = MonotonicClock::now();
    if (asked.ask.purpose == VerifyPurpose::repair) return write_if_whole(asked);
    const DiskRange range = range_of(asked.ask);
    disks_.read_chunk(asked.ask.drive, range.offset_bytes, range.length_bytes,
                      [this, alive = alive_, number](Result<std::vector<std::byte>> bytes) {
                          if (*alive) read(number, bytes);
                      });
}

void VerifyFollower::read(uint64_t number, const Result<std::vector<std::byte>>& bytes) {
    const auto found = asked_.find(number);
    if (found == asked_.end()) return;
    const uint64_t seed = found->second.ask.seed;
    drop(number);
    if (!bytes) return refuse(number, bytes.error().to_string());
    send_(VerifyDigests{number, digests_of(*bytes, seed)});
}

void VerifyFollower::take_bytes(VerifyBytes body) {
    const auto found = asked_.find(body.number);
    if (found == asked_.end()) {
        early_.insert_or_assign(body.number, std::move(body));
        if (early_.size() > kEarlyMax) early_.erase(early_.begin());
        return;
    }
    Asked& asked = found->second;
    if (asked.ask.purpose != VerifyPurpose::repair || asked.step == Step::writes) return;
    if (body.bytes.size() != range_of(asked.ask).length_bytes) {
        drop(body.number);
        return refuse(body.number, "the primary sends less or more than there is");
    }
    asked.bytes = std::move(body.bytes);
    write_if_whole(asked);
}

void VerifyFollower::write_if_whole(Asked& asked) {
    if (asked.step != Step::settled || asked.bytes.empty()) return;
    asked.step = Step::writes;
    const VerifyAsk ask = asked.ask;
    const DiskRange range = range_of(ask);
    // The range is let go by the write's own end, also where this is gone by then.
    disks_.write_chunk(
        ask.drive, range.offset_bytes, range.length_bytes, std::move(asked.bytes),
        [this, alive = alive_, &disks = disks_, ask, fix = asked.fix](const Result<void>& done) {
            disks.unfix(ask.drive, fix);
            if (!*alive) return;
            asked_.erase(ask.number);
            if (done) return send_(VerifyWritten{ask.number});
            logger("disksync").error("a repair: {}", done.error().to_string());
            refuse(ask.number, done.error().to_string(), VerifyLater::Again::never);
        });
}

void VerifyFollower::look(Instant now) {
    if (asked_.empty()) return;
    disks_.look_at_fixes();
    std::vector<uint64_t> late;
    for (const auto& [number, asked] : asked_) {
        const bool waits =
            asked.step == Step::settled && asked.ask.purpose == VerifyPurpose::repair;
        if (waits && now - asked.settled > kBytesMax) late.push_back(number);
    }
    for (const uint64_t number : late) {
        drop(number);
        refuse(number, "the bytes of a repair did not come in time");
    }
}

void VerifyFollower::drop(uint64_t number) {
    const auto found = asked_.find(number);
    if (found == asked_.end()) return;
    if (found->second.step != Step::writes) {
        disks_.unfix(found->second.ask.drive, found->second.fix);
    }
    asked_.erase(found);
}

void VerifyFollower::drop_all(const std::string& why) {
    early_.clear();
    while (!asked_.empty()) {
        const uint64_t number = asked_.begin()->first;
        drop(number);
        refuse(number, why);
    }
}

void VerifyFollower::refuse(uint64_t number, std::string why, VerifyLater::Again again) {
    send_(VerifyLater{number, again, std::move(why)});
}

}  // namespace antipode::control
