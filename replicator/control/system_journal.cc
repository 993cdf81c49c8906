#include "replicator/control/system_journal.h"

#include <array>
#include <boost/asio/post.hpp>
#include <cstdlib>
#include <sys/uio.h>
#include <syslog.h>
// Without the macros, libsystemd would add this file's lines to every event.
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "common/base/log.h"

namespace antipode::control {
namespace {

int priority_of(Severity severity) {
    switch (severity) {
        case Severity::info:
            return LOG_NOTICE;
        case Severity::warning:
            return LOG_WARNING;
        case Severity::error:
            return LOG_ERR;
    }
    return LOG_NOTICE;
}

// True where journald takes our standard error: it is there to be talked to.
bool journald_listens() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    return stream != nullptr && *stream != '\0';
}

}  // namespace

SystemJournal::SystemJournal(std::string pair, std::string site)
    : pair_(std::move(pair)), site_(std::move(site)), journald_(journald_listens()) {}

SystemJournal::~SystemJournal() {
    worker_.join();
}

void SystemJournal::write(const Event& event) {
    const std::string code(word(event.code));
    if (!journald_) {
        logger("event").info("{}: {}", code, event.text);
        return;
    }
    if (waiting_.load() >= kWaitingMax) {
        ++dropped_;
        return;
    }
    waiting_.fetch_add(1);
    std::array<std::string, 7> fields{
        "MESSAGE=" + code + ": " + event.text,
        fmt::format("PRIORITY={}", priority_of(event.severity)),
        "SYSLOG_IDENTIFIER=antipode",
        "ANTIPODE_EVENT=" + code,
        "ANTIPODE_PAIR=" + pair_,
        "ANTIPODE_SITE=" + site_,
        fmt::format("ANTIPODE_SEQUENCE={}", event.sequence),
    };
    boost::asio::post(worker_, [this, fields = std::move(fields)]() mutable {
        std::array<iovec, 7> parts{};
        for (size_t i = 0; i < fields.size(); ++i) parts[i] = {fields[i].data(), fields[i].size()};
        (void)sd_journal_sendv(parts.data(), static_cast<int>(parts.size()));
        waiting_.fetch_sub(1);
    });
}

}  // namespace antipode::control
