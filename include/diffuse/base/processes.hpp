#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "diffuse/base/error.hpp"
#include "diffuse/base/torch.hpp"

/// The processes of one run, which mpirun or srun started together, perhaps on several machines. Each does a share of
/// the work; the first alone writes files and prints. A process that was started on its own is the first of one, for
/// which all of this does nothing. Messages go by MPI; what is received at one is the same at all.
///
/// Only the thread that joined calls these functions, and all processes call them in the same order. A process that
/// cannot go on leaves, which the others learn where they next agree: so they do before any work in common.
namespace diffuse::processes {

/// A process that went away or hangs: no other can be told anything any more. Exit code 1.
struct Lost : Error {
    explicit Lost(const std::string& message) : Error(message, kRunFailed) {}
};

/// Joins the others. Throws Error where this program was built without MPI and is one of several.
void join();

int64_t count();
/// 0 .. count() - 1; before `join`, what mpirun or srun told this process.
int64_t rank();
bool is_first();
/// How many there are on this machine.
int64_t beside();
/// How long the others may keep this process waiting, in seconds (at the start: a day).
void set_patience(double seconds);

/// All processes come to this point. Returns the largest `value` of all. Throws the Error with which another one left,
/// one of code kSuccess where all that they had to do is done, and Lost, naming them, if some do not come: at the
/// first, and at those that wait for it in vain.
int64_t agree(int64_t value = 0);

/// Ends the common work. Throws the Error of another one.
void leave();
/// Ends it with the error of this process, which the others are told.
void leave(const Error& error);

/// What the first one has.
std::string text_of_first(const std::string& text);
/// A file that has what the first one's file `path` has, be there such a file or not.
std::filesystem::path file_of_first(const std::filesystem::path& path);
/// What all have to say, in their order; at the others than the first, nothing.
std::vector<std::string> texts(const std::string& own);
/// "rank 2 (host, process 77)"
std::string name_of(int64_t rank);

/// Of `count` pieces of work those that this process, or another, has: first .. end - 1.
struct Share {
    int64_t first, end;
};
Share share_of(int64_t count, int64_t rank);

/// Contiguous float32 or float64 on the CPU, between two processes that both know of it.
void send(const torch::Tensor& x, int64_t to);
void receive(const torch::Tensor& x, int64_t from);
/// x as the first one has it, into x.
void copy_of_first(const torch::Tensor& x);
/// Rows of x, of which each process has those that `share_of` groups of `group` rows gives it: all of them, into x.
void complete(const torch::Tensor& x, int64_t group = 1);

}  // namespace diffuse::processes
