// The nbdkit plugin `antipode`: serves the disks of a Group over NBD, each under its name.
//
//   nbdkit antipode config=/etc/antipode/disks/web1.toml
//
// Threads: nbdkit's, any number at once; each waits for its own request. The group's threads start
// after nbdkit has forked. All connections see one disk: what one has written and been answered,
// any other reads, and a flush covers all of it, so multi-conn is safe.
//
// A client that wants to write makes this site primary if the peer is connected and is not (see
// Group::open_for_writing); else it is turned away with the reason in the log. A secondary's disk
// is not served at all: it would change under its reader.
//
// What stands still at a secondary is served, read only, as DISK@consistent: the last consistent
// point (core/node_view.cc). When that has passed, reads of those who have it open fail, with the
// reason in the log and the events; whoever opens it then gets the next point, or the reason why
// there is none.
#define NBDKIT_API_VERSION 2
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <cerrno>
#include <cstring>
#include <memory>
#include <nbdkit-plugin.h>
#include <semaphore>
#include <string>

#include "disksync/service/group.h"

namespace {

using namespace antipode;
using disksync::Group;

std::string config_path;
std::unique_ptr<disksync::GroupConfig> config;
std::unique_ptr<Group> group;

constexpr std::string_view kViewSuffix = "@consistent";
constexpr const char* kViewDescription = "the last consistent point, read only";

struct Connection {
    uint16_t disk = 0;
    std::optional<Group::View> view;
};

Connection& connection_of(void* handle) {
    return *static_cast<Connection*>(handle);
}

int errno_of(const Error& error) {
    switch (error.code) {
        case Errc::invalid_argument:
            return EINVAL;
        case Errc::no_space:
            return ENOSPC;
        case Errc::denied:
        case Errc::stale_epoch:
            return EPERM;
        case Errc::closed:
            return ESHUTDOWN;
        default:
            return EIO;
    }
}

int refuse(const Error& error) {
    nbdkit_error("antipode: %s", error.context.c_str());
    nbdkit_set_error(errno_of(error));
    return -1;
}

// Gives away an order with a completion, and waits for that.
template <typename Order>
Result<wire::SharedBytes> wait_for(const Order& order) {
    struct Waiting {
        std::binary_semaphore answered{0};
        Result<> result;
        wire::SharedBytes data;
    };
    const auto waiting = std::make_shared<Waiting>();
    order([waiting](Result<> result, const wire::SharedBytes& data) {
        waiting->result = std::move(result);
        waiting->data = data;
        waiting->answered.release();
    });
    waiting->answered.acquire();
    if (!waiting->result) return fail(waiting->result.error());
    return waiting->data;
}

// One piece.
Result<wire::SharedBytes> execute(Group::Request&& request) {
    return wait_for(
        [&](Group::Completion done) { group->submit(std::move(request), std::move(done)); });
}

Result<wire::SharedBytes> read_piece(const Connection& connection, uint64_t offset,
                                     uint64_t length) {
    if (connection.view) {
        auto data = wait_for([&](Group::Completion done) {
            group->read_view(*connection.view, offset, length, std::move(done));
        });
        // To a client it is an error of the disk, not of the connection.
        if (!data && data.error().code == Errc::closed) {
            return fail(Errc::io, "{}", data.error().context);
        }
        return data;
    }
    Group::Request request;
    request.disk = connection.disk;
    request.offset_bytes = offset;
    request.length_bytes = length;
    return execute(std::move(request));
}

disksync::Fua fua_of(uint32_t flags) {
    return (flags & NBDKIT_FLAG_FUA) != 0 ? disksync::Fua::yes : disksync::Fua::no;
}

int plugin_config(const char* key, const char* value) {
    if (std::strcmp(key, "config") != 0) {
        nbdkit_error("antipode: %s is not known; the only parameter is config=FILE", key);
        return -1;
    }
    char* path = nbdkit_absolute_path(value);
    if (path == nullptr) return -1;
    config_path = path;
    ::free(path);
    return 0;
}

int plugin_config_complete() {
    if (config_path.empty()) {
        nbdkit_error("antipode: config=FILE is missing");
        return -1;
    }
    auto loaded = disksync::load_group_config(config_path);
    if (!loaded) return refuse(loaded.error());
    config = std::make_unique<disksync::GroupConfig>(std::move(*loaded));
    return 0;
}

int plugin_after_fork() {
    auto started = Group::start(*config);
    if (!started) return refuse(started.error());
    group = std::move(*started);
    return 0;
}

void plugin_cleanup() {
    group.reset();
}

int plugin_list_exports(int, int, struct nbdkit_exports* exports) {
    for (const disksync::DiskPaths& disk : config->disks) {
        const std::string name(disk.name.view());
        if (nbdkit_add_export(exports, name.c_str(), nullptr) == -1) return -1;
        if (!group->has_point()) continue;
        const std::string view = name + std::string(kViewSuffix);
        if (nbdkit_add_export(exports, view.c_str(), kViewDescription) == -1) {
            return -1;
        }
    }
    return 0;
}

const char* plugin_default_export(int, int) {
    if (config->disks.size() != 1) return "";
    return nbdkit_strdup_intern(std::string(config->disks.front().name.view()).c_str());
}

void* plugin_open(int) {
    const char* given = nbdkit_export_name();
    std::string name = given == nullptr ? "" : given;
    const bool view = name.ends_with(kViewSuffix);
    if (view) name.resize(name.size() - kViewSuffix.size());
    if (name.empty() && config->disks.size() == 1) name = config->disks.front().name.view();
    const auto disk = group->find_disk(name);
    if (!disk) {
        nbdkit_error("antipode: group %s has no disk \"%s\"",
                     std::string(config->node.pair.view()).c_str(), name.c_str());
        nbdkit_set_error(ENOENT);
        return nullptr;
    }
    if (view) {
        const auto opened = group->open_view(*disk);
        if (opened) return new Connection{*disk, *opened};
        refuse(opened.error());
        return nullptr;
    }
    if (const auto opened = group->open_for_writing(); !opened) {
        refuse(opened.error());
        return nullptr;
    }
    return new Connection{*disk, std::nullopt};
}

void plugin_close(void* handle) {
    const std::unique_ptr<Connection> closed(&connection_of(handle));
    if (closed->view) group->close_view(*closed->view);
}

int64_t plugin_get_size(void* handle) {
    return static_cast<int64_t>(group->size_bytes(connection_of(handle).disk));
}

const char* plugin_export_description(void* handle) {
    return connection_of(handle).view ? kViewDescription : nullptr;
}

int plugin_block_size(void* handle, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
    const Connection& connection = connection_of(handle);
    *minimum = group->alignment_bytes(connection.disk);
    *preferred = std::max<uint32_t>(4096, *minimum);
    *maximum = 0xffffffff;
    return 0;
}

int yes(void*) {
    return 1;
}
// nbdkit serves what cannot be written read only, and refuses all that would change it.
int can_change(void* handle) {
    return connection_of(handle).view ? 0 : 1;
}
int can_fua(void* handle) {
    return connection_of(handle).view ? NBDKIT_FUA_NONE : NBDKIT_FUA_NATIVE;
}

int plugin_pread(void* handle, void* buffer, uint32_t count, uint64_t offset, uint32_t) {
    auto* into = static_cast<char*>(buffer);
    for (uint64_t at = 0; at < count; at += Group::kDataBytesMax) {
        const auto data = read_piece(connection_of(handle), offset + at,
                                     std::min(Group::kDataBytesMax, count - at));
        if (!data) return refuse(data.error());
        std::memcpy(into + at, data->data(), data->size());
    }
    return 0;
}

int plugin_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset,
                  uint32_t flags) {
    const auto* from = static_cast<const std::byte*>(buffer);
    for (uint64_t at = 0; at < count; at += Group::kDataBytesMax) {
        Group::Request request;
        request.disk = connection_of(handle).disk;
        request.operation = disksync::StoreOperation::write;
        request.offset_bytes = offset + at;
        request.length_bytes = std::min(Group::kDataBytesMax, count - at);
        request.data = wire::SharedBytes::copy_of({from + at, request.length_bytes});
        request.fua = fua_of(flags);
        const auto done = execute(std::move(request));
        if (!done) return refuse(done.error());
    }
    return 0;
}

