// Group: clients that read the last consistent point.
#include <future>

#include "disksync/service/group.h"

namespace antipode::disksync {

namespace {

constexpr std::chrono::seconds kPointLimit(4);

}  // namespace

Result<Group::View> Group::open_view(uint16_t disk) {
    using Opened = Result<View>;
    const auto promise = std::make_shared<std::promise<Opened>>();
    auto future = promise->get_future();
    {
        const std::lock_guard core(core_);
        if (shut_) return fail(Errc::closed, "the disk is shut down");
    }
    post([this, promise, disk] {
        const Name name = config_.disks[disk].name;
        const auto settled = [this]() -> std::optional<Result<>> {
            const PointStatus point = node_->status().point;
            if (point.number) return Result<>();
            if (point.soon) return std::nullopt;
            return fail(Errc::denied, "{}", point.reason);
        };
        const auto done = [this, promise, disk, name](const Result<>& result) {
            const PointStatus point = node_->status().point;
            if (!result || !point.number) {
                return promise->set_value(
                    Opened(fail(Errc::denied, "disk {}: no view of a consistent point: {}", name,
                                point.reason.empty() ? result.error().context : point.reason)));
            }
            uint32_t open = 0;
            for (const uint32_t each : views_open_) open += each;
            if (open >= kViewsMax) {
                return promise->set_value(Opened(
                    fail(Errc::limit, "disk {}: {} views are open, and no more", name, open)));
            }
            ++views_open_[disk];
            viewed_point_ = point.number;
            promise->set_value(Opened(View{disk, *point.number}));
        };
        wait_until(settled, done, kPointLimit);
    });
    return future.get();
}

void Group::close_view(const View& view) {
    const std::lock_guard core(core_);
    --views_open_[view.disk];
}

void Group::read_view(const View& view, uint64_t offset_bytes, uint64_t length_bytes,
                      Completion done) {
    const std::lock_guard core(core_);
    if (shut_) return done(fail(Errc::closed, "the disk is shut down"), {});
    ViewRead read;
    read.id = next_request_++;
    read.disk = view.disk;
    read.point = view.point;
    read.offset_bytes = offset_bytes;
    read.length_bytes = length_bytes;
    completions_.emplace(read.id, std::move(done));
    input([&](Node& node) { node.read_view(std::move(read)); });
}

bool Group::has_point() {
    const std::lock_guard core(core_);
    return node_->point().has_value();
}

// An operator who wonders why a client's copying ended in an error finds it here.
void Group::tell_views() {
    if (!viewed_point_ || node_->point() == viewed_point_) return;
    viewed_point_.reset();
    uint32_t open = 0;
    for (const uint32_t each : views_open_) open += each;
    if (open == 0) return;
    NodeEvent event;
    event.key = "point";
    event.text = fmt::format("the consistent point of {} open views has passed: {}", open,
                             node_->point_ended());
    record(event);
}

}  // namespace antipode::disksync
