// Whether the line to the peer passes anything: `cut` is how a rehearsal loses it (inject_fault).
#pragma once

namespace antipode::stream {

enum class Line { open = 1, cut };

}  // namespace antipode::stream
