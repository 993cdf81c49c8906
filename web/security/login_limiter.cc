#include "web/security/login_limiter.h"

#include <algorithm>
#include <cmath>

namespace antipode::web {
namespace {

std::string address_key(const std::string& address) {
    return "a " + address;
}
std::string name_key(const std::string& name) {
    return "n " + name;
}

}  // namespace

double LoginLimiter::level_at(const Bucket& bucket, Instant now) {
    const double seconds = std::chrono::duration<double>(now - bucket.at).count();
    return std::max(0.0, bucket.level - seconds * kDrainPerSecond);
}

std::optional<std::chrono::seconds> LoginLimiter::refused(const std::string& address,
                                                          const std::string& name,
                                                          Instant now) const {
    double over = -1;
    const auto check = [&](const std::string& key, double most) {
        const auto found = buckets_.find(key);
        if (found == buckets_.end()) return;
        over = std::max(over, level_at(found->second, now) - (most - 1));
    };
    check(address_key(address), kOfAddress);
    check(name_key(name), kOfName);
    if (over <= 0) return std::nullopt;
    return std::chrono::seconds(static_cast<int64_t>(std::ceil(over / kDrainPerSecond)));
}

void LoginLimiter::add(const std::string& key, double most, Instant now) {
    Bucket& bucket = buckets_[key];
    bucket.level = std::min(most, level_at(bucket, now) + 1);
    bucket.at = now;
}

void LoginLimiter::failed(const std::string& address, const std::string& name, Instant now) {
    if (buckets_.size() + 2 > kBucketsMax) shrink(now);
    add(address_key(address), kOfAddress, now);
    add(name_key(name), kOfName, now);
}

void LoginLimiter::succeeded(const std::string& address, const std::string& name) {
    buckets_.erase(address_key(address));
    buckets_.erase(name_key(name));
}

void LoginLimiter::shrink(Instant now) {
    std::erase_if(buckets_, [&](const auto& entry) { return level_at(entry.second, now) <= 0; });
    if (buckets_.size() + 2 <= kBucketsMax) return;
    // Every bucket is in use, by as many addresses: drop those with the least in them.
    std::erase_if(buckets_, [&](const auto& entry) { return level_at(entry.second, now) <= 1; });
    while (buckets_.size() + 2 > kBucketsMax) buckets_.erase(buckets_.begin());
}

}  // namespace antipode::web
