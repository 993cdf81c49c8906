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

struct Connection {
    uint16_t disk = 0;
};

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

// One piece, and waits for it.
Result<wire::SharedBytes> execute(Group::Request&& request) {
    struct Waiting {
        std::binary_semaphore answered{0};
        Result<> result;
        wire::SharedBytes data;
    };
    const auto waiting = std::make_shared<Waiting>();
    group->submit(std::move(request), [waiting](Result<> result, const wire::SharedBytes& data) {
        waiting->result = std::move(result);
        waiting->data = data;
        waiting->answered.release();
    });
    waiting->answered.acquire();
    if (!waiting->result) return fail(waiting->result.error());
    return waiting->data;
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
    if (name.empty() && config->disks.size() == 1) name = config->disks.front().name.view();
    const auto disk = group->find_disk(name);
    if (!disk) {
        nbdkit_error("antipode: group %s has no disk \"%s\"",
                     std::string(config->node.pair.view()).c_str(), name.c_str());
        nbdkit_set_error(ENOENT);
        return nullptr;
    }
    if (const auto opened = group->open_for_writing(); !opened) {
        refuse(opened.error());
        return nullptr;
    }
    return new Connection{*disk};
}

void plugin_close(void* handle) {
    delete static_cast<Connection*>(handle);
}

int64_t plugin_get_size(void* handle) {
    return static_cast<int64_t>(group->size_bytes(static_cast<Connection*>(handle)->disk));
}

int plugin_block_size(void* handle, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
    *minimum = group->alignment_bytes(static_cast<Connection*>(handle)->disk);
    *preferred = std::max<uint32_t>(4096, *minimum);
    *maximum = 0xffffffff;
    return 0;
}

int yes(void*) {
    return 1;
}
int fua_native(void*) {
    return NBDKIT_FUA_NATIVE;
}

int plugin_pread(void* handle, void* buffer, uint32_t count, uint64_t offset, uint32_t) {
    auto* into = static_cast<char*>(buffer);
    for (uint64_t at = 0; at < count; at += Group::kDataBytesMax) {
        Group::Request request;
        request.disk = static_cast<Connection*>(handle)->disk;
        request.offset_bytes = offset + at;
        request.length_bytes = std::min(Group::kDataBytesMax, count - at);
        const auto data = execute(std::move(request));
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
        request.disk = static_cast<Connection*>(handle)->disk;
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
        request.disk = static_cast<Connection*>(handle)->disk;
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
    request.disk = static_cast<Connection*>(handle)->disk;
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
    made.block_size = plugin_block_size;
    made.can_write = yes;
    made.can_flush = yes;
    made.can_trim = yes;
    made.can_zero = yes;
    made.can_multi_conn = yes;
    made.can_fua = fua_native;
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
