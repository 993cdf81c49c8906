// Idempotency keys: an action that is asked for again with the same key is answered as the first
// time and not done again; a key that comes with another request is refused. Kept for a day.
//
// Threads: the web thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "web/http/message.h"
#include "web/store/database.h"

namespace antipode::web {

class Idempotency {
  public:
    static constexpr int64_t kKeptMs = 24 * 60 * 60 * 1000;
    static constexpr size_t kKeyBytesMax = 200;

    explicit Idempotency(Database& database) : database_(database) {}

    // The stored answer; nullopt = go on, and end with finish() or abandon() (web/routes/once.h
    // does it). Errc::busy while the first is
    // under way, Errc::invalid_argument for a key that was used for another request.
    Result<std::optional<Response>> begin(int64_t now, const std::string& actor,
                                          const std::string& key, const std::string& request);
    void finish(int64_t now, const std::string& actor, const std::string& key,
                const std::string& request, const Response& response);
    // It came to nothing that could be answered: the key may be used again.
    void abandon(const std::string& actor, const std::string& key) { open_.erase({actor, key}); }

  private:
    Database& database_;
    std::set<std::pair<std::string, std::string>> open_;
};

}  // namespace antipode::web
