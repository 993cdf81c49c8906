#include "tiebreaker/admin.h"

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <cstdio>
#include <ctime>
#include <unistd.h>

#include "tiebreaker/admin_socket.h"
#include "tiebreaker/daemon.h"
#include "tiebreaker/sqlite_store.h"

namespace antipode::tiebreaker {
namespace {

std::string text_of(const Member& member) {
    if (member.site.empty()) return "-";
    return fmt::format("{}#{:016x}", member.site, member.incarnation.value());
}

std::string text_of(UnixTime at) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(at);
    const std::time_t time = seconds.time_since_epoch().count();
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
    return fmt::format("{}.{:03}Z", text.data(), (at - seconds).count());
}

void print(const wire::Record& record, wire::StoreIdentity store) {
    fmt::print("{:31} {:6} epoch {} holder {} sites {},{}", record.pair, to_string(record.mode),
               record.epoch, text_of(record.holder), record.sites[0], record.sites[1]);
    if (!record.sites[2].empty()) fmt::print(",{}", record.sites[2]);
    if (record.mode == wire::PairMode::paired) {
        fmt::print(" members {},{}", text_of(record.members[0]), text_of(record.members[1]));
    }
    if (record.store != store) fmt::print(" NOT ENROLLED with this store");
    fmt::print("\n");
}

// What moved the record by a person's word, not by a grant.
bool is_forced(const wire::Request& request) {
    switch (request.kind) {
        case wire::RequestKind::force:
        case wire::RequestKind::report_force:
            return true;
        case wire::RequestKind::create:
            return request.epoch > Epoch(0);  // enrolled again
        default:
            return false;
    }
}

void print(const Decided& line) {
    if (line.by == kTakenOutBy) {
        fmt::print("{} {} pair {} by {}: {} older lines were taken out so far\n", line.sequence,
                   text_of(line.at), line.request.pair, line.by, line.unlisted);
        return;
    }
    fmt::print("{} {} pair {} {} epoch {} me {} other {} by {}: {}", line.sequence,
               text_of(line.at), line.request.pair, to_string(line.request.kind),
               line.request.epoch, text_of(line.request.me), text_of(line.request.other), line.by,
               to_string(line.kind));
    if (line.reason != wire::RefusalReason::none) fmt::print(" ({})", to_string(line.reason));
    if (line.record) {
        fmt::print(" -> {} epoch {} holder {}", to_string(line.record->mode), line.record->epoch,
                   text_of(line.record->holder));
    }
    if (line.record && is_forced(line.request)) fmt::print(" BY AN OPERATOR'S FORCE");
    if (line.unlisted > 0) fmt::print(" [{} before it not listed]", line.unlisted);
    fmt::print("\n");
}

Result<std::unique_ptr<Store>> open_to_read(const Config& config, Registry& registry) {
    return open_store(config, StoreUse::read, nullptr, registry);
}

// Hands in one commit and waits for what becomes of it.
CommitResult commit_and_wait(boost::asio::io_context& core, Store& store, Commit commit) {
    CommitResult out;
    bool done = false;
    commit.done = [&](CommitResult result) {
        out = std::move(result);
        done = true;
    };
    store.commit(std::move(commit));
    const auto work = boost::asio::make_work_guard(core);
    while (!done) core.run_one();
    store.stop();
    return out;
}

// Without a daemon.
Result<> forget_directly(const Config& config, const Name& pair) {
    Registry registry;
    boost::asio::io_context core(1);
    FT_TRY(auto store, open_store(config, StoreUse::change, &core, registry));
    FT_TRY(const std::vector<Stored> all, store->load());
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Stored& s) { return s.record.pair == pair; });
    if (found == all.end()) return fail(Errc::not_found, "pair {}: has no record", pair);
    wire::Request request;
    request.kind = wire::RequestKind::forget;
    request.pair = pair;
    const Decision decision =
        decide(found->record, request, {store->identity(), PeerPresence::absent});
    if (decision.changed == Changed::no) return {};
    Decided line;
    line.at = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    line.by = administrator(::getuid());
    line.request = request;
    line.kind = decision.answer.kind;
    line.epoch = decision.record->epoch;
    line.record = decision.record;
    line.reason = wire::RefusalReason::none;
    FT_TRY_VOID(store->start([](const Stored&) {}));
    const CommitResult result =
        commit_and_wait(core, *store, {pair, found->version, decision.record, line, {}});
    if (result.kind != CommitResult::Kind::committed) {
        return fail(Errc::io, "pair {}: {}", pair, result.error);
    }
    return {};
}

}  // namespace

