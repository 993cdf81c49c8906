// antipode-dump: prints what a channel captured (ChannelConfig::capture_path).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>

#include "replicator/control/message_text.h"
#include "replicator/control/node_message.h"
#include "replicator/replay/log_entry.h"
#include "replicator/stream/capture_dump.h"

namespace antipode {
namespace {

// Entries of log batches by kind ("timer-tick"): how many, and what they take before compression.
class EntryCounts {
  public:
    void add(const replay::LogBatch& batch, size_t batch_bytes) {
        const auto sizes = replay::entry_bytes(batch);
        for (size_t i = 0; i < sizes.size(); ++i) {
            add(replay::kind_of(batch.entries[i]), sizes[i]);
            batch_bytes -= sizes[i];
        }
        add("batch-header", batch_bytes);
    }
    std::string text() const {
        std::string out;
        for (const auto& [kind, sum] : kinds_) {
            out +=
                fmt::format("entries {}: {} in {} bytes, {:.2f} each\n", kind, sum.count, sum.bytes,
                            static_cast<double>(sum.bytes) / static_cast<double>(sum.count));
        }
        return out;
    }

  private:
    struct Sum {
        uint64_t count = 0;
        uint64_t bytes = 0;
    };
    void add(std::string_view kind, size_t bytes) {
        ++kinds_[kind].count;
        kinds_[kind].bytes += bytes;
    }
    std::map<std::string_view, Sum> kinds_;
};

int dump(const std::string& path, const stream::DumpOptions& options) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
        std::fprintf(stderr, "antipode-dump: %s: cannot be read\n", path.c_str());
        return 1;
    }
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    auto reader = stream::CaptureReader::create(std::as_bytes(std::span(text)));
    if (!reader) {
        std::fprintf(stderr, "antipode-dump: %s: %s\n", path.c_str(),
                     reader.error().to_string().c_str());
        return 1;
    }
    EntryCounts counts;
    stream::CaptureDump dumper(options, [&](wire::MessageClass message_class, uint8_t type,
                                            std::span<const std::byte> payload) {
        if (type == static_cast<uint8_t>(control::NodeMessage::log_batch)) {
            if (const auto batch = replay::decode_log_batch(payload)) {
                counts.add(*batch, payload.size());
            }
        }
        return control::message_text(message_class, type, payload);
    });
    for (;;) {
        const auto record = reader->next();
        if (!record) {
            std::fprintf(stderr, "antipode-dump: %s: %s\n", path.c_str(),
                         record.error().to_string().c_str());
            return 1;
        }
        if (!*record) break;
        const std::string lines = dumper.record(**record);
        std::fwrite(lines.data(), 1, lines.size(), stdout);
    }
    const std::string summary = dumper.summary() + counts.text();
    std::fwrite(summary.data(), 1, summary.size(), stdout);
    if (reader->cut_off()) {
        std::fprintf(stderr, "antipode-dump: %s: the last record, at offset %zu, is cut off\n",
                     path.c_str(), reader->offset());
    }
    return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace antipode

int main(int argc, char** argv) {
    CLI::App app("Prints the frames and messages of a captured logging channel");
    app.set_version_flag("--version", ANTIPODE_VERSION);
    std::string path;
    antipode::stream::DumpOptions options;
    bool quiet = false;
    app.add_option("FILE", path, "A capture")->required();
    app.add_flag("-m,--messages", options.messages,
                 "Put messages together and print them, log entries one by one");
    app.add_flag("-c,--count", options.count,
                 "Count log entries by kind, and what they take before compression");
    app.add_option("--from", options.from_seconds,
                   "Show and count nothing before this time of the capture, in seconds");
    app.add_flag("-q,--no-frames", quiet, "No line for each frame");
    app.add_option("--hex", options.hex_bytes_max, "Bytes to show of messages without a format")
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    options.frames = !quiet;
    return antipode::dump(path, options);
}
