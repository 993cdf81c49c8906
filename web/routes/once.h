// A request that is done at most once for its Idempotency-Key.
//
//     Once once(services, call);
//     if (auto answer = once.answer()) return std::move(*answer);
//     return once.finished(carry_out(...));
//
// Without a key every request is a new one. Where carrying it out ends without an answer (it
// throws, its coroutine is destroyed), the key is free again: nobody was told of anything, and the
// caller may ask once more.
//
// Threads: the web thread only. The call and the services outlive it.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "web/http/router.h"
#include "web/idempotency.h"
#include "web/services.h"

namespace antipode::web {

class Once {
  public:
    Once(Services& services, const Call& call)
        : idempotency_(services.idempotency),
          actor_(call.principal.name),
          key_(call.request.header("Idempotency-Key")),
          request_(call.request.path + "\n" + call.request.body) {}
    Once(const Once&) = delete;
    Once& operator=(const Once&) = delete;
    ~Once() {
        if (open_) idempotency_.abandon(actor_, key_);
    }

    // What is answered without doing anything: as the first time, or what is wrong with the key.
    std::optional<Response> answer() {
        if (key_.empty()) return std::nullopt;
        auto before = idempotency_.begin(unix_ms_now(), actor_, key_, request_);
        if (!before) {
            const bool reused = before.error().code == Errc::invalid_argument;
            return problem(reused ? 422 : 409, "idempotency", "idempotency key",
                           before.error().context);
        }
        open_ = !before->has_value();
        return std::move(*before);
    }

    Response finished(Response response) {
        if (open_) idempotency_.finish(unix_ms_now(), actor_, key_, request_, response);
        open_ = false;
        return response;
    }

  private:
    Idempotency& idempotency_;
    const std::string actor_;
    const std::string key_;
    const std::string request_;
    bool open_ = false;
};

}  // namespace antipode::web
