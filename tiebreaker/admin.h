// The administrator's commands on the tiebreaker's store: `antipode-tiebreaker admin ...`.
//
// list, history, verify and backup read beside a running daemon. forget goes through it if it runs,
// since it holds the records in memory; restore wants it stopped. An etcd is saved and put back by
// etcdctl: backup says so, and restore and adopt say which store it is afterwards.
//
// Threads: the main thread; everything blocks. Each prints its result and returns an error
// otherwise.
#pragma once

#include <string>

#include "common/base/result.h"
#include "tiebreaker/config.h"

namespace antipode::tiebreaker {

Result<> admin_list(const Config& config);
Result<> admin_history(const Config& config, const std::string& pair, size_t lines_max);
Result<> admin_forget(const Config& config, const std::string& pair);
Result<> admin_backup(const Config& config, const std::string& file);
Result<> admin_restore(const Config& config, const std::string& file);
Result<> admin_adopt(const Config& config);
Result<> admin_verify(const Config& config);
// What a running daemon says: "status", "metrics".
Result<> admin_ask(const Config& config, const std::string& line);

}  // namespace antipode::tiebreaker
