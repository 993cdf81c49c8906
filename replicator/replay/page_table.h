// PageTable: what the backup has in each page, as a hash, so that a page that was written with what
// it held already is not sent.
//
// 128 bits of XXH3 a page: 0.4 % of the VM's memory. Two different pages of one VM with equal
// hashes are not to be expected in the life of the universe, and nobody who writes guest memory
// gains by it but the loss of his own VM's backup.
//
// One thread at a time. INVARIANT: `sent()` follows the log: what it was told last is what the
// backup has, once it has what was logged.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace antipode::replay {

class PageTable {
  public:
    explicit PageTable(uint64_t page_count) : hashes_(page_count) {}

    // False: the backup has this page. True: it is to be sent, and counts as sent.
    bool changed(uint64_t page, std::span<const std::byte> bytes);
    // Nothing is known of what the backup has.
    void forget();

  private:
    struct Hash {
        uint64_t low = 0;
        uint64_t high = 0;
        bool operator==(const Hash&) const = default;
    };
    std::vector<Hash> hashes_;  // zero: not known
};

}  // namespace antipode::replay
