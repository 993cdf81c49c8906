#include "web/services.h"

#include "web/http/router.h"

namespace antipode::web {

Result<> Services::note(const Call& call, std::string action, std::string target,
                        std::string outcome, std::string detail) const {
    AuditEntry entry;
    entry.time_unix_ms = unix_ms_now();
    entry.actor = call.principal.name;
    entry.via = call.principal.via;
    entry.remote = call.request.remote;
    entry.action = std::move(action);
    entry.target = std::move(target);
    entry.outcome = std::move(outcome);
    entry.detail = std::move(detail);
    return audit.add(entry);
}

Result<> Services::change(const Call& call, std::string action, std::string target,
                          std::string detail, const std::function<Result<>()>& work) const {
    auto done = database.transaction([&]() -> Result<> {
        FT_TRY_VOID(work());
        return note(call, action, target, "ok", detail);
    });
    if (done) return done;
    const std::string why =
        detail.empty() ? done.error().context : detail + ": " + done.error().context;
    FT_TRY_VOID(note(call, std::move(action), std::move(target), "refused", why));
    return done;
}

void Services::close_streams_of(std::string_view user) const {
    hub.close_of(stream_owner(user));
}

std::string stream_owner(std::string_view user) {
    return "session " + std::string(user);
}

}  // namespace antipode::web
