// What a message of the channel says, as a line of text for people (antipode-dump): log batches and
// the core's messages, acknowledgements, reports, requests, seeds and heals.
//
// Pure. A payload that its type does not explain gives nullopt: it is of another program (a link
// test), or of a release whose formats this one does not know.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "common/wire/frame.h"

namespace antipode::control {

std::optional<std::string> message_text(wire::MessageClass message_class, uint8_t type,
                                        std::span<const std::byte> payload);

}  // namespace antipode::control
