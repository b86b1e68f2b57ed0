#pragma once

#include <stdexcept>
#include <string>

namespace diffuse {

/// What the process returns to the shell.
enum ExitCode : int { kSuccess = 0, kRunFailed = 1, kBadInput = 2, kInterrupted = 130 };

/// Everything a user can cause: a wrong option, a broken file, a run that diverges. The message is one line that says
/// what is wrong and what to do; main prints it and exits with `exit_code`. A programmer's mistake is an assert
/// instead.
class Error : public std::runtime_error {
public:
    explicit Error(const std::string& message, ExitCode code = kBadInput)
        : std::runtime_error(message), exit_code(code) {}
    ExitCode exit_code;
};

}  // namespace diffuse
