#include "common/failover/deliberate_bugs.h"

namespace antipode::failover {

thread_local Bug deliberate_bug = Bug::none;

}  // namespace antipode::failover
