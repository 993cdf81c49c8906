#include "disksync/core/disk_types.h"

#include "disksync/core/store_types.h"

namespace antipode::disksync {

const char* to_string(StoreOperation operation) {
    switch (operation) {
        case StoreOperation::read:
            return "read";
        case StoreOperation::write:
            return "write";
        case StoreOperation::flush:
            return "flush";
        case StoreOperation::discard:
            return "discard";
        case StoreOperation::write_zeroes:
            return "write-zeroes";
    }
    return "unknown operation";
}

std::string_view to_string(DiskRole role) {
    switch (role) {
        case DiskRole::secondary:
            return "secondary";
        case DiskRole::primary:
            return "primary";
    }
    return "unknown";
}

std::string_view to_string(DiskState state) {
    switch (state) {
        case DiskState::up_to_date:
            return "UpToDate";
        case DiskState::consistent:
            return "Consistent";
        case DiskState::inconsistent:
            return "Inconsistent";
        case DiskState::outdated:
            return "Outdated";
        case DiskState::failed:
            return "Failed";
        case DiskState::diskless:
            return "Diskless";
    }
    return "unknown";
}

std::optional<DiskRole> parse_disk_role(std::string_view text) {
    for (const DiskRole role : {DiskRole::secondary, DiskRole::primary}) {
        if (to_string(role) == text) return role;
    }
    return std::nullopt;
}

std::optional<DiskState> parse_disk_state(std::string_view text) {
    for (const DiskState state :
         {DiskState::up_to_date, DiskState::consistent, DiskState::inconsistent,
          DiskState::outdated, DiskState::failed, DiskState::diskless}) {
        if (to_string(state) == text) return state;
    }
    return std::nullopt;
}

}  // namespace antipode::disksync
