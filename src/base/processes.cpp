#include "diffuse/base/processes.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>

#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/base/signals.hpp"

#ifdef DIFFUSE_MPI
#include <mpi.h>
#endif

namespace diffuse::processes {
namespace {

constexpr const char* kMpirun = "mpirun";

/// The processes as their starter tells them; one where there is none.
struct Started {
    int64_t count = 1, rank = 0;
    std::string by;
};

Started started() {
    struct Names {
        const char *count, *rank, *by;
    };
    for (const auto& [count, rank, by] :
         {Names{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", kMpirun}, Names{"PMI_SIZE", "PMI_RANK", kMpirun},
          Names{"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun"}}) {
        const char *all = std::getenv(count), *own = std::getenv(rank);
        if (all && own) return {std::atoll(all), std::atoll(own), by};
    }
    return {};
}

/// A process as it is known to the others.
struct Peer {
    char machine[240] = {};
    int64_t pid = 0, is_seen = 0;  // whether it is a process of this machine
};

struct State {
    int64_t count = 1, rank = started().rank, beside = 1;
    double patience = 86'400;  // seconds
    bool is_over = false;      // nothing more can be agreed upon
    std::vector<Peer> peers;
};

State& state() {
    static State all;
    return all;
}

#ifdef DIFFUSE_MPI

enum Tag { kWord, kVerdict, kText, kNumbers };

/// What is sent to agree upon something.
struct Word {
    int64_t value = 0;
    int32_t exit_code = 0, lost = 0, ends = 0;
    char error[492] = {};
    void set(const std::string& text, int code) {
        exit_code = int32_t(code);
        std::strncpy(error, text.c_str(), sizeof error - 1);
    }
};

/// The others kept this process waiting for too long.
struct Waited {};

/// mpirun's own signal is the end: where one process was killed or it was told to stop, it sends SIGTERM to all, and
/// ends them by force a little later.
bool ends_soon() { return signals::came_from_parent() && started().by == kMpirun; }

/// How much later, in seconds.
double grace() {
    constexpr double kDefault = 1;
    const char* text = std::getenv("OMPI_MCA_odls_base_sigkill_timeout");
    return text ? std::max(kDefault, std::atof(text)) : kDefault;
}

constexpr int64_t kAnyone = -1;

bool lives(int64_t pid) { return kill(pid_t(pid), 0) == 0 || errno != ESRCH; }

/// Whether a process of this machine is no more; those of others cannot be seen.
bool is_gone(int64_t rank) {
    const auto& peers = state().peers;
    const auto seen_to_be_gone = [](const Peer& peer) { return peer.is_seen != 0 && !lives(peer.pid); };
    return rank == kAnyone ? std::ranges::any_of(peers, seen_to_be_gone) : seen_to_be_gone(peers[size_t(rank)]);
}

/// How long to wait, in seconds: as a rule, and as a share of the grace when the end is near. Those who wait for each
/// other then find out who is missing, tell the first one, and it has time to save.
struct Limit {
    double usual, share;
};
constexpr double kOfWork = 0.3, kOfFirst = 0.3, kOfOthers = 0.5;  // shares

/// Seconds of waiting, without those in which this process itself was stopped or its machine slept.
class Waiting {
public:
    double seconds() {
        constexpr double kMost = 0.1;
        const double now = watch_.seconds();
        sum_ += std::min(now - before_, kMost);
        before_ = now;
        return sum_;
    }

private:
    Stopwatch watch_;
    double before_ = 0, sum_ = 0;
};

/// A message, and from whom or to whom it goes.
struct Message {
    MPI_Request request = MPI_REQUEST_NULL;
    int64_t peer = kAnyone;
};

/// Waits for messages, all at once, and says which did not come in time.
std::vector<size_t> missing(std::vector<Message>& messages, const Limit& limit) {
    Waiting waiting;
    std::vector<char> is_broken(messages.size());
    const auto is_open = [&](size_t i) {
        int done = 0;  // also where there is none
        is_broken[i] |= MPI_Test(&messages[i].request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS;
        return is_broken[i] || done == 0;
    };
    const auto waits_in_vain = [&](size_t i) { return is_gone(messages[i].peer); };
    std::vector<size_t> late(messages.size());
    std::iota(late.begin(), late.end(), 0);
    while (true) {
        std::erase_if(late, [&](size_t i) { return !is_open(i); });
        const double seconds = waiting.seconds();
        if (late.empty() || seconds > limit.usual) return late;
        if (std::ranges::all_of(late, waits_in_vain)) return late;
        if (ends_soon() && seconds > limit.share * grace()) return late;
        constexpr double kSpin = 0.0005;  // then give way to what else needs this core
        if (seconds > kSpin) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
}

void finish(MPI_Request request, int64_t peer = kAnyone) {
    std::vector<Message> one = {{request, peer}};
    if (!missing(one, {state().patience, kOfWork}).empty()) throw Waited();
}

Message sent(const Word& word, int64_t to, Tag tag) {
    Message message{.peer = to};
    MPI_Isend(&word, sizeof word, MPI_BYTE, int(to), tag, MPI_COMM_WORLD, &message.request);
    return message;
}

Message awaited(Word& word, int64_t from, Tag tag) {
    Message message{.peer = from};
    MPI_Irecv(&word, sizeof word, MPI_BYTE, int(from), tag, MPI_COMM_WORLD, &message.request);
    return message;
}

std::string named(const std::vector<size_t>& ranks) {
    std::vector<std::string> all;
    for (const size_t each : ranks) all.push_back(name_of(int64_t(each)));
    return fmt::format("{}", fmt::join(all, ", "));
}

/// At the first: hears all, and tells each that came what follows.
Word judged(Word own, double patience) {
    const auto all = size_t(count());
    std::vector<Word> words(all);
    std::vector<Message> heard(all);
    for (size_t i = 1; i < all; ++i) heard[i] = awaited(words[i], int64_t(i), kWord);
    const Stopwatch watch;
    const auto late = missing(heard, {patience, kOfFirst});
    words.front() = own;
    Word verdict;
    for (size_t i = 0; i < all; ++i) {
        verdict.value = std::max(verdict.value, words[i].value);
        verdict.ends = std::max(verdict.ends, words[i].ends);
        if (verdict.exit_code != 0 || words[i].exit_code == 0) continue;
        verdict.set(i == 0 ? words[i].error : fmt::format("{}: {}", name_of(int64_t(i)), words[i].error),
                    words[i].exit_code);
    }
    if (!late.empty()) {
        verdict.lost = 1;
        verdict.set(fmt::format("{} did not answer for {:.1f} s and was given up", named(late), watch.seconds()),
                    kRunFailed);
    }
    std::vector<Message> answers;
    for (size_t i = 1; i < all; ++i) {
        if (std::ranges::find(late, i) == late.end()) answers.push_back(sent(verdict, int64_t(i), kVerdict));
    }
    if (!late.empty()) return verdict;
    if (!missing(answers, {patience, kOfFirst}).empty()) throw Waited();
    return verdict;
}

/// At the others, which leave the first one the time to find out who is missing.
Word asked(const Word& own, double patience) {
    constexpr double kLonger = 10;
    Word verdict;
    std::vector<Message> messages = {sent(own, 0, kWord), awaited(verdict, 0, kVerdict)};
    if (!missing(messages, {patience + kLonger, kOfOthers}).empty()) {
        verdict.lost = 1;
        verdict.set(fmt::format("{} did not answer and was given up", name_of(0)), kRunFailed);
        if (rank() == 1) log::set_silent(false);  // one of those that wait for it says so
    }
    return verdict;
}

/// mpirun ends all when one ends with an error.
void let_first_save() {
    constexpr double kMost = 60;
    const Stopwatch watch;
    while (signals::received() == 0 && watch.seconds() < kMost) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

int64_t follow(const Word& own, const Word& verdict) {
    state().is_over = verdict.exit_code != 0 || verdict.ends != 0;
    if (verdict.exit_code == 0) {
        if (own.ends < verdict.ends) throw Error("the others have come to their end", kSuccess);
        return verdict.value;
    }
    if (verdict.lost != 0) {
        if (!is_first()) let_first_save();
        throw Lost(verdict.error);
    }
    throw Error(verdict.error, ExitCode(verdict.exit_code));
}

int64_t agree_within(const Word& own, double patience) {
    return follow(own, is_first() ? judged(own, patience) : asked(own, patience));
}

/// Does what needs others, and finds out who is missing where that does not come to its end.
template <class Work>
void together(const Work& work) {
    try {
        work();
    } catch (const Waited&) {
        constexpr double kInquest = 5;  // those that are alive have waited as long
        agree_within({}, kInquest);
        state().is_over = true;
        throw Lost("the processes of this run do not hear each other any more");
    }
}

MPI_Datatype type_of(const torch::Tensor& x) {
    TORCH_INTERNAL_ASSERT(x.is_contiguous() && x.is_cpu());
    return x.scalar_type() == torch::kFloat64 ? MPI_DOUBLE : MPI_FLOAT;
}

/// Bytes of the first one, as many as all know of.
void copy_bytes_of_first(char* data, int64_t size) {
    constexpr int64_t kAtOnce = 1 << 28;
    for (int64_t at = 0; at < size; at += kAtOnce) {
        MPI_Request request = MPI_REQUEST_NULL;
        MPI_Ibcast(data + at, int(std::min(kAtOnce, size - at)), MPI_BYTE, 0, MPI_COMM_WORLD, &request);
        finish(request);
    }
}

Peer this_process() {
    char name[MPI_MAX_PROCESSOR_NAME] = {};
    int length = 0;
    MPI_Get_processor_name(name, &length);
    Peer self{.pid = getpid()};
    std::string(name).copy(self.machine, sizeof self.machine - 1);
    return self;
}

void join_mpi(const Started& start) {
    int provided = 0, size = 1, own = 0, near = 1;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &own);
    if (size != start.count) {
        throw Error(
            fmt::format("{} started {} processes, which do not find each other by MPI; with srun, try srun "
                        "--mpi=pmix or --mpi=pmi2",
                        start.by, start.count));
    }
    MPI_Comm machine = MPI_COMM_NULL;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, own, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &near);
    state().count = size, state().rank = own, state().beside = near;
    state().peers.resize(size_t(size));
    const Peer self = this_process();
    MPI_Allgather(&self, sizeof self, MPI_BYTE, state().peers.data(), sizeof self, MPI_BYTE, MPI_COMM_WORLD);
    for (Peer& peer : state().peers) {
        peer.is_seen = std::string_view(peer.machine) == self.machine && lives(peer.pid);
    }
}

#endif

}  // namespace

int64_t count() { return state().count; }
int64_t rank() { return state().rank; }
bool is_first() { return state().rank == 0; }
int64_t beside() { return state().beside; }
void set_patience(double seconds) { state().patience = seconds; }
std::string name_of(int64_t rank) {
    const Peer& peer = state().peers[size_t(rank)];
    return fmt::format("rank {} ({}, process {})", rank, peer.machine, peer.pid);
}

Share share_of(int64_t all, int64_t rank) { return {all * rank / count(), all * (rank + 1) / count()}; }

void join() {
    const Started start = started();
    if (start.count <= 1) return;
#ifdef DIFFUSE_MPI
    join_mpi(start);
#else
    throw Error(
        fmt::format("{} started {} processes, but this program was built without MPI; install libopenmpi-dev "
                    "and build it again with -DDIFFUSE_MPI=ON",
                    start.by, start.count));
#endif
}

#ifdef DIFFUSE_MPI

int64_t agree(int64_t value) {
    if (count() == 1) return value;
    int64_t result = 0;
    together([&] { result = agree_within({.value = value}, state().patience); });
    return result;
}

void leave() {
    if (count() == 1) return;
    if (!state().is_over) together([&] { agree_within({.ends = 1}, state().patience); });
    MPI_Finalize();
}

void leave(const Error& error) {
    if (count() == 1) return;
    if (error.exit_code == kSuccess) return leave();
    if (state().is_over) return;
    Word own;
    own.set(error.what(), error.exit_code);
    try {
        together([&] { agree_within(own, state().patience); });
    } catch (const Error&) {
    }
}

std::string text_of_first(const std::string& text) {
    if (count() == 1) return text;
    const int64_t size = agree(is_first() ? std::ssize(text) : 0);
    std::string result = is_first() ? text : std::string(size_t(size), '\0');
    together([&] { copy_bytes_of_first(result.data(), size); });
    return result;
}

std::filesystem::path file_of_first(const std::filesystem::path& path) {
    if (count() == 1) return path;
    const std::string bytes = text_of_first(is_first() ? read_file(path, INT64_MAX) : "");
    if (is_first()) return path;
    const int file = memfd_create("of-first", 0);
    for (size_t done = 0; done < bytes.size();) {
        const ssize_t written = write(file, bytes.data() + done, bytes.size() - done);
        if (written <= 0) throw Error("not enough memory for the checkpoint of the first process", kRunFailed);
        done += size_t(written);
    }
    return fmt::format("/proc/self/fd/{}", file);
}

std::vector<std::string> texts(const std::string& own) {
    if (count() == 1) return {own};
    const auto size = size_t(agree(std::ssize(own)));
    std::vector<char> mine(size), all(is_first() ? size * size_t(count()) : 0);
    std::copy(own.begin(), own.end(), mine.begin());
    together([&] {
        MPI_Request request = MPI_REQUEST_NULL;
        MPI_Igather(mine.data(), int(size), MPI_BYTE, all.data(), int(size), MPI_BYTE, 0, MPI_COMM_WORLD, &request);
        finish(request);
    });
    std::vector<std::string> result;
    for (size_t i = 0; i < all.size(); i += size) {
        const auto end = std::find(all.begin() + ptrdiff_t(i), all.begin() + ptrdiff_t(i + size), '\0');
        result.emplace_back(all.begin() + ptrdiff_t(i), end);
    }
    return result;
}

void send(const torch::Tensor& x, int64_t to) {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(x.data_ptr(), int(x.numel()), type_of(x), int(to), kNumbers, MPI_COMM_WORLD, &request);
    together([&] { finish(request, to); });
}

void receive(const torch::Tensor& x, int64_t from) {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Irecv(x.data_ptr(), int(x.numel()), type_of(x), int(from), kNumbers, MPI_COMM_WORLD, &request);
    together([&] { finish(request, from); });
}

void copy_of_first(const torch::Tensor& x) {
    if (count() == 1) return;
    type_of(x);
    together([&] { copy_bytes_of_first(static_cast<char*>(x.data_ptr()), int64_t(x.nbytes())); });
}

void complete(const torch::Tensor& x, int64_t group) {
    if (count() == 1 || x.numel() == 0) return;
    const int64_t row = x[0].numel(), groups = (x.size(0) + group - 1) / group;
    std::vector<int> sizes, starts;
    for (int64_t i = 0; i < count(); ++i) {
        const auto [first, end] = share_of(groups, i);
        starts.push_back(int(first * group * row));
        sizes.push_back(int(std::min(end * group, x.size(0)) * row) - starts.back());
    }
    together([&] {
        MPI_Request request = MPI_REQUEST_NULL;
        MPI_Iallgatherv(MPI_IN_PLACE, 0, type_of(x), x.data_ptr(), sizes.data(), starts.data(), type_of(x),
                        MPI_COMM_WORLD, &request);
        finish(request);
    });
}

#else

int64_t agree(int64_t value) { return value; }
void leave() {}
void leave(const Error&) {}
std::string text_of_first(const std::string& text) { return text; }
std::filesystem::path file_of_first(const std::filesystem::path& path) { return path; }
std::vector<std::string> texts(const std::string& own) { return {own}; }
void send(const torch::Tensor&, int64_t) {}
void receive(const torch::Tensor&, int64_t) {}
void copy_of_first(const torch::Tensor&) {}
void complete(const torch::Tensor&, int64_t) {}

#endif

}  // namespace diffuse::processes
