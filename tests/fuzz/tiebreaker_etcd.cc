// What etcd answers and what stands in it: none of it is trusted. The first byte says which decoder
// looks at the rest; what it takes is written again as it was.
#include <cstdint>
#include <string_view>

#include "common/base/check.h"
#include "tiebreaker/etcd/kv.h"
#include "tiebreaker/etcd/layout.h"
#include "tiebreaker/history_line.h"

namespace {

using namespace antipode;
using namespace antipode::tiebreaker;

template <typename T>
void same(const Result<T>& value, std::string_view bytes) {
    if (value) FT_CHECK(encode(*value) == bytes, "not written as it was read");
}

void transaction(std::string_view text) {
    etcd::Transaction asked;
    asked.puts = {{"k", "v"}};
    asked.otherwise = {"k", "l"};
    const auto answer = etcd::decode_transaction(text, asked);
    if (!answer) return;
    FT_CHECK(answer->succeeded || answer->read.size() == 2, "a read that was not answered");
    FT_CHECK(answer->header.cluster_id != 0, "an answer of no cluster");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0] % 7) {
        case 0:
            transaction(bytes);
            break;
        case 1:
            (void)etcd::decode_range(bytes);
            break;
        case 2:
            (void)etcd::decode_refusal(bytes);
            (void)etcd::decode_size(bytes);
            break;
        case 3:
            (void)etcd::decode_store(bytes);
            break;
        case 4:
            same(etcd::decode_end(bytes), bytes);
            break;
        case 5:
            same(etcd::decode_lines(bytes), bytes);
            break;
        case 6:
            if (const auto line = decode_history_line(bytes)) {
                FT_CHECK(encode_history_line(*line, line->sequence) == bytes,
                         "not written as it was read");
            }
            break;
    }
    return 0;
}
