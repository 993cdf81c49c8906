#include "tests/unit/tiebreaker/power_loss_vfs.h"

#include <gtest/gtest.h>
#include <map>
#include <mutex>
#include <new>
#include <sqlite3.h>
#include <vector>

#include "tiebreaker/atomic_file.h"

namespace antipode::tiebreaker::testing {
namespace {

struct Disk {
    std::mutex mutex;
    std::map<std::string, std::string> synced;  // by path
    size_t syncs = 0;
    size_t fail_in = 0;  // 0: never
    int fail_code = SQLITE_OK;
    PowerLossVfs::Failure failure = PowerLossVfs::Failure::once;
    bool failed = false;
};
Disk* g_disk = nullptr;
sqlite3_vfs g_vfs;
sqlite3_vfs* g_real = nullptr;

struct File {
    sqlite3_file base;
    std::string* path;
    // The real VFS's file follows, g_real->szOsFile bytes.
};
sqlite3_file* real(sqlite3_file* file) {
    return reinterpret_cast<sqlite3_file*>(reinterpret_cast<char*>(file) + sizeof(File));
}

std::string content_of(sqlite3_file* file) {
    sqlite3_int64 bytes = 0;
    real(file)->pMethods->xFileSize(real(file), &bytes);
    std::string content(static_cast<size_t>(bytes), '\0');
    if (bytes > 0) {
        real(file)->pMethods->xRead(real(file), content.data(), static_cast<int>(bytes), 0);
    }
    return content;
}

// What a write is to fail with, if it is.
int failure() {
    const std::lock_guard lock(g_disk->mutex);
    if (g_disk->fail_in == 0) return SQLITE_OK;
    if (g_disk->fail_in > 1) {
        --g_disk->fail_in;
        return SQLITE_OK;
    }
    if (g_disk->failure == PowerLossVfs::Failure::once) g_disk->fail_in = 0;
    g_disk->failed = true;
    return g_disk->fail_code;
}

int close_file(sqlite3_file* file) {
    const int result = real(file)->pMethods->xClose(real(file));
    delete reinterpret_cast<File*>(file)->path;
    return result;
}
int read_file_part(sqlite3_file* file, void* into, int bytes, sqlite3_int64 at) {
    return real(file)->pMethods->xRead(real(file), into, bytes, at);
}
int write_file_part(sqlite3_file* file, const void* from, int bytes, sqlite3_int64 at) {
    if (const int code = failure(); code != SQLITE_OK) return code;
    return real(file)->pMethods->xWrite(real(file), from, bytes, at);
}
int truncate(sqlite3_file* file, sqlite3_int64 bytes) {
    if (const int code = failure(); code != SQLITE_OK) return code;
    return real(file)->pMethods->xTruncate(real(file), bytes);
}
int sync(sqlite3_file* file, int flags) {
    if (const int code = failure(); code != SQLITE_OK) return code;
    const int result = real(file)->pMethods->xSync(real(file), flags);
    if (result != SQLITE_OK) return result;
    std::string content = content_of(file);
    const std::lock_guard lock(g_disk->mutex);
    ++g_disk->syncs;
    g_disk->synced[*reinterpret_cast<File*>(file)->path] = std::move(content);
    return SQLITE_OK;
}
int file_size(sqlite3_file* file, sqlite3_int64* bytes) {
    return real(file)->pMethods->xFileSize(real(file), bytes);
}
int lock_file_part(sqlite3_file* file, int level) {
    return real(file)->pMethods->xLock(real(file), level);
}
int unlock(sqlite3_file* file, int level) {
    return real(file)->pMethods->xUnlock(real(file), level);
}
int check_lock(sqlite3_file* file, int* out) {
    return real(file)->pMethods->xCheckReservedLock(real(file), out);
}
int control(sqlite3_file* file, int what, void* argument) {
    return real(file)->pMethods->xFileControl(real(file), what, argument);
}
int sector(sqlite3_file* file) {
    return real(file)->pMethods->xSectorSize(real(file));
}
int characteristics(sqlite3_file* file) {
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}
int shm_map(sqlite3_file* file, int page, int bytes, int extend, void volatile** out) {
    return real(file)->pMethods->xShmMap(real(file), page, bytes, extend, out);
}
int shm_lock(sqlite3_file* file, int offset, int count, int flags) {
    return real(file)->pMethods->xShmLock(real(file), offset, count, flags);
}
void shm_barrier(sqlite3_file* file) {
    real(file)->pMethods->xShmBarrier(real(file));
}
int shm_unmap(sqlite3_file* file, int remove) {
    return real(file)->pMethods->xShmUnmap(real(file), remove);
}

const sqlite3_io_methods kMethods{
    2,           close_file, read_file_part,  write_file_part, truncate,
    sync,        file_size,  lock_file_part,  unlock,          check_lock,
    control,     sector,     characteristics, shm_map,         shm_lock,
    shm_barrier, shm_unmap,  nullptr,         nullptr};

int open_file(sqlite3_vfs*, const char* path, sqlite3_file* file, int flags, int* out_flags) {
    const int result = g_real->xOpen(g_real, path, real(file), flags, out_flags);
    auto* made = new (file) File{};
    if (result != SQLITE_OK) return result;
    made->path = new std::string(path == nullptr ? "" : path);
    made->base.pMethods = &kMethods;
    // What was there before us is on the disk.
    const std::lock_guard lock(g_disk->mutex);
    g_disk->synced.try_emplace(*made->path, content_of(file));
    return SQLITE_OK;
}

}  // namespace

PowerLossVfs::PowerLossVfs() {
    EXPECT_EQ(g_disk, nullptr);
    g_disk = new Disk();
    g_real = sqlite3_vfs_find(nullptr);
    g_vfs = *g_real;
    g_vfs.pNext = nullptr;
    g_vfs.zName = "power-loss";
    g_vfs.szOsFile = static_cast<int>(sizeof(File)) + g_real->szOsFile;
    g_vfs.xOpen = open_file;
    // The other calls take the real one's state from their first argument.
    g_vfs.pAppData = g_real->pAppData;
    sqlite3_vfs_register(&g_vfs, 1);
}

PowerLossVfs::~PowerLossVfs() {
    sqlite3_vfs_unregister(&g_vfs);
    sqlite3_vfs_register(g_real, 1);
    delete g_disk;
    g_disk = nullptr;
}

void PowerLossVfs::survivors(const std::string& from, const std::string& to) const {
    const std::lock_guard lock(g_disk->mutex);
    for (const auto& [path, content] : g_disk->synced) {
        const size_t slash = path.rfind('/');
        if (path.substr(0, slash) != from) continue;
        EXPECT_TRUE(write_file(to + path.substr(slash), content, 0600, Existing::replace));
    }
}

void PowerLossVfs::fail_at(size_t number, int code, Failure failure) {
    const std::lock_guard lock(g_disk->mutex);
    g_disk->fail_in = number;
    g_disk->fail_code = code;
    g_disk->failure = failure;
    g_disk->failed = false;
}

bool PowerLossVfs::has_failed() const {
    const std::lock_guard lock(g_disk->mutex);
    return g_disk->failed;
}

size_t PowerLossVfs::sync_count() const {
    const std::lock_guard lock(g_disk->mutex);
    return g_disk->syncs;
}

}  // namespace antipode::tiebreaker::testing
