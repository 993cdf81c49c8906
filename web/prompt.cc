#include "web/prompt.h"

#include <iostream>
#include <termios.h>
#include <unistd.h>

#include "web/security/secrets.h"

namespace antipode::web {
namespace {

// Turns the terminal's echo off for as long as it lives.
class Silence {
  public:
    Silence() {
        if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
        termios silent = before_;
        silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        active_ = ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0;
    }
    ~Silence() {
        if (active_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    }
    Silence(const Silence&) = delete;
    Silence& operator=(const Silence&) = delete;

  private:
    termios before_{};
    bool active_ = false;
};

Result<std::string> ask(std::string_view prompt) {
    const bool terminal = ::isatty(STDIN_FILENO) != 0;
    if (terminal) std::cerr << prompt << std::flush;
    std::string line;
    {
        const Silence silence;
        std::getline(std::cin, line);
    }
    if (terminal) std::cerr << "\n";
    if (!std::cin) return fail(Errc::invalid_argument, "no password was given on standard input");
    return line;
}

}  // namespace

Result<std::string> ask_new_password(const std::string& name) {
    FT_TRY(const std::string password, ask(fmt::format("New password for {}: ", name)));
    if (const std::string weak = password_weakness(name, password); !weak.empty()) {
        return fail(Errc::invalid_argument, "password: {}", weak);
    }
    if (::isatty(STDIN_FILENO) != 0) {
        FT_TRY(const std::string again, ask("Once more: "));
        if (again != password) return fail(Errc::invalid_argument, "the two passwords differ");
    }
    return password;
}

}  // namespace antipode::web
