// Random: a small, fast, seedable generator (xoshiro256**, Blackman and Vigna 2018), the same
// numbers on every machine and with every standard library. For simulation and jitter, never for
// keys: those come from OpenSSL. One owner; not thread safe.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace antipode {

class Random {
  public:
    explicit Random(uint64_t seed) {
        for (auto& word : state_) {  // splitmix64 spreads a small seed
            seed += 0x9e3779b97f4a7c15u;
            uint64_t z = seed;
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
            z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
            word = z ^ (z >> 31);
        }
    }

    uint64_t next() {
        const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
        const uint64_t t = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }
    // Uniform in [0, bound); bound > 0. Lemire's multiplication; its bias is below 2^-32 for our
    // bounds.
    uint64_t below(uint64_t bound) {
        return static_cast<uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
    }
    // Uniform in [low, high].
    uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
    // Uniform in [0, 1).
    double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
    bool chance(double probability) { return unit() < probability; }

  private:
    __extension__ typedef unsigned __int128 Wide;
    std::array<uint64_t, 4> state_;
};

}  // namespace antipode
