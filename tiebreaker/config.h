// The tiebreaker's configuration, a TOML file; packaging/examples/tiebreaker.toml explains each
// key.
//
// Threads: values. Every error names the file, the key, what was found and what is allowed; a key
// that is not known is an error, since it may be a misspelt limit. Relative paths are relative to
// the file.
#pragma once

#include <string>
#include <vector>

#include "common/base/name.h"
#include "common/base/result.h"
#include "common/env/posix/tls.h"
#include "tiebreaker/etcd/etcd_store.h"
#include "tiebreaker/listener.h"
#include "tiebreaker/server.h"
#include "tiebreaker/service.h"

namespace antipode::tiebreaker {

enum class StoreKind : uint8_t { sqlite = 1, etcd };

struct Config {
    std::string path;  // of the file
    env::TlsFiles tls;
    ListenerSettings listener;
    ServerLimits server;
    ServiceLimits service;
    StoreKind store = StoreKind::sqlite;
    std::string database;
    EtcdSettings etcd;
    std::string admin_socket;  // empty: none
};

Result<Config> load_config(const std::string& path);

}  // namespace antipode::tiebreaker
