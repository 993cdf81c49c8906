#include "web/http/live.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace antipode::web {

namespace asio = boost::asio;

Message make_message(std::string_view name, std::string_view data) {
    std::string text;
    text.reserve(name.size() + data.size() + 16);
    text.append("event: ").append(name).append("\ndata: ").append(data).append("\n\n");
    return std::make_shared<const std::string>(std::move(text));
}

void Subscription::push(Message message) {
    if (closed_) return;
    queued_bytes_ += message->size();
    if (queued_bytes_ > kQueueBytesMax) {
        close();
        return;
    }
    queue_.push_back(std::move(message));
    wake_.cancel();
}

void Subscription::close() {
    closed_ = true;
    queue_.clear();
    queued_bytes_ = 0;
    wake_.cancel();
}

bool Subscription::wants(std::string_view topic) const {
    return std::find(topics_.begin(), topics_.end(), topic) != topics_.end();
}

asio::awaitable<Message> Subscription::next(std::chrono::milliseconds patience) {
    static const Message kKeepAlive = std::make_shared<const std::string>(": keep-alive\n\n");
    if (queue_.empty() && !closed_) {
        wake_.expires_after(patience);
        co_await wake_.async_wait(asio::as_tuple(asio::use_awaitable));
    }
    if (closed_) co_return nullptr;
    if (queue_.empty()) co_return kKeepAlive;
    Message message = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= message->size();
    co_return message;
}

Result<std::shared_ptr<Subscription>> LiveHub::subscribe(std::vector<std::string> topics,
                                                         std::string owner) {
    std::erase_if(subscribers_, [](const auto& weak) { return weak.expired(); });
    if (subscribers_.size() >= subscribers_max_) {
        return fail(Errc::limit, "{} live subscribers are connected, no more are allowed",
                    subscribers_max_);
    }
    auto made = std::make_shared<Subscription>(executor_, std::move(topics), std::move(owner));
    subscribers_.push_back(made);
    return made;
}

void LiveHub::publish(std::string_view topic, const Message& message) {
    for (const auto& weak : subscribers_) {
        const auto subscriber = weak.lock();
        if (!subscriber || subscriber->closed() || !subscriber->wants(topic)) continue;
        subscriber->push(message);
        if (subscriber->closed()) ++cut_;
    }
}

bool LiveHub::wanted(std::string_view topic) const {
    return std::any_of(subscribers_.begin(), subscribers_.end(), [&](const auto& weak) {
        const auto subscriber = weak.lock();
        return subscriber && !subscriber->closed() && subscriber->wants(topic);
    });
}

size_t LiveHub::subscriber_count() const {
    return static_cast<size_t>(std::count_if(subscribers_.begin(), subscribers_.end(),
                                             [](const auto& weak) { return !weak.expired(); }));
}

void LiveHub::close_of(std::string_view owner) {
    for (const auto& weak : subscribers_) {
        const auto subscriber = weak.lock();
        if (subscriber && subscriber->owner() == owner) subscriber->close();
    }
}

void LiveHub::close_all() {
    for (const auto& weak : subscribers_) {
        if (const auto subscriber = weak.lock()) subscriber->close();
    }
}

}  // namespace antipode::web
