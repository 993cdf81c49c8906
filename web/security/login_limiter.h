// Slows down guessing. Failures are counted per address and per name, each in a bucket that drains
// with time; a full bucket refuses, before any password is looked at. A right password empties its
// own.
//
// Threads: a value. Pure: time is an argument.
// INVARIANTS: bounded memory, by dropping the emptiest; one address cannot lock a name out for
// everybody, as a name's bucket is larger than an address's.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "common/base/clock.h"

namespace antipode::web {

class LoginLimiter {
  public:
    static constexpr double kOfAddress = 8;
    static constexpr double kOfName = 40;
    static constexpr double kDrainPerSecond = 8.0 / 300;  // eight in five minutes
    static constexpr size_t kBucketsMax = 20'000;

    // How long to wait; nullopt = go on.
    std::optional<std::chrono::seconds> refused(const std::string& address, const std::string& name,
                                                Instant now) const;
    void failed(const std::string& address, const std::string& name, Instant now);
    void succeeded(const std::string& address, const std::string& name);
    size_t bucket_count() const { return buckets_.size(); }

  private:
    struct Bucket {
        double level = 0;
        Instant at;
    };
    static double level_at(const Bucket& bucket, Instant now);
    void add(const std::string& key, double most, Instant now);
    void shrink(Instant now);

    std::map<std::string, Bucket> buckets_;
};

}  // namespace antipode::web
