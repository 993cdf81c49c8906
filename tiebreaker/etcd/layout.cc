#include "tiebreaker/etcd/layout.h"

#include <boost/endian/conversion.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <cstring>

#include "common/base/check.h"

namespace antipode::tiebreaker::etcd {
namespace {

namespace json = boost::json;

constexpr std::string_view kEndMagic = "APEE";
constexpr std::string_view kHistoryMagic = "APEH";
constexpr int64_t kStoreFormat = 1;
constexpr uint16_t kHistoryFormat = 1;
constexpr size_t kChainBytes = 32;
constexpr size_t kNonceBytes = 16;
constexpr size_t kPrefixBytesMax = 64;

template <typename Number>
void put(std::string& out, Number value) {
    const Number little = boost::endian::native_to_little(value);
    out.append(reinterpret_cast<const char*>(&little), sizeof(little));
}

// Takes pieces off the front; empty once it was asked for more than there is.
class Reader {
  public:
    explicit Reader(std::string_view bytes) : rest_(bytes) {}
    std::string_view bytes(size_t count) {
        if (count > rest_.size()) {
            sound_ = false;
            rest_ = {};
            return {};
        }
        const std::string_view out = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return out;
    }
    template <typename Number>
    Number number() {
        const std::string_view from = bytes(sizeof(Number));
        Number little{};
        if (sound_) std::memcpy(&little, from.data(), sizeof(little));
        return boost::endian::little_to_native(little);
    }
    bool sound() const { return sound_; }
    bool done() const { return sound_ && rest_.empty(); }

  private:
    std::string_view rest_;
    bool sound_ = true;
};

Result<uint64_t> hex(const json::object& from, std::string_view key) {
    const json::value* value = from.if_contains(key);
    uint64_t out = 0;
    if (value != nullptr && value->is_string()) {
        const json::string& text = value->get_string();
        const char* end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data(), end, out, 16);
        if (error == std::errc() && stop == end && out != 0) return out;
    }
    return fail(Errc::corrupt, "'{}' is no number in hexadecimal", key);
}

}  // namespace

std::string Keys::history(uint64_t last_sequence) const {
    return fmt::format("{}{:020}", histories(), last_sequence);
}

Result<> check_prefix(const std::string& prefix) {
    const bool good = prefix.size() >= 2 && prefix.size() <= kPrefixBytesMax &&
                      prefix.front() == '/' && prefix.back() == '/' &&
                      prefix.find_first_not_of(
                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                          "0123456789-_./") == std::string::npos;
    if (good) return {};
    return fail(Errc::invalid_argument,
                "prefix '{}': expected /.../, at most {} letters, digits and -_.", prefix,
                kPrefixBytesMax);
}

std::string encode(const StoreInfo& info) {
    json::object out{{"format", kStoreFormat},
                     {"identity", fmt::format("{:016x}", info.identity.value())},
                     {"cluster", fmt::format("{:016x}", info.cluster_id)}};
    if (!info.condemned.empty()) out["condemned"] = info.condemned;
    return json::serialize(out);
}

Result<StoreInfo> decode_store(std::string_view bytes) {
    boost::system::error_code error;
    const json::value value = json::parse(bytes, error);
    if (error || !value.is_object()) return fail(Errc::corrupt, "is no JSON object");
    const json::object& object = value.get_object();
    const json::value* format = object.if_contains("format");
    if (format == nullptr || !format->is_int64()) return fail(Errc::corrupt, "has no format");
    if (format->get_int64() != kStoreFormat) {
        return fail(Errc::version, "has format {}, this program knows {}", format->get_int64(),
                    kStoreFormat);
    }
    StoreInfo out;
    FT_TRY(const uint64_t identity, hex(object, "identity"));
    out.identity = wire::StoreIdentity(identity);
    FT_TRY(out.cluster_id, hex(object, "cluster"));
    if (const json::value* condemned = object.if_contains("condemned")) {
        const json::string* why = condemned->if_string();
        out.condemned = why != nullptr && !why->empty() ? std::string(*why) : "without a reason";
    }
    return out;
}

std::string encode(const End& end) {
    FT_CHECK(end.chain.size() == kChainBytes && end.nonce.size() == kNonceBytes, "end's sizes");
    std::string out(kEndMagic);
    put(out, end.sequence);
    put(out, end.pairs);
    return out + end.chain + end.nonce;
}

Result<End> decode_end(std::string_view bytes) {
    Reader from(bytes);
    const bool magic = from.bytes(kEndMagic.size()) == kEndMagic;
    End out;
    out.sequence = from.number<uint64_t>();
    out.pairs = from.number<uint64_t>();
    out.chain = from.bytes(kChainBytes);
    out.nonce = from.bytes(kNonceBytes);
    if (!magic || !from.done()) return fail(Errc::corrupt, "end: is none of ours");
    return out;
}

std::string encode(const Lines& lines) {
    FT_CHECK(lines.chain.size() == kChainBytes && lines.nonce.size() == kNonceBytes &&
                 lines.lines.size() <= UINT16_MAX,
             "history's sizes");
    std::string out(kHistoryMagic);
    put(out, kHistoryFormat);
    put(out, static_cast<uint16_t>(lines.lines.size()));
    out += lines.chain;
    out += lines.nonce;
    for (const std::string& line : lines.lines) {
        put(out, static_cast<uint32_t>(line.size()));
        out += line;
    }
    return out;
}

Result<Lines> decode_lines(std::string_view bytes) {
    Reader from(bytes);
    if (from.bytes(kHistoryMagic.size()) != kHistoryMagic) {
        return fail(Errc::corrupt, "history: is none of ours");
    }
    const auto format = from.number<uint16_t>();
    if (from.sound() && format != kHistoryFormat) {
        return fail(Errc::version, "history: has format {}, this program knows {}", format,
                    kHistoryFormat);
    }
    const auto count = from.number<uint16_t>();
    Lines out;
    out.chain = from.bytes(kChainBytes);
    out.nonce = from.bytes(kNonceBytes);
    for (uint16_t i = 0; i < count && from.sound(); ++i) {
        out.lines.emplace_back(from.bytes(from.number<uint32_t>()));
    }
    if (!from.done()) return fail(Errc::corrupt, "history: is cut short, or too long");
    return out;
}

}  // namespace antipode::tiebreaker::etcd
