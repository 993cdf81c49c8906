#include "common/base/log.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <spdlog/details/console_globals.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace antipode {
namespace {

struct Registry {
    std::mutex mutex;
    std::shared_ptr<spdlog::sinks::stderr_sink_mt> sink =
        std::make_shared<spdlog::sinks::stderr_sink_mt>();
    std::map<std::string, std::shared_ptr<spdlog::logger>, std::less<>> loggers;
    std::map<std::string, spdlog::level::level_enum, std::less<>> levels;
    spdlog::level::level_enum default_level = spdlog::level::info;
    std::string identity;

    void apply_pattern() {
        std::string prefix = identity.empty() ? "" : identity + " ";
        sink->set_pattern("%H:%M:%S.%e %L " + prefix + "%n: %v");
    }

    std::string apply_levels(std::string_view specification) {
        std::string rejected;
        while (!specification.empty()) {
            const size_t comma = specification.find(',');
            const std::string_view item = specification.substr(0, comma);
            specification.remove_prefix(comma == std::string_view::npos ? specification.size()
                                                                        : comma + 1);
            const size_t equals = item.find('=');
            const std::string name(item.substr(equals == std::string_view::npos ? 0 : equals + 1));
            const auto level = spdlog::level::from_str(name);
            if (level == spdlog::level::off && name != "off") {
                rejected += rejected.empty() ? "" : ",";
                rejected += item;
            } else if (equals == std::string_view::npos) {
                default_level = level;
            } else {
                levels[std::string(item.substr(0, equals))] = level;
            }
        }
        for (auto& [name, log] : loggers) log->set_level(level_of(name));
        return rejected;
    }

    spdlog::level::level_enum level_of(std::string_view module) const {
        const auto found = levels.find(module);
        return found == levels.end() ? default_level : found->second;
    }
};

Registry& registry() {
    // Never destroyed: threads may log while the process exits.
    static Registry* instance = [] {
        auto* made = new Registry();
        made->apply_pattern();
        if (const char* specification = std::getenv("ANTIPODE_LOG")) {
            (void)made->apply_levels(specification);
        }
        return made;
    }();
    return *instance;
}

// A fork may come while another thread logs, and the child logs too.
void keep_usable_across_fork() {
    pthread_atfork(
        [] {
            registry().mutex.lock();
            spdlog::details::console_mutex::mutex().lock();
        },
        [] {
            spdlog::details::console_mutex::mutex().unlock();
            registry().mutex.unlock();
        },
        [] {
            spdlog::details::console_mutex::mutex().unlock();
            registry().mutex.unlock();
        });
}

}  // namespace

spdlog::logger& logger(std::string_view module) {
    static const bool kept = (keep_usable_across_fork(), true);
    (void)kept;
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    auto found = all.loggers.find(module);
    if (found == all.loggers.end()) {
        auto log = std::make_shared<spdlog::logger>(std::string(module), all.sink);
        log->set_level(all.level_of(module));
        log->flush_on(spdlog::level::warn);
        found = all.loggers.emplace(std::string(module), std::move(log)).first;
    }
    return *found->second;
}

void set_log_identity(std::string_view identity) {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    all.identity = identity;
    all.apply_pattern();
}

std::string set_log_levels(std::string_view specification) {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    return all.apply_levels(specification);
}

}  // namespace antipode
