// Small files that are there whole or not at all: written beside, flushed, renamed, and the
// directory flushed, so that a crash leaves the old file or the new one.
//
// Threads: any. On failure nothing is left behind; the error names the file.
#pragma once

#include <string>
#include <string_view>
#include <sys/types.h>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace antipode::tiebreaker {

enum class Existing : uint8_t { keep = 1, replace };  // keep: already_exists if it is there

Result<> write_file(const std::string& path, std::string_view bytes, mode_t mode,
                    Existing existing);
// At most bytes_max; more is an error.
Result<std::string> read_file(const std::string& path, size_t bytes_max);
Result<> sync_directory_of(const std::string& path);

// Holds an exclusive lock on `path` (made if absent) as long as it lives; busy if another process
// does.
Result<UniqueFd> lock_file(const std::string& path, std::string_view holder_hint);

}  // namespace antipode::tiebreaker
