// Client: NBD commands to one or several connections, many in flight, from one thread: what the
// load programs of the tests are made of.
//
// INVARIANTS: at most `depth` commands are in flight; a slot's buffer is the library's until its
// command has ended. A server that goes away ends every command with an error.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"

struct nbd_handle;

namespace antipode::nbd_load {

enum class Operation : uint8_t { read = 1, write, write_zeroes, trim, flush };

struct Slot {
    bool busy = false;
    bool ended = false;
    int error_number = 0;
    Operation operation = Operation::read;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    uint64_t number = 0;  // the workload's
    size_t connection = 0;
    std::vector<std::byte> buffer;
    Instant began{};
    Instant over{};
};

class Client {
  public:
    // A connection for each URI.
    static Result<std::unique_ptr<Client>> connect(const std::vector<std::string>& uris,
                                                   size_t depth, size_t buffer_bytes);
    ~Client();

    size_t connections() const { return handles_.size(); }
    uint64_t size_bytes(size_t connection) const;
    Slot* free_slot();
    std::span<Slot> slots() { return slots_; }
    size_t in_flight() const;

    enum class Fua : uint8_t { no = 0, yes = 1 };
    // Operation, offset, length and buffer are set in the slot. An error: the connection is gone.
    Result<> issue(size_t connection, Slot& slot, Fua fua);
    // Waits until at least one command has ended; returns those, to be given back with release().
    Result<std::vector<Slot*>> wait();
    void release(Slot& slot) { slot.busy = slot.ended = false; }

  private:
    struct CloseHandle {
        void operator()(nbd_handle* handle) const;
    };
    Client() = default;
    void retire();

    std::vector<Slot> slots_;  // before the handles: these use the slots' buffers
    std::vector<std::unique_ptr<nbd_handle, CloseHandle>> handles_;
};

}  // namespace antipode::nbd_load