int without_data(void* handle, disksync::StoreOperation operation, uint32_t count, uint64_t offset,
                 uint32_t flags) {
    for (uint64_t at = 0; at < count; at += Group::kZeroBytesMax) {
        Group::Request request;
        request.disk = connection_of(handle).disk;
        request.operation = operation;
        request.offset_bytes = offset + at;
        request.length_bytes = std::min(Group::kZeroBytesMax, count - at);
        request.fua = fua_of(flags);
        const auto done = execute(std::move(request));
        if (!done) return refuse(done.error());
    }
    return 0;
}

int plugin_trim(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
    return without_data(handle, disksync::StoreOperation::discard, count, offset, flags);
}

int plugin_zero(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
    return without_data(handle, disksync::StoreOperation::write_zeroes, count, offset, flags);
}

int plugin_flush(void* handle, uint32_t) {
    Group::Request request;
    request.disk = connection_of(handle).disk;
    request.operation = disksync::StoreOperation::flush;
    const auto done = execute(std::move(request));
    return done ? 0 : refuse(done.error());
}

struct nbdkit_plugin make_plugin() {
    struct nbdkit_plugin made = {};
    made.name = "antipode";
    made.longname = "Antipode replicated disk";
    made.description = "A disk with a copy at another site.";
    made.config = plugin_config;
    made.config_complete = plugin_config_complete;
    made.config_help = "config=<FILE>    The group's configuration.";
    made.magic_config_key = "config";
    made.after_fork = plugin_after_fork;
    made.cleanup = plugin_cleanup;
    made.list_exports = plugin_list_exports;
    made.default_export = plugin_default_export;
    made.open = plugin_open;
    made.close = plugin_close;
    made.get_size = plugin_get_size;
    made.export_description = plugin_export_description;
    made.block_size = plugin_block_size;
    made.can_write = can_change;
    made.can_flush = can_change;
    made.can_trim = can_change;
    made.can_zero = can_change;
    made.can_multi_conn = yes;
    made.can_fua = can_fua;
    made.pread = plugin_pread;
    made.pwrite = plugin_pwrite;
    made.trim = plugin_trim;
    made.zero = plugin_zero;
    made.flush = plugin_flush;
    made.errno_is_preserved = 1;
    return made;
}

struct nbdkit_plugin plugin = make_plugin();

}  // namespace

extern "C" {
NBDKIT_REGISTER_PLUGIN(plugin)
}
