// Lists as the API answers them: {"items": ..., "next": ...}. Long ones are read page by page, from
// the newest on: `limit` says how many, `before` is the last answer's `next`, which is null on the
// last page.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "web/http/message.h"

namespace antipode::web {

inline Response list_of(json::value items, json::value next = nullptr) {
    json::object out;
    out["items"] = std::move(items);
    out["next"] = std::move(next);
    return Response::from_json(out);
}

// What a question says of its page into `filter`, which has `before` and `limit`. One more than was
// asked for is looked for: it tells whether there is a next page.
template <typename Filter>
Result<> read_page(const Request& request, Filter& filter) {
    FT_TRY(const uint64_t limit, request.query_number("limit", 100, 1000));
    FT_TRY(const uint64_t before, request.query_number("before", 0, uint64_t{1} << 52));
    filter.limit = static_cast<int64_t>(limit) + 1;
    filter.before = static_cast<int64_t>(before);
    return {};
}

// The page of what was found with that filter. `number`: what `before` counts by.
template <typename Item, typename Filter>
Response page_of(std::vector<Item> found, const Filter& filter, int64_t Item::*number) {
    const bool more = static_cast<int64_t>(found.size()) == filter.limit;
    if (more) found.pop_back();
    json::array items;
    for (const Item& item : found) items.push_back(to_json(item));
    json::value next = nullptr;
    if (more && !found.empty()) next = found.back().*number;
    return list_of(std::move(items), std::move(next));
}

}  // namespace antipode::web
