#include "web/idempotency.h"

#include "common/base/log.h"
#include "web/security/secrets.h"

namespace antipode::web {

Result<std::optional<Response>> Idempotency::begin(int64_t now, const std::string& actor,
                                                   const std::string& key,
                                                   const std::string& request) {
    if (key.empty() || key.size() > kKeyBytesMax) {
        return fail(Errc::invalid_argument, "Idempotency-Key: has {} bytes, 1 to {} are allowed",
                    key.size(), kKeyBytesMax);
    }
    if (open_.contains({actor, key})) {
        return fail(Errc::busy, "the first request with this Idempotency-Key is under way");
    }
    std::optional<Response> stored;
    std::string known_request;
    FT_TRY_VOID(database_.query(
        "SELECT request, status, body FROM idempotency WHERE actor=? AND key=? AND "
        "created_unix_ms>?",
        {actor, key, now - kKeptMs}, [&](const SqlRow& row) {
            known_request = row.text(0);
            stored.emplace();
            stored->status = static_cast<unsigned>(row.number(1));
            stored->content_type =
                stored->status >= 400 ? "application/problem+json" : "application/json";
            stored->body = row.text(2);
            stored->with("Idempotency-Replayed", "true");
        }));
    if (stored && known_request != digest_of(request)) {
        return fail(Errc::invalid_argument, "Idempotency-Key: was used for another request");
    }
    if (!stored) open_.emplace(actor, key);
    return stored;
}

void Idempotency::finish(int64_t now, const std::string& actor, const std::string& key,
                         const std::string& request, const Response& response) {
    open_.erase({actor, key});
    auto done =
        database_.run("DELETE FROM idempotency WHERE created_unix_ms <= ?", {now - kKeptMs});
    if (done) {
        done = database_.run(
            "INSERT OR REPLACE INTO idempotency (actor, key, request, status, body, "
            "created_unix_ms) "
            "VALUES (?,?,?,?,?,?)",
            {actor, key, digest_of(request), static_cast<int64_t>(response.status), response.body,
             now});
    }
    if (!done) logger("web").error("idempotency: {}", done.error().to_string());
}

}  // namespace antipode::web
