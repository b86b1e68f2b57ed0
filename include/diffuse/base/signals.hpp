#pragma once

/// Signals that ask the program to end after the work at hand.
namespace diffuse::signals {

/// From here on the first SIGINT, SIGTERM or SIGHUP (a terminal that goes away) is kept for `received`; a second ends
/// the program at once. Signals that the program was started not to mind (nohup, a job in the background) stay so.
void keep_first();

/// The number of the signal that came; 0: none.
int received();
/// Whether it was the process that started this one that sent it.
bool came_from_parent();

}  // namespace diffuse::signals
