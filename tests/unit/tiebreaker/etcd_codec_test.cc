// What is said to etcd and what stands in it: JSON of the gateway, values of format 1 byte for
// byte, the mark, addresses.
#include "tests/unit/tiebreaker/fixture.h"
#include "tiebreaker/atomic_file.h"
#include "tiebreaker/etcd/client.h"
#include "tiebreaker/etcd/kv.h"
#include "tiebreaker/etcd/layout.h"
#include "tiebreaker/etcd/mark.h"
#include "tiebreaker/history_line.h"

namespace antipode::tiebreaker::etcd {
namespace {

std::string hex(std::string_view bytes) {
    std::string out;
    for (const char byte : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(byte));
    return out;
}

TEST(EtcdGateway, ATransactionAsEtcdWantsIt) {
    Transaction transaction;
    transaction.compares = {{"k", 7, {}}, {"e", 0, "v"}};
    transaction.puts = {{"k", "new"}};
    transaction.otherwise = {"k"};
    EXPECT_EQ(encode(transaction),
              R"({"compare":[{"target":"MOD","result":"EQUAL","key":"aw==","mod_revision":"7"},)"
              R"({"target":"MOD","result":"EQUAL","key":"ZQ==","mod_revision":"0"},)"
              R"({"target":"VALUE","result":"EQUAL","key":"ZQ==","value":"dg=="}],)"
              R"("success":[{"request_put":{"key":"aw==","value":"bmV3"}}],)"
              R"("failure":[{"request_range":{"key":"aw=="}}]})");
    const auto done = decode_transaction(
        R"({"header":{"cluster_id":"18356651462332683079","revision":"9"},"succeeded":true,)"
        R"("responses":[{"response_put":{"header":{"revision":"9"}}}]})",
        transaction);
    ASSERT_TRUE(done.has_value()) << done.error().context;
    EXPECT_TRUE(done->succeeded);
    EXPECT_EQ(done->header.revision, 9u);
    EXPECT_EQ(done->header.cluster_id, 18356651462332683079u);
    const auto moved = decode_transaction(
        R"({"header":{"cluster_id":"1","revision":"9"},"responses":[{"response_range":)"
        R"({"kvs":[{"key":"aw==","create_revision":"2","mod_revision":"8","value":"djE="}]}}]})",
        transaction);
    ASSERT_TRUE(moved.has_value());
    EXPECT_FALSE(moved->succeeded);
    EXPECT_EQ(moved->read.at(0).value, "v1");
    EXPECT_EQ(moved->read.at(0).mod_revision, 8u);
}

TEST(EtcdGateway, AnswersThatCannotBeAreRefused) {
    Transaction transaction;
    transaction.otherwise = {"k"};
    for (const char* json : {
             "", "[]", "{}", "{\"header\":{}}",
             "{\"header\":{\"cluster_id\":1,\"revision\":\"1\"}}",
             "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"x\"}}",
             R"({"header":{"cluster_id":"1","revision":"1"}})",  // a response is missing
             R"({"header":{"cluster_id":"1","revision":"1"},"succeeded":"yes"})",
             R"({"header":{"cluster_id":"1","revision":"1"},"responses":[{}]})",
             R"({"header":{"cluster_id":"1","revision":"1"},"responses":[{"response_range":)"
             R"({"kvs":[{"key":"bA==","mod_revision":"8"}]}}]})",  // another key
             R"({"header":{"cluster_id":"1","revision":"1"},"responses":[{"response_range":)"
             R"({"kvs":[{"key":"aw=="}]}}]})",  // without mod_revision
         }) {
        const auto answer = decode_transaction(json, transaction);
        ASSERT_FALSE(answer.has_value()) << json;
        EXPECT_EQ(answer.error().code, Errc::protocol) << json;
    }
    EXPECT_FALSE(decode_range(R"({"header":{"cluster_id":"1","revision":"1"},"kvs":7})"));
    EXPECT_EQ(decode_refusal("<html>").code, 0);
    const Refusal refusal = decode_refusal(R"({"error":"e","message":"full","code":8})");
    EXPECT_EQ(refusal.code, 8);
    EXPECT_EQ(refusal.message, "full");
}

TEST(EtcdGateway, HowLargeAMemberIs) {
    const auto size =
        decode_size(R"({"header":{"cluster_id":"1"},"dbSize":"24576","dbSizeInUse":"16384"})");
    ASSERT_TRUE(size) << size.error().context;
    EXPECT_EQ(*size, 24576u);
    for (const char* wrong : {"", "[]", "{}", R"({"dbSize":24576})", R"({"dbSize":"many"})"}) {
        EXPECT_FALSE(decode_size(wrong)) << wrong;
    }
}

TEST(EtcdGateway, ARangeAsEtcdWantsIt) {
    Range range;
    range.key = "/a/";
    range.end = end_of("/a/");
    range.keys_max = 5;
    range.newest_first = true;
    range.written_since = 4;
    EXPECT_EQ(encode(range),
              R"({"key":"L2Ev","range_end":"L2Ew","limit":"5","min_mod_revision":"4",)"
              R"("sort_order":"DESCEND","sort_target":"KEY"})");
    EXPECT_EQ(end_of("a\xff"), "b");
}

TEST(EtcdGateway, OnlyEncryptedEndpointsAreTaken) {
    const auto endpoint = Endpoint::parse("https://etcd1.example.org:2379");
    ASSERT_TRUE(endpoint.has_value());
    EXPECT_EQ(endpoint->host, "etcd1.example.org");
    EXPECT_EQ(endpoint->port, "2379");
    EXPECT_EQ(Endpoint::parse("https://[::1]:2379/")->host, "::1");
    for (const char* wrong :
         {"http://h:1", "h:1", "https://h", "https://:1", "https://h:0", "https://h:65536",
          "https://h:1x", "https://h/x:1", "https://::1:5", "https://[::1]", "https://[x]:5", ""}) {
        const auto parsed = Endpoint::parse(wrong);
        ASSERT_FALSE(parsed.has_value()) << wrong;
        EXPECT_NE(parsed.error().context.find(wrong), std::string::npos);
    }
    EXPECT_NE(Endpoint::parse("http://h:1").error().context.find("is not encrypted"),
              std::string::npos);
    EXPECT_TRUE(check_prefix("/antipode/").has_value());
    for (const char* wrong : {"", "/", "antipode/", "/antipode", "/a b/", "/a\n/"}) {
        EXPECT_FALSE(check_prefix(wrong).has_value()) << wrong;
    }
}

TEST(EtcdLayout, BytesOfFormatOneNeverChange) {
    StoreInfo info{wire::StoreIdentity(0x0123456789abcdef), 0xfe, {}};
    EXPECT_EQ(encode(info),
              R"({"format":1,"identity":"0123456789abcdef","cluster":"00000000000000fe"})");
    info.condemned = "why";
    EXPECT_EQ(*decode_store(encode(info)), info);
    End end{5, 2, std::string(32, 'c'), std::string(16, 'n')};
    EXPECT_EQ(hex(encode(end)),
              "41504545"
              "0500000000000000"
              "0200000000000000" +
                  hex(std::string(32, 'c')) + hex(std::string(16, 'n')));
    EXPECT_EQ(*decode_end(encode(end)), end);
    const Lines lines{std::string(32, 'c'), std::string(16, 'n'), {"ab", ""}};
    EXPECT_EQ(hex(encode(lines)),
              "41504548"
              "0100"
              "0200" +
                  hex(std::string(32, 'c')) + hex(std::string(16, 'n')) +
                  "02000000"
                  "6162"
                  "00000000");
    EXPECT_EQ(*decode_lines(encode(lines)), lines);
    EXPECT_EQ(Keys("/p/").history(42), "/p/history/00000000000000000042");
}

TEST(EtcdLayout, CutShortOrTooLongIsRefused) {
    const std::string end = encode(End{});
    const std::string lines = encode(Lines{End{}.chain, End{}.nonce, {"abc", "d"}});
    for (size_t bytes = 0; bytes < end.size(); ++bytes) {
        EXPECT_FALSE(decode_end(std::string_view(end).substr(0, bytes)).has_value());
    }
    for (size_t bytes = 0; bytes < lines.size(); ++bytes) {
        EXPECT_FALSE(decode_lines(std::string_view(lines).substr(0, bytes)).has_value()) << bytes;
    }
    EXPECT_FALSE(decode_end(end + "x").has_value());
    EXPECT_FALSE(decode_lines(lines + "x").has_value());
    for (const char* wrong : {"", "{}", R"({"format":1})", R"({"format":1,"identity":"0"})",
                              R"({"format":1,"identity":"zz","cluster":"1"})"}) {
        EXPECT_FALSE(decode_store(wrong).has_value()) << wrong;
    }
    const auto newer = decode_store(R"({"format":2,"identity":"1","cluster":"1"})");
    EXPECT_EQ(newer.error().code, Errc::version);
}

TEST(HistoryLine, BytesNeverChange) {
    Decided line =
        *testing::commit_of(testing::record_of("web1", 7, wire::StoreIdentity(9)), 0).history;
    line.unlisted = 3;
    const std::string bytes = encode_history_line(line, 12);
    EXPECT_EQ(hex(chain_after(std::string(32, '\0'), bytes)),
              "92fcf71c42f769df6be1d4b4bb81efa85cf53de78e7fe09c8f04e8ce8d2c4b78");
    auto back = decode_history_line(bytes);
    ASSERT_TRUE(back.has_value()) << back.error().context;
    EXPECT_EQ(back->sequence, 12u);
    EXPECT_EQ(encode_history_line(*back, 12), bytes);
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
        EXPECT_FALSE(decode_history_line(std::string_view(bytes).substr(0, cut)).has_value());
    }
    EXPECT_FALSE(decode_history_line(bytes + "x").has_value());
}

class MarkTest : public ::testing::Test {
  protected:
    std::optional<Mark> read() {
        auto file = MarkFile::open(path_);
        EXPECT_TRUE(file.has_value()) << file.error().context;
        return file ? (*file)->mark() : std::nullopt;
    }
    // Tips a bit of one of the two sectors.
    void damage(size_t slot) {
        auto bytes = read_file(path_, 4096);
        ASSERT_TRUE(bytes.has_value());
        (*bytes)[slot * 512 + 40] ^= 1;
        ASSERT_TRUE(write_file(path_, *bytes, 0600, Existing::replace));
    }
    testing::TempDirectory directory_;
    std::string path_ = directory_ / "mark";
    const Mark one_{wire::StoreIdentity(1), 2, 3, std::string(32, 'a')};
    const Mark two_{wire::StoreIdentity(1), 2, 4, std::string(32, 'b')};
};

TEST_F(MarkTest, TheNewestSoundCopyCounts) {
    EXPECT_FALSE(read().has_value());
    for (int i = 0; i < 3; ++i) {
        for (const Mark& mark : {one_, two_}) {
            auto file = MarkFile::open(path_);
            ASSERT_TRUE((*file)->write(mark));
            EXPECT_EQ((*file)->mark(), mark);
            file->reset();
            EXPECT_EQ(read(), mark);
        }
    }
    damage(0);  // the sixth write went to the first sector
    EXPECT_EQ(read(), one_);
    damage(1);
    const auto both = MarkFile::open(path_);
    ASSERT_FALSE(both.has_value());
    EXPECT_EQ(both.error().code, Errc::corrupt);
}

TEST_F(MarkTest, AFirstWriteThatWasCutShortIsNone) {
    { ASSERT_TRUE((*MarkFile::open(path_))->write(one_)); }
    damage(1);
    EXPECT_FALSE(read().has_value());
}

TEST_F(MarkTest, AFileThatIsNoneIsRefused) {
    ASSERT_TRUE(write_file(path_, "x", 0600, Existing::replace));
    EXPECT_EQ(MarkFile::open(path_).error().code, Errc::corrupt);
}

}  // namespace
}  // namespace antipode::tiebreaker::etcd
