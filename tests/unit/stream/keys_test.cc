// Key files, ZAP requests and captures: what is read from elsewhere, and what is said about it.
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replicator/stream/capture.h"
#include "replicator/stream/curve_keys.h"
#include "replicator/stream/heartbeat.h"
#include "replicator/stream/zap.h"

namespace antipode::stream {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class KeyFiles : public testing::Test {
  protected:
    KeyFiles() {
        std::string name = "/tmp/antipode-keys-XXXXXX";
        EXPECT_NE(mkdtemp(name.data()), nullptr);
        directory = name;
    }
    ~KeyFiles() override {
        for (const auto& name : names) ::unlink((directory + "/" + name).c_str());
        ::rmdir(directory.c_str());
    }
    std::string path(const std::string& name) {
        names.push_back(name);
        return directory + "/" + name;
    }
    std::string file(const std::string& name, const std::string& text, mode_t mode = 0600) {
        const std::string where = path(name);
        std::ofstream(where) << text;
        ::chmod(where.c_str(), mode);
        return where;
    }
    std::string directory;
    std::vector<std::string> names;
};

template <typename T>
std::string error_of(const Result<T>& result) {
    return result ? std::string("none") : result.error().context;
}

TEST_F(KeyFiles, what_is_written_is_read) {
    const auto key = path("channel.key");
    const auto pub = path("channel.pub");
    const auto written = write_new_curve_keys(key, pub);
    ASSERT_TRUE(written.has_value()) << written.error().to_string();
    struct stat status {};
    ASSERT_EQ(::stat(key.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    const auto pair = load_curve_key_pair(key);
    ASSERT_TRUE(pair.has_value()) << pair.error().to_string();
    EXPECT_EQ(pair->secret_z85, written->secret_z85);
    const auto peer = load_curve_public_key(pub);
    ASSERT_TRUE(peer.has_value());
    EXPECT_EQ(*peer, pair->public_key);
}

TEST_F(KeyFiles, nothing_is_overwritten) {
    const auto key = path("channel.key");
    const auto pub = file("channel.pub", "precious");
    const auto written = write_new_curve_keys(key, pub);
    ASSERT_FALSE(written.has_value());
    EXPECT_EQ(written.error().code, Errc::already_exists);
    EXPECT_THAT(written.error().context, HasSubstr(pub));
    EXPECT_NE(::access(key.c_str(), F_OK), 0) << "nothing half-made is left behind";
}

TEST_F(KeyFiles, errors_name_file_and_line) {
    const auto pair = *generate_curve_keys();
    const auto other = *generate_curve_keys();
    const std::string good = pair.secret_z85 + "\n" + pair.public_key.z85 + "\n";
    EXPECT_EQ(error_of(load_curve_key_pair(directory + "/none")),
              "channel key " + directory + "/none: No such file or directory");
    EXPECT_EQ(error_of(load_curve_key_pair(directory)),
              "channel key " + directory + ": not a file");
    EXPECT_THAT(error_of(load_curve_key_pair(file("open", good, 0644))),
                HasSubstr("mode is 0644, others must not have access"));
    EXPECT_THAT(error_of(load_curve_key_pair(file("huge", std::string(5000, '#')))),
                HasSubstr("longer than 4096 bytes"));
    EXPECT_EQ(error_of(parse_curve_key_pair(pair.secret_z85, "k")),
              "k: holds 1 keys, expected 2: the secret key, then the public key");
    EXPECT_EQ(error_of(parse_curve_key_pair("# mine\n\n" + good + other.public_key.z85, "k")),
              "k: holds 3 keys, expected 2: the secret key, then the public key");
    EXPECT_EQ(error_of(parse_curve_key_pair("short\n" + pair.public_key.z85, "k")),
              "k:1: secret key has 5 characters, expected 40 (Z85)");
    std::string spoiled = pair.public_key.z85;
    spoiled[7] = '"';
    EXPECT_EQ(error_of(parse_curve_key_pair(pair.secret_z85 + "\n" + spoiled, "k")),
              "k:2: public key is not Z85 text");
    EXPECT_EQ(
        error_of(parse_curve_key_pair(pair.secret_z85 + "\n" + other.public_key.z85 + "\n", "k")),
        "k: the public key does not belong to the secret key");
    EXPECT_EQ(error_of(parse_curve_public_key(good, "p")),
              "p: holds 2 keys, expected 1: the peer's public key");
    EXPECT_EQ(error_of(parse_curve_public_key("", "p")),
              "p: holds 0 keys, expected 1: the peer's public key");
    EXPECT_TRUE(parse_curve_key_pair("# mine\r\n" + good, "k").has_value());
}

TEST_F(KeyFiles, heartbeat_keys) {
    const auto where = path("heartbeat.key");
    const auto written = write_new_heartbeat_key(where);
    ASSERT_TRUE(written.has_value());
    EXPECT_EQ(*load_heartbeat_key(where), *written);
    EXPECT_EQ(write_new_heartbeat_key(where).error().code, Errc::already_exists);
    EXPECT_EQ(error_of(parse_heartbeat_key("abc", "h")),
              "h: 3 characters, expected 64 hexadecimal digits");
    EXPECT_EQ(error_of(parse_heartbeat_key(std::string(63, 'a') + "g", "h")),
              "h: character 64 is no hexadecimal digit");
    EXPECT_EQ(error_of(parse_heartbeat_key("0x" + std::string(62, 'a'), "h")),
              "h: character 2 is no hexadecimal digit");
}

// ---- ZAP ----

std::vector<std::byte> frame(std::string_view text) {
    const auto view = std::as_bytes(std::span(text));
    return {view.begin(), view.end()};
}

std::vector<std::vector<std::byte>> request() {
    return {frame("1.0"), frame("17"),    frame("antipode"),          frame("10.0.0.2"),
            frame(""),    frame("CURVE"), frame(std::string(32, 'k'))};
}

CurveKeyBytes key_of(char fill) {
    CurveKeyBytes key;
    key.fill(static_cast<std::byte>(fill));
    return key;
}

TEST(Zap, only_the_pinned_key_is_let_in) {
    const auto parsed = parse_zap_request(request());
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(parsed->address, "10.0.0.2");
    EXPECT_EQ(judge(*parsed, key_of('k')), ZapVerdict::allowed);
    for (size_t i = 0; i < kCurveKeyBytes; ++i) {
        CurveKeyBytes other = key_of('k');
        other[i] ^= std::byte{1};
        EXPECT_EQ(judge(*parsed, other), ZapVerdict::denied);
    }
    EXPECT_THAT(zap_answer(parsed->request_id, ZapVerdict::allowed),
                ElementsAre("1.0", "17", "200", "OK", "peer", ""));
    EXPECT_EQ(zap_answer(parsed->request_id, ZapVerdict::denied)[2], "400");
    EXPECT_EQ(zap_answer(parsed->request_id, ZapVerdict::later)[2], "300") << "and it tries again";
}

TEST(Zap, anything_else_is_no_request) {
    auto frames = request();
    frames.pop_back();
    EXPECT_EQ(error_of(parse_zap_request(frames)), "ZAP: 6 frames, expected 7");
    frames = request();
    frames.push_back(frame("more"));
    EXPECT_EQ(error_of(parse_zap_request(frames)), "ZAP: 8 frames, expected 7");
    frames = request();
    frames[0] = frame("2.0");
    EXPECT_EQ(error_of(parse_zap_request(frames)), "ZAP: version is not 1.0");
    frames = request();
    frames[5] = frame("PLAIN");
    EXPECT_EQ(error_of(parse_zap_request(frames)), "ZAP: mechanism is not CURVE");
    frames = request();
    frames[6].pop_back();
    EXPECT_EQ(error_of(parse_zap_request(frames)), "ZAP: key has 31 bytes, expected 32");
    frames = request();
    frames[2].resize(300);
    EXPECT_EQ(error_of(parse_zap_request(frames)), "ZAP: a frame of 300 bytes, at most 256");
    EXPECT_FALSE(parse_zap_request({}).has_value());
    frames = request();
    frames[3] = frame("10.0.0.2\n forged line");
    EXPECT_EQ(parse_zap_request(frames)->address, "10.0.0.2? forged line");
}

// ---- Captures ----

std::vector<std::byte> read_all(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    return frame(text);
}

class Capture : public KeyFiles {};

TEST_F(Capture, what_is_written_is_read) {
    const auto where = path("capture");
    const Instant at{std::chrono::nanoseconds(123456)};
    {
        auto writer = CaptureWriter::create(where, 1 << 20);
        ASSERT_TRUE(writer.has_value());
        (*writer)->write(Direction::sent, 1, frame("one"), at);
        (*writer)->write(Direction::received, 0, frame(""), at);
    }
    const auto bytes = read_all(where);
    auto reader = CaptureReader::create(bytes);
    ASSERT_TRUE(reader.has_value());
    EXPECT_EQ(**reader->next(), (CaptureRecord{123456, Direction::sent, 1, frame("one")}));
    EXPECT_EQ(**reader->next(), (CaptureRecord{123456, Direction::received, 0, {}}));
    EXPECT_FALSE(reader->next()->has_value());
    EXPECT_FALSE(reader->cut_off());
}

TEST_F(Capture, ends_before_a_record_that_is_cut_off) {
    const auto where = path("capture");
    {
        auto writer = *CaptureWriter::create(where, 1 << 20);
        writer->write(Direction::sent, 0, frame("one"), Instant());
        writer->write(Direction::sent, 0, frame("two"), Instant());
    }
    const auto whole = read_all(where);
    const size_t first_end = kCaptureHeaderBytes + kCaptureRecordBytes + 3;
    for (size_t length = first_end; length < whole.size(); ++length) {
        auto reader = *CaptureReader::create(std::span(whole).first(length));
        EXPECT_TRUE(reader.next()->has_value());
        const auto second = reader.next();
        ASSERT_TRUE(second.has_value());
        EXPECT_FALSE(second->has_value());
        EXPECT_EQ(reader.cut_off(), length > first_end);
    }
}

TEST_F(Capture, respects_its_size_limit) {
    const auto where = path("capture");
    {
        auto writer = *CaptureWriter::create(where, 1000);
        for (int i = 0; i < 100; ++i) {
            writer->write(Direction::sent, 0, frame("0123456789"), Instant());
        }
    }
    EXPECT_LE(read_all(where).size(), 1000 + kCaptureHeaderBytes);
}

TEST_F(Capture, what_is_none_is_named) {
    EXPECT_EQ(error_of(CaptureReader::create(frame("short"))), "not a capture: too short");
    EXPECT_EQ(error_of(CaptureReader::create(frame(std::string(40, 'x')))),
              "not a capture: its first bytes are others");
    auto bytes = frame(std::string("APcapt1\0", 8) + std::string(8, '\0'));
    bytes.resize(bytes.size() + kCaptureRecordBytes, std::byte{0xff});
    auto reader = *CaptureReader::create(bytes);
    EXPECT_EQ(error_of(reader.next()), "offset 16: a frame of 4294967295 bytes, at most 528640");
}

}  // namespace
}  // namespace antipode::stream
