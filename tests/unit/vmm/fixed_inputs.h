// FixedInputs: an InputSource whose values the test sets, and which counts what was read.
#pragma once

#include <map>

#include "replicator/vmm/inputs.h"

namespace antipode::vmm {

class FixedInputs final : public InputSource {
  public:
    uint64_t read(InputKind kind) override {
        ++reads[kind];
        return values[kind];
    }

    std::map<InputKind, uint64_t> values;
    std::map<InputKind, int> reads;
};

}  // namespace antipode::vmm
