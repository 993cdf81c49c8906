#include "tiebreaker/session.h"

#include <array>
#include <boost/asio/post.hpp>

#include "common/base/check.h"
#include "common/base/log.h"

namespace antipode::tiebreaker {
namespace {

constexpr size_t kReadBytes = 4096;
constexpr int kReadsInTurn = 4;  // then others get their turn
// Records that bring nothing (TLS's key updates), and pieces of records on a bad line.
constexpr double kFruitlessPerSecond = 50;
constexpr double kFruitlessBurst = 4000;

}  // namespace

Session::Session(SessionHost& host, std::unique_ptr<env::TlsStream> stream,
                 env::CertificateIdentity identity, const SessionLimits& limits)
    : host_(host),
      stream_(std::move(stream)),
      identity_(std::move(identity)),
      limits_(limits),
      serial_(stream_->peer_serial()),
      described_(fmt::format("{} {} {}", identity_.name, serial_, stream_->peer_address())),
      not_after_(stream_->peer_not_after()),
      bucket_(limits.requests_per_second, limits.requests_burst, MonotonicClock::now()),
      fruitless_(kFruitlessPerSecond, kFruitlessBurst, MonotonicClock::now()),
      last_frame_(MonotonicClock::now()) {}

void Session::start() {
    read();
}

void Session::close(const std::string& reason) {
    if (std::exchange(closed_, true)) return;
    host_.service().leave(*this);
    stream_->close();
    if (pause_timer_) pause_timer_->cancel();
    host_.closed(*this, reason);
}

void Session::refuse(Errc code, const std::string& text) {
    if (closed_) return;
    send(0, wire::ArbiterError{code, text});
    flush();
    close(text);
}

void Session::check_deadlines(Instant now, std::chrono::sys_seconds date) {
    if (closed_) return;
    const auto over = [&](Instant since, std::chrono::milliseconds limit) {
        return now - since > limit;
    };
    if (date > not_after_) return refuse(Errc::denied, "the certificate has expired");
    if (write_since_ && over(*write_since_, limits_.write_limit)) {
        return close("does not read what it is sent");
    }
    if (!greeted_ && over(last_frame_, limits_.hello_limit)) {
        return refuse(Errc::protocol, "said no hello in time");
    }
    if (paused_ || under_way_ > 0) return;  // we make it wait
    if (partial_since_ && over(*partial_since_, limits_.frame_limit)) {
        return refuse(Errc::protocol, "began a frame and did not end it in time");
    }
    if (over(last_frame_, limits_.idle_limit)) close("was silent for too long");
}

void Session::read() {
    reading_ = true;
    for (int turn = 0;; ++turn) {
        if (!take_frames()) break;
        if (turn == kReadsInTurn) {
            boost::asio::post(host_.context(), [self = shared_from_this()] {
                if (!self->closed_ && !self->paused_) self->read();
            });
            break;
        }
        std::array<std::byte, kReadBytes> bytes;
        const auto moved = stream_->read(bytes);
        if (!moved) {
            close(moved.error().context);
            break;
        }
        if (moved->needs != Needs::nothing) {
            if (turn == 0 && !fruitless_.take(MonotonicClock::now())) {
                refuse(Errc::limit, "sends records that hold nothing");
                break;
            }
            stream_->wait(moved->needs,
                          [self = shared_from_this()](const boost::system::error_code&) {
                              if (!self->closed_ && !self->paused_) self->read();
                          });
            break;
        }
        in_.append(std::span(bytes).first(moved->bytes));
        if (!partial_since_) partial_since_ = MonotonicClock::now();
    }
    reading_ = false;
    if (closed_) return;
    const bool full = out_.size() > limits_.out_bytes_max;
    flush();
    if (closed_ || !full || writing_) return;
    // All of it has left at once: no answer and no socket will wake us.
    boost::asio::post(host_.context(), [self = shared_from_this()] { self->resume(); });
}

// Whether to go on reading: neither closed nor paused.
bool Session::take_frames() {
    while (!closed_) {
        if (!may_take_request()) {
            paused_ = true;
            return false;
        }
        auto frame = in_.next();
        if (!frame) {
            refuse(frame.error().code, frame.error().context);
            return false;
        }
        if (!*frame) {
            if (in_.empty()) partial_since_.reset();
            return true;
        }
        last_frame_ = MonotonicClock::now();
        partial_since_ = last_frame_;  // of the next one, if any of it is there
        on_frame(std::move(**frame));
    }
    return false;
}

bool Session::may_take_request() {
    if (under_way_ >= limits_.under_way_max || out_.size() > limits_.out_bytes_max) return false;
    if (in_.empty()) return true;
    const Instant now = MonotonicClock::now();
    const Duration wait = std::max(bucket_.wait(now), host_.site_bucket(identity_.name).wait(now));
    if (wait == Duration::zero()) return true;
    pause_for(wait);
    return false;
}

void Session::pause_for(Duration wait) {
    if (!pause_timer_) {
        pause_timer_ = std::make_unique<boost::asio::steady_timer>(host_.context());
    }
    pause_timer_->expires_after(wait);
    pause_timer_->async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        if (!error) self->resume();
    });
}