Result<> admin_list(const Config& config) {
    Registry registry;
    FT_TRY(auto store, open_to_read(config, registry));
    FT_TRY(const std::vector<Stored> all, store->load());
    for (const Stored& stored : all) print(stored.record, store->identity());
    fmt::print("{} pairs, store {:016x}\n", all.size(), store->identity().value());
    return {};
}

Result<> admin_history(const Config& config, const std::string& pair, size_t lines_max) {
    Name name;
    if (!pair.empty()) {
        FT_TRY(name, Name::parse(pair, "--pair"));
    }
    Registry registry;
    FT_TRY(auto store, open_to_read(config, registry));
    FT_TRY(const std::vector<Decided> lines, store->history(name, lines_max));
    for (const Decided& line : lines) print(line);
    return {};
}

Result<> admin_ask(const Config& config, const std::string& line) {
    if (config.admin_socket.empty()) {
        return fail(Errc::invalid_argument, "{}: admin.socket is missing", config.path);
    }
    FT_TRY(std::string text, env::LineSocket::ask(kAdminSocket, config.admin_socket, line));
    constexpr std::string_view kOk = "ok\n";
    if (!text.ends_with(kOk)) {
        constexpr std::string_view kError = "error: ";
        if (text.starts_with(kError)) text.erase(0, kError.size());
        if (text.ends_with('\n')) text.pop_back();
        return fail(Errc::denied, "{}", text.empty() ? "the daemon hung up" : text);
    }
    fmt::print("{}", text.substr(0, text.size() - kOk.size()));
    return {};
}

Result<> admin_forget(const Config& config, const std::string& pair) {
    FT_TRY(const Name name, Name::parse(pair, "pair"));
    auto asked = admin_ask(config, "forget " + pair);
    const bool daemon_is_down = !asked && (asked.error().code == Errc::unreachable ||
                                           asked.error().code == Errc::not_found ||
                                           asked.error().code == Errc::invalid_argument);
    if (daemon_is_down) asked = forget_directly(config, name);
    if (!asked) return asked;
    fmt::print("pair {} is forgotten; its epoch is kept, should it be enrolled again\n", name);
    return {};
}

Result<> admin_backup(const Config& config, const std::string& file) {
    Registry registry;
    FT_TRY(auto store, open_to_read(config, registry));
    FT_TRY_VOID(store->backup(file));
    fmt::print("wrote {}\n", file);
    return {};
}

Result<> admin_restore(const Config& config, const std::string& file) {
    if (config.store == StoreKind::sqlite && file.empty()) {
        return fail(Errc::invalid_argument, "restore: name the FILE that `admin backup` wrote");
    }
    if (config.store == StoreKind::etcd && !file.empty()) {
        return fail(Errc::unsupported,
                    "restore: etcd is put back with `etcdctl snapshot restore`; then run this "
                    "without a FILE, so that the store gets a new identity");
    }
    const bool etcd = config.store == StoreKind::etcd;
    FT_TRY(const wire::StoreIdentity identity, etcd ? EtcdStore::renew_identity(config.etcd)
                                                    : SqliteStore::restore(file, config.database));
    fmt::print(
        "restored {} as store {:016x}. No site follows it until its pairs are enrolled again "
        "(`antipode enrol PAIR` at the site that runs the VM), for it may be older than what was "
        "decided\n",
        etcd ? config.etcd.prefix : config.database, identity.value());
    return {};
}

Result<> admin_adopt(const Config& config) {
    if (config.store != StoreKind::etcd) {
        return fail(Errc::unsupported,
                    "adopt: is for kind = \"etcd\"; a copied database is put "
                    "back with `admin restore FILE`");
    }
    FT_TRY(const wire::StoreIdentity identity, EtcdStore::adopt(config.etcd));
    fmt::print("this machine follows store {:016x} in etcd {}\n", identity.value(),
               config.etcd.prefix);
    return {};
}

Result<> admin_verify(const Config& config) {
    Registry registry;
    FT_TRY(auto store, open_to_read(config, registry));
    FT_TRY(const Verification verification, store->verify());
    for (const std::string& finding : verification.findings) fmt::print("{}\n", finding);
    fmt::print("{} pairs, {} lines of history, {} taken out by its limit, {} findings\n",
               verification.pairs, verification.history_lines, verification.lines_taken_out,
               verification.findings.size());
    if (!verification.findings.empty()) {
        return fail(Errc::corrupt, "the store is not sound");
    }
    return {};
}

}  // namespace antipode::tiebreaker
