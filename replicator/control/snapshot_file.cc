#include "replicator/control/snapshot_file.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "common/base/freer.h"
#include "replicator/vmm/state_io.h"

namespace antipode::control {
namespace {

using vmm::StateReader;
using vmm::StateWriter;

constexpr std::string_view kMagic = "ANTIPODE SNAPSHOT";
constexpr size_t kMagicBytes = 24;  // filled up with zeros
constexpr size_t kHeaderHashed = kSnapshotHeaderBytes - 8;
constexpr size_t kRecordHashed = kSnapshotRecordHeaderBytes - 8;
constexpr int kCompressionLevel = 1;
constexpr size_t kCompressFromBytes = 512;  // less is stored as it is
constexpr size_t kTextBytesMax = 4096;
constexpr uint32_t kDevicesMax = 256;

enum Kind : uint32_t { kShape = 1, kPiece = 2, kEnd = 3 };

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

std::string get_text(StateReader& in) {
    const auto bytes = in.get_bytes(kTextBytesMax);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::byte> encode(const SnapshotShape& shape) {
    StateWriter out;
    out.put(shape.memory_bytes);
    out.put<uint8_t>(shape.has_entropy ? 1 : 0);
    out.put<uint32_t>(static_cast<uint32_t>(shape.drives.size()));
    for (const auto& drive : shape.drives) {
        out.put_bytes(bytes_of(drive.id));
        out.put(drive.size_bytes);
        out.put<uint8_t>(drive.is_read_only ? 1 : 0);
    }
    out.put<uint32_t>(static_cast<uint32_t>(shape.networks.size()));
    for (const auto& network : shape.networks) {
        out.put_bytes(bytes_of(network.id));
        out.put_fixed(network.mac);
    }
    out.put_bytes(bytes_of(shape.pair));
    out.put_bytes(bytes_of(shape.site));
    out.put(shape.epoch);
    out.put(shape.created_unix_ms);
    out.put_bytes(bytes_of(shape.software));
    if (shape.checkpoint_vcpus != 0) out.put(shape.checkpoint_vcpus);
    return out.take();
}

SnapshotShape decode_shape(StateReader& in, uint32_t version) {
    SnapshotShape shape;
    in.get(shape.memory_bytes);
    shape.has_entropy = in.get_flag();
    const auto drives = in.get<uint32_t>();
    if (drives > kDevicesMax) in.reject("has too many drives");
    for (uint32_t i = 0; i < drives && in.ok(); ++i) {
        SnapshotShape::Drive drive;
        drive.id = get_text(in);
        in.get(drive.size_bytes);
        drive.is_read_only = in.get_flag();
        shape.drives.push_back(std::move(drive));
    }
    const auto networks = in.get<uint32_t>();
    if (networks > kDevicesMax) in.reject("has too many interfaces");
    for (uint32_t i = 0; i < networks && in.ok(); ++i) {
        SnapshotShape::Network network;
        network.id = get_text(in);
        for (uint8_t& each : network.mac) in.get(each);
        shape.networks.push_back(std::move(network));
    }
    shape.pair = get_text(in);
    shape.site = get_text(in);
    in.get(shape.epoch);
    in.get(shape.created_unix_ms);
    shape.software = get_text(in);
    if (version == kSnapshotVersionCheckpoint) {
        in.get(shape.checkpoint_vcpus);
        if (shape.checkpoint_vcpus == 0) in.reject("has no vCPU");
    }
    return shape;
}

// Of the first 24 bytes of a record's header and its body.
uint64_t record_hash(std::span<const std::byte> header, std::span<const std::byte> body) {
    const std::unique_ptr<XXH3_state_t, Freer<XXH3_freeState>> state(XXH3_createState());
    XXH3_64bits_reset(state.get());
    XXH3_64bits_update(state.get(), header.data(), kRecordHashed);
    XXH3_64bits_update(state.get(), body.data(), body.size());
    return XXH3_64bits_digest(state.get());
}

}  // namespace

uint32_t snapshot_version(const SnapshotShape& shape) {
    return shape.checkpoint_vcpus == 0 ? kSnapshotVersion : kSnapshotVersionCheckpoint;
}

SnapshotShape shape_of(const vmm::VmConfig& config, const std::vector<uint64_t>& drive_bytes) {
    SnapshotShape shape;
    shape.memory_bytes = config.mem_size_mib << 20;
    shape.has_entropy = config.has_entropy;
    if (config.mode == vmm::ProtectionMode::checkpoint) shape.checkpoint_vcpus = config.vcpu_count;
    for (size_t i = 0; i < config.drives.size(); ++i) {
        const auto& drive = config.drives[i];
        shape.drives.push_back({drive.drive_id, drive_bytes[i], drive.is_read_only});
    }
    for (const auto& network : config.networks) {
        shape.networks.push_back({network.iface_id, network.guest_mac});
    }
    return shape;
}

Result<void> check_shape(const SnapshotShape& shape, const vmm::VmConfig& config) {
    const auto differs = [](const std::string& what, const auto& wanted, const auto& is) {
        return fail(Errc::invalid_argument, "vm.json: {} is {}, the snapshot's is {}", what, is,
                    wanted);
    };
    if (shape.memory_bytes != config.mem_size_mib << 20) {
        return differs("machine-config.mem_size_mib", shape.memory_bytes >> 20,
                       config.mem_size_mib);
    }
    const bool checkpoints = config.mode == vmm::ProtectionMode::checkpoint;
    if (checkpoints != (shape.checkpoint_vcpus != 0)) {
        const auto name = [](bool is) { return is ? "checkpoint" : "lockstep"; };
        return differs("machine-config.mode", name(!checkpoints), name(checkpoints));
    }
    if (checkpoints && shape.checkpoint_vcpus != config.vcpu_count) {
        return differs("machine-config.vcpu_count", shape.checkpoint_vcpus, config.vcpu_count);
    }
    if (shape.has_entropy != config.has_entropy) {
        return differs("the presence of entropy", shape.has_entropy, config.has_entropy);
    }
    if (shape.drives.size() != config.drives.size()) {
        return differs("the number of drives", shape.drives.size(), config.drives.size());
    }
    if (shape.networks.size() != config.networks.size()) {
        return differs("the number of network-interfaces", shape.networks.size(),
                       config.networks.size());
    }
    for (size_t i = 0; i < shape.drives.size(); ++i) {
        const auto& wanted = shape.drives[i];
        const auto& drive = config.drives[i];
        if (wanted.id != drive.drive_id) {
            return differs(fmt::format("drives[{}].drive_id", i), wanted.id, drive.drive_id);
        }
        if (wanted.is_read_only != drive.is_read_only) {
            return differs("is_read_only of " + wanted.id, wanted.is_read_only, drive.is_read_only);
        }
    }
    for (size_t i = 0; i < shape.networks.size(); ++i) {
        if (shape.networks[i].mac != config.networks[i].guest_mac) {
            return differs(fmt::format("network-interfaces[{}].guest_mac", i),
                           vmm::format_mac(shape.networks[i].mac),
                           vmm::format_mac(config.networks[i].guest_mac));
        }
    }
    return {};
}

// ---- Writing ----

Result<SnapshotWriter> SnapshotWriter::create(std::string path, const SnapshotShape& shape) {
    const std::string partial = path + ".partial";
    // It holds all of the guest's memory: nobody else's to read.
    UniqueFd fd(::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(errno, "{}", partial);
    SnapshotWriter writer(std::move(path), std::move(fd));
    StateWriter header;
    std::array<uint8_t, kMagicBytes> magic{};
    std::copy(kMagic.begin(), kMagic.end(), magic.begin());
    header.put_fixed(magic);
    header.put(snapshot_version(shape));
    header.put<uint32_t>(kSnapshotHeaderBytes);
    for (size_t at = header.bytes().size(); at < kHeaderHashed; ++at) header.put<uint8_t>(0);
    header.put<uint64_t>(XXH3_64bits(header.bytes().data(), kHeaderHashed));
    FT_TRY_VOID(writer.write(header.bytes()));
    FT_TRY_VOID(writer.put(kShape, encode(shape)));
    return writer;
}

SnapshotWriter::SnapshotWriter(SnapshotWriter&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      fd_(std::move(other.fd_)),
      offset_(other.offset_),
      record_count_(other.record_count_),
      plain_bytes_(other.plain_bytes_),
      compressed_(std::move(other.compressed_)) {}

SnapshotWriter::~SnapshotWriter() {
    if (!path_.empty()) ::unlink(partial().c_str());
}

Result<void> SnapshotWriter::write(std::span<const std::byte> bytes) {
    offset_ += bytes.size();
    while (!bytes.empty()) {
        const ssize_t count = ::write(fd_.get(), bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(errno, "{}", partial());
        bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return {};
}

Result<void> SnapshotWriter::put(uint32_t kind, std::span<const std::byte> body) {
    if (body.size() > kSnapshotRecordBytesMax) {
        return fail(Errc::limit, "{}: a record of {} bytes", partial(), body.size());
    }
    std::span<const std::byte> stored = body;
    if (body.size() >= kCompressFromBytes) {
        compressed_.resize(ZSTD_compressBound(body.size()));
        const size_t size = ZSTD_compress(compressed_.data(), compressed_.size(), body.data(),
                                          body.size(), kCompressionLevel);
        if (ZSTD_isError(size) == 0 && size < body.size()) {
            stored = std::span<const std::byte>(compressed_).first(size);
        }
    }
    StateWriter header;
    header.put(kind);
    header.put<uint32_t>(static_cast<uint32_t>(stored.size()));
    header.put<uint32_t>(static_cast<uint32_t>(body.size()));
    header.put<uint32_t>(0);
    header.put(record_count_);
    header.put(record_hash(header.bytes(), stored));
    FT_TRY_VOID(write(header.bytes()));
    FT_TRY_VOID(write(stored));
    ++record_count_;
    plain_bytes_ += body.size();
    return {};
}

Result<void> SnapshotWriter::add(std::span<const std::byte> piece) {
    return put(kPiece, piece);
}

Result<void> SnapshotWriter::finish() {
    StateWriter end;
    end.put(record_count_);
    end.put(plain_bytes_);
    FT_TRY_VOID(put(kEnd, end.bytes()));
    if (::fsync(fd_.get()) != 0) return fail_errno(errno, "{}", partial());
    if (::rename(partial().c_str(), path_.c_str()) != 0) return fail_errno(errno, "{}", path_);
    const std::string folder = std::filesystem::path(path_).parent_path();
    const UniqueFd directory(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC));
    path_.clear();
    if (!directory || ::fsync(directory.get()) != 0) return fail_errno(errno, "{}", folder);
    return {};
}

// ---- Reading ----

Result<SnapshotReader> SnapshotReader::open(const std::string& path) {
    auto fd = std::make_shared<UniqueFd>(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!*fd) return fail_errno(errno, "{}", path);
    return create(path, [fd, path](uint64_t offset, std::span<std::byte> into) -> Result<size_t> {
        size_t filled = 0;
        while (filled < into.size()) {
            const ssize_t count = ::pread(fd->get(), into.data() + filled, into.size() - filled,
                                          static_cast<off_t>(offset + filled));
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return fail_errno(errno, "{} at offset {}", path, offset + filled);
            if (count == 0) break;
            filled += static_cast<size_t>(count);
        }
        return filled;
    });
}

Result<SnapshotReader> SnapshotReader::create(std::string name, Source source) {
    SnapshotReader reader(std::move(name), std::move(source));
    FT_TRY(const uint32_t version, reader.read_header());
    FT_TRY(const Record record, reader.read_record());
    if (record.kind != kShape) return reader.broken("the first record is not the VM's shape");
    reader.plain_bytes_ = record.body.size();
    StateReader in(record.body);
    reader.shape_ = decode_shape(in, version);
    if (!in.ok()) return reader.broken(fmt::format("the VM's shape {}", in.problem()));
    if (!in.at_end()) return reader.broken("the VM's shape has bytes behind its end");
    return reader;
}

Failure SnapshotReader::broken(const std::string& rule) const {
    return fail(Errc::corrupt, "{}: record {} at offset {}: {}", name_, record_count_, offset_,
                rule);
}

Result<void> SnapshotReader::fill(uint64_t offset, std::span<std::byte> into,
                                  const char* what) const {
    FT_TRY(const size_t count, source_(offset, into));
    if (count == into.size()) return {};
    return fail(Errc::corrupt, "{}: cut off at offset {}, in {} {}", name_, offset + count, what,
                record_count_);
}

Result<uint32_t> SnapshotReader::read_header() {
    std::array<std::byte, kSnapshotHeaderBytes> header{};
    FT_TRY(const size_t count, source_(0, header));
    std::array<char, kMagicBytes> magic{};
    std::copy(kMagic.begin(), kMagic.end(), magic.begin());
    if (count < kMagicBytes || std::memcmp(header.data(), magic.data(), kMagicBytes) != 0) {
        return fail(Errc::corrupt, "{}: offset 0: this is no snapshot", name_);
    }
    if (count < header.size()) {
        return fail(Errc::corrupt, "{}: cut off at offset {}, in the header", name_, count);
    }
    StateReader in(std::span<const std::byte>(header).subspan(kMagicBytes));
    const auto version = in.get<uint32_t>();
    // Before the checksum: another version may have it elsewhere.
    if (version != kSnapshotVersion && version != kSnapshotVersionCheckpoint) {
        return fail(Errc::version, "{}: offset {}: version is {}, this program reads {} and {}",
                    name_, kMagicBytes, version, kSnapshotVersion, kSnapshotVersionCheckpoint);
    }
    uint64_t hash = 0;
    std::memcpy(&hash, header.data() + kHeaderHashed, sizeof hash);
    if (hash != XXH3_64bits(header.data(), kHeaderHashed)) {
        return fail(Errc::corrupt, "{}: offset {}: the header's checksum does not match", name_,
                    kHeaderHashed);
    }
    offset_ = kSnapshotHeaderBytes;
    return version;
}

Result<SnapshotReader::Record> SnapshotReader::read_record() {
    std::array<std::byte, kSnapshotRecordHeaderBytes> header{};
    FT_TRY_VOID(fill(offset_, header, "the header of record"));
    StateReader in(header);
    Record record;
    in.get(record.kind);
    const auto stored_bytes = in.get<uint32_t>();
    const auto plain_bytes = in.get<uint32_t>();
    const auto reserved = in.get<uint32_t>();
    const auto number = in.get<uint64_t>();
    const auto hash = in.get<uint64_t>();
    if (stored_bytes > plain_bytes || plain_bytes > kSnapshotRecordBytesMax || reserved != 0) {
        return broken("its header cannot be");
    }
    std::vector<std::byte> stored(stored_bytes);
    FT_TRY_VOID(fill(offset_ + header.size(), stored, "record"));
    if (hash != record_hash(header, stored)) return broken("its checksum does not match");
    if (number != record_count_) return broken(fmt::format("it says that it is number {}", number));
    if (stored_bytes == plain_bytes) {
        record.body = std::move(stored);
    } else {
        record.body.resize(plain_bytes);
        const size_t size =
            ZSTD_decompress(record.body.data(), record.body.size(), stored.data(), stored.size());
        if (ZSTD_isError(size) != 0 || size != plain_bytes) return broken("it does not unpack");
    }
    ++record_count_;
    offset_ += header.size() + stored_bytes;
    stored_bytes_ = stored_bytes;
    return record;
}

Result<std::optional<std::vector<std::byte>>> SnapshotReader::next() {
    if (ended_) return std::optional<std::vector<std::byte>>();
    const uint64_t at = offset_;
    FT_TRY(Record record, read_record());
    if (record.kind == kPiece) {
        plain_bytes_ += record.body.size();
        return std::optional(std::move(record.body));
    }
    offset_ = at;  // for the error
    --record_count_;
    if (record.kind != kEnd) return broken(fmt::format("kind {} is not known", record.kind));
    FT_TRY_VOID(read_end(record));
    return std::optional<std::vector<std::byte>>();
}

Result<void> SnapshotReader::read_end(const Record& record) {
    StateReader in(record.body);
    const auto count = in.get<uint64_t>();
    const auto plain_bytes = in.get<uint64_t>();
    if (!in.ok() || !in.at_end()) return broken("the end record has another size");
    if (count != record_count_) return broken(fmt::format("it ends {} records", count));
    if (plain_bytes != plain_bytes_) return broken(fmt::format("it ends {} bytes", plain_bytes));
    offset_ += kSnapshotRecordHeaderBytes + stored_bytes_;
    std::array<std::byte, 1> more{};
    FT_TRY(const size_t behind, source_(offset_, more));
    if (behind != 0) return broken("bytes behind the end");
    ended_ = true;
    return {};
}

}  // namespace antipode::control
