#include "common/base/check.h"

#include <cstdlib>

#include "common/base/log.h"

namespace antipode {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
    auto& log = logger("check");
    log.critical("{}:{}: {} does not hold: {}", file, line, condition, message);
    log.flush();
    std::abort();
}

}  // namespace antipode
