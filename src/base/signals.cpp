#include "diffuse/base/signals.hpp"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace diffuse::signals {
namespace {

std::atomic<int> first_signal{0};
std::atomic<bool> is_from_parent{false};

void keep(int signal, siginfo_t* info, void*) {
    is_from_parent = info->si_pid == getppid();
    first_signal = signal;
}

}  // namespace

void keep_first() {
    struct sigaction action {
    }, before{};
    action.sa_sigaction = keep;
    action.sa_flags = int(SA_RESETHAND | SA_SIGINFO);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        sigaction(signal, nullptr, &before);
        if (before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);
    }
}

int received() { return first_signal; }
bool came_from_parent() { return is_from_parent; }

}  // namespace diffuse::signals