void Session::resume() {
    if (closed_ || !std::exchange(paused_, false)) return;
    read();
}

void Session::on_frame(wire::ArbiterFrame frame) {
    (void)bucket_.take(last_frame_);
    (void)host_.site_bucket(identity_.name).take(last_frame_);
    if (const auto* hello = std::get_if<wire::ArbiterHello>(&frame.body)) return on_hello(*hello);
    if (!greeted_) {
        return refuse(Errc::protocol, fmt::format("a {} before the hello", to_string(frame.body)));
    }
    if (const auto* request = std::get_if<wire::Request>(&frame.body)) {
        if (frame.number == 0) return refuse(Errc::protocol, "a request without a number");
        ++under_way_;
        return host_.service().request(shared_from_this(), frame.number, *request);
    }
    if (const auto* watch = std::get_if<wire::ArbiterWatch>(&frame.body)) {
        if (frame.number == 0) return refuse(Errc::protocol, "a watch without a number");
        ++under_way_;
        return host_.service().watch(shared_from_this(), frame.number, *watch);
    }
    if (std::holds_alternative<wire::ArbiterPing>(frame.body)) {
        return send(frame.number, wire::ArbiterPong{});
    }
    refuse(Errc::protocol, fmt::format("{} is not for a tiebreaker", to_string(frame.body)));
}

void Session::on_hello(const wire::ArbiterHello& hello) {
    if (greeted_) return refuse(Errc::protocol, "a second hello");
    if (hello.site != identity_.name) {
        return refuse(Errc::denied, fmt::format("the certificate names {}, the hello {}",
                                                identity_.name, hello.site));
    }
    greeted_ = true;
    send(0, wire::ArbiterWelcome{host_.tiebreaker_name(), limits_.idle_limit});
}

void Session::send(uint64_t number, wire::ArbiterBody body) {
    wire::encode(wire::ArbiterFrame{number, host_.service().identity(), std::move(body)}, out_);
}

void Session::deliver(uint64_t number, wire::ArbiterBody body) {
    FT_CHECK(under_way_ > 0, "an answer to nothing");
    --under_way_;
    if (closed_) return;
    send(number, std::move(body));
    if (reading_) return;
    flush();
    resume();
}

void Session::push(const wire::ArbiterRecord& record) {
    if (closed_) return;
    if (out_.size() > limits_.out_bytes_max) {
        pushes_[record.pair] = record;
        return;
    }
    send(0, record);
    if (!reading_) flush();
}

void Session::send_pushes() {
    while (!pushes_.empty() && out_.size() <= limits_.out_bytes_max) {
        send(0, pushes_.begin()->second);
        pushes_.erase(pushes_.begin());
    }
}

void Session::flush() {
    if (writing_) return;
    while (!closed_ && !out_.empty()) {
        const auto moved = stream_->write(out_);
        if (!moved) return close(moved.error().context);
        if (moved->needs != Needs::nothing) {
            writing_ = true;
            if (!write_since_) write_since_ = MonotonicClock::now();
            stream_->wait(moved->needs,
                          [self = shared_from_this()](const boost::system::error_code&) {
                              self->writing_ = false;
                              self->flush();
                              self->resume();
                          });
            return;
        }
        out_.erase(0, moved->bytes);
        write_since_.reset();
        send_pushes();
    }
    if (out_.empty()) std::string().swap(out_);  // an idle connection holds nothing
}

}  // namespace antipode::tiebreaker
