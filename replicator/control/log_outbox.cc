#include "replicator/control/log_outbox.h"

#include <algorithm>

#include "common/base/check.h"

namespace antipode::control {

LogIndex LogOutbox::add(replay::LogEntry entry) {
    const auto bytes = static_cast<uint32_t>(replay::encoded_bytes_max(entry));
    last_exit_ = entry.exit;
    pending_.push_back(std::move(entry));
    sizes_.push_back(bytes);
    unacknowledged_bytes_ += bytes;
    return LogIndex(next_index_++);
}

void LogOutbox::make_batches(ExitNumber passed, OutputNumber released, uint64_t guest_clock_ns) {
    if (passed > last_exit_) (void)add({passed, replay::Passed{}});
    while (!pending_.empty()) {
        replay::LogBatch batch;
        batch.first = LogIndex(next_index_ - pending_.size());
        batch.released = released;
        batch.guest_clock_ns = guest_clock_ns;
        size_t bytes = 0;
        while (!pending_.empty() && batch.entries.size() < replay::LogBatch::kEntriesMax) {
            bytes += replay::encoded_bytes_max(pending_.front());
            if (bytes > replay::LogBatch::kBytesMax / 2) break;
            batch.entries.push_back(std::move(pending_.front()));
            pending_.pop_front();
        }
        FT_CHECK(!batch.entries.empty(), "an entry larger than a batch");
        const LogIndex last(batch.first.value() + batch.entries.size() - 1);
        batches_.push_back({last, replay::encode(batch), {}});
    }
}

const LogOutbox::Batch* LogOutbox::next_batch() const {
    return next_batch_ < batches_.size() ? &batches_[next_batch_] : nullptr;
}

void LogOutbox::sent(Epoch epoch) {
    FT_CHECK(next_batch_ < batches_.size(), "nothing was to be sent");
    batches_[next_batch_++].sent_in = epoch;
}

bool LogOutbox::sent_all_in(Epoch epoch) const {
    const auto out = batches_.begin() + static_cast<ptrdiff_t>(next_batch_);
    return std::all_of(batches_.begin(), out,
                       [&](const Batch& batch) { return batch.sent_in == epoch; });
}

void LogOutbox::drop_all() {
    pending_.clear();
    batches_.clear();
    next_batch_ = 0;
    sizes_.clear();
    unacknowledged_bytes_ = 0;
    acknowledged_ = last();
}

void LogOutbox::acknowledge(LogIndex index) {
    if (index <= acknowledged_) return;
    FT_CHECK(index <= last(), "acknowledged {} of {}", index, last());
    const uint64_t count = index.value() - acknowledged_.value();
    for (uint64_t i = 0; i < count; ++i) {
        unacknowledged_bytes_ -= sizes_.front();
        sizes_.pop_front();
    }
    acknowledged_ = index;
    while (!batches_.empty() && batches_.front().last <= index) {
        batches_.pop_front();
        if (next_batch_ > 0) --next_batch_;
    }
}

void LogOutbox::restart_after(LogIndex last) {
    *this = LogOutbox{};
    next_index_ = last.value() + 1;
    acknowledged_ = last;
}

}  // namespace antipode::control
