#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <torch/version.h>

#include "cli/common.hpp"
#include "diffuse/base/device.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/processes.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/base/signals.hpp"
#include "diffuse/diffusion/grid.hpp"
#include "diffuse/run/machine.hpp"
#include "diffuse/run/model.hpp"
#include "diffuse/run/run_writer.hpp"
#include "diffuse/run/trainer.hpp"
#include "diffuse/train/learning_rate.hpp"
#include "diffuse/train/replicas.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kTrained = "What is trained";
constexpr const char* kUnits = "the vector units";
constexpr const char* kAuto = "auto";  ///< of --resume: begin or go on, whichever it is

struct TrainCommand {
    std::string command_line, config = "", out = "";
    std::vector<std::string> settings = {};
    std::string resume = "";  ///< empty: a new run
    bool force = false, dry_run = false, estimate = false;
    std::optional<int64_t> seed = {};
    double patience = 120;  ///< seconds
    RuntimeOptions runtime = {};
};

Result plan(const Config& config, const Dataset& dataset, const Net& network) {
    log::info(fmt::format("{} {}s of {}, {} parameters, {:.1f} epochs; no run was begun", dataset.size(),
                          noun(dataset.spec.shape), to_string(dataset.spec.shape), network.parameter_count(),
                          double(config.train.steps * config.train.batch_size) / double(dataset.size())));
    return {to_text(to_json(config), 2) + "\n"};
}

/// Trains for a few seconds, writing nothing, to say how long it would take from the step `done` on.
Result estimate(const Config& config, const Dataset& dataset, torch::Device device, int64_t done = 0) {
    constexpr double kSeconds = 4;
    constexpr int64_t kWarmUp = 3, kLeast = 2;  // steps: the first ones are slower
    int64_t calls = 0;
    double seconds = 0;
    Stopwatch watch;
    Progress progress("training: step", config.train.steps);
    const TrainingObserver shown{.on_step = [&](const TrainingStep& step) { progress.update(step.step); }};
    train(config, dataset, device, {shown}, std::nullopt, [&] {
        if (++calls == kWarmUp + 1) watch = {};
        seconds = watch.seconds();
        return processes::agree(calls > kWarmUp + kLeast && seconds > kSeconds) != 0;
    });
    const int64_t steps = std::max<int64_t>(1, calls - 1 - kWarmUp);
    const double a_step = seconds / double(steps);
    const int64_t left = std::max<int64_t>(0, config.train.steps - done);
    return {fmt::format("about {} on {} with {} threads: {} steps at {:.0f} {}s/s, as measured over {} of them\n",
                        format_duration(a_step * double(left)), device.str(), at::get_num_threads(), left,
                        double(config.train.batch_size) / a_step, noun(dataset.spec.shape), steps)};
}

/// The learning rates that a run which diverged is resumed with: all that its optimizer has, as any may be too high.
std::string lower_rates(const TrainOptions& train) {
    const std::string adamw = fmt::format("--set train.learning_rate={}", train.learning_rate / 10);
    if (train.optimizer != "muon") return adamw;
    return fmt::format("{} --set train.muon_learning_rate={}", adamw, train.muon_learning_rate / 10);
}

/// Trains to the end or to a signal. Returns the step of the latest checkpoint. Where it fails, the error says how to
/// go on.
int64_t train_into(const RunFolder& folder, const Config& config, const Dataset& dataset, torch::Device device,
                   const std::optional<Checkpoint>& start, const std::function<bool()>& stop) {
    std::optional<int64_t> saved;
    if (start) saved = start->step;
    const TrainingObserver after_writing{.on_checkpoint = [&](const Checkpoint& last) { saved = last.step; }};
    try {
        return train(config, dataset, device, {run_writer(folder), after_writing}, start, stop);
    } catch (const Diverged& error) {
        throw Error(
            fmt::format("{}; the checkpoint of step {} is kept; resume it with lower learning rates: diffuse train "
                        "--resume {} {}",
                        error.what(), *saved, shell_word(display_path(folder.path())), lower_rates(config.train)),
            error.exit_code);
    } catch (const Error& error) {
        if (!saved || error.exit_code != kRunFailed) throw;
        throw Error(fmt::format("{}; step {} is the last that is saved; when that is mended, diffuse train --resume "
                                "goes on from there",
                                error.what(), *saved),
                    error.exit_code);
    }
}

/// What --config, --set and --seed say; without --config on top of `before`.
Config asked_config(const TrainCommand& options, const Config& before) {
    Config config = options.config.empty() ? with_settings(before, options.settings)
                                           : load_config(options.config, options.settings);
    if (options.seed) config.seed = *options.seed;
    return config;
}

/// What must be the same at all processes, by name.
nlohmann::ordered_json described(const TrainCommand& options, const Config& config, const Dataset& dataset) {
    nlohmann::ordered_json all = {{"the program", DIFFUSE_VERSION},
                                  {"LibTorch", TORCH_VERSION},
                                  {"the data", fingerprint(dataset, config.net.classes.value_or(0) > 0)},
                                  {kUnits, fmt::format("LibTorch {}, diffuse {}", vector_units(), kernel_units())}};
    if (options.resume.empty()) all["the config"] = to_text(to_json(asked_config(options, {})));
    return all;
}

/// Refuses processes that would not train the same. Other vector units may only change the last digits.
void require_same(const TrainCommand& options, const Config& config, const Dataset& dataset) {
    const auto all = processes::texts(to_text(described(options, config, dataset)));
    for (size_t i = 1; i < all.size(); ++i) {
        const auto own = nlohmann::json::parse(all[0]), other = nlohmann::json::parse(all[i]);
        for (const auto& [what, value] : own.items()) {
            if (other[what] == value) continue;
            const std::string name = processes::name_of(int64_t(i));
            const bool is_config = what == "the config";
            const std::string difference = is_config
                                               ? fmt::format("the config of {} is not that of the first", name)
                                               : fmt::format("{} of {} is {}, that of the first {}", what, name,
                                                             other[what].get<std::string>(), value.get<std::string>());
            if (what != kUnits) throw Error(difference);
            log::warn(difference + "; the last digits may differ from those of a run on one machine");
        }
    }
}

/// What the first process does with the others, which have no run folder, before it writes anything: it tells them what
/// is trained, and from which checkpoint on, if any.
void prepare_others(const TrainCommand& options, const Config& config, const Dataset& dataset,
                    const std::filesystem::path& checkpoint) {
    if (processes::count() == 1) return;
    processes::text_of_first(to_text(to_json(config)));
    if (processes::agree(!checkpoint.empty()) != 0) processes::file_of_first(checkpoint);
    require_same(options, config, dataset);
    processes::set_patience(options.patience);
}

/// What the others hear of it.
struct Told {
    Config config;
    std::optional<Checkpoint> start;
};
Told told_by_first() {
    Told told{config_from_json(nlohmann::json::parse(processes::text_of_first(""))), {}};
    if (processes::agree() != 0) told.start = load_to_resume(processes::file_of_first({}));
    return told;
}

/// The signal that any process received; 0: none.
int64_t signal_of_any() { return processes::agree(signals::received()); }

/// Trains as `train_into` does, and says where the result is.
Result run_training(const Config& config, const Dataset& dataset, torch::Device device, const RunFolder& folder,
                    const std::optional<Checkpoint>& start) {
    signals::keep_first();
    log::debug(describe_use(device));
    const Stopwatch watch;
    int64_t signal = 0;
    const auto stop = [&] { return (signal = signal_of_any()) != 0; };
    const int64_t saved = train_into(folder, config, dataset, device, start, stop);
    const std::string path = display_path(folder.path());
    if (saved < config.train.steps) {
        throw Error(fmt::format("interrupted; step {} of {} is saved; resume it by: diffuse train --resume {}", saved,
                                config.train.steps, shell_word(path)),
                    ExitCode(128 + signal));
    }
    log::info(
        fmt::format("trained {} steps in {}", saved - (start ? start->step : 0), format_duration(watch.seconds())));
    return {path + "\n"};
}

/// The run's folder: --out, or runs/ and the name of the config.
std::filesystem::path out_of(const TrainCommand& options) {
    if (options.out.empty()) return std::filesystem::path("runs") / std::filesystem::path(options.config).stem();
    return options.out;
}

/// Where nothing is to be written, the cache of decoded images is not either.
Dataset data_to_train(const Config& config, const TrainCommand& options) {
    DatasetOptions data = config.dataset;
    data.fills_cache = !options.dry_run && !options.estimate;
    return load_dataset(data, Split::kTrain);
}

/// What every other process than the first does of a training.
Result follow(const TrainCommand& options, torch::Device device) {
    signals::keep_first();
    const auto [config, start] = told_by_first();
    const Dataset dataset = data_to_train(config, options);
    require_same(options, config, dataset);
    processes::set_patience(options.patience);
    train(config, dataset, device, {preview_helper()}, start, [] { return signal_of_any() != 0; });
    return {};
}

/// Who works beside this process.
std::string others_words() {
    if (processes::count() == 1) return "";
    return fmt::format(", in each of {} processes", processes::count());
}

Result start_run(const TrainCommand& options, torch::Device device) {
    const Config asked = asked_config(options, {});
    const std::filesystem::path out = out_of(options);
    if (!options.estimate) RunFolder::check_new(out, options.force);
    const Dataset dataset = data_to_train(asked, options);
    const Config config = resolved(asked, dataset, options.settings);
    // Refuses a config that does not fit the images before anything is written.
    const DataSpec seen = seen_by_network(config, dataset.spec);
    const Net network = new_network(config, seen, torch::kCPU);
    if (device.is_cpu()) Replicas::require_parts(network, config.train.batch_size);
    tell_classes(seen.condition.classes);
    const Schedule schedule = make_schedule(config.schedule);
    warn_where_uncovered(dataset.spec, schedule.at(double(grid_start(schedule, config.sample.max_ratio))).ratio());
    if (options.dry_run) return plan(config, dataset, network);
    if (options.estimate) return estimate(config, dataset, device);

    prepare_others(options, config, dataset, {});
    const auto folder = RunFolder::create(out, options.force);
    log::open_file(folder.path() / kLogName);
    log::info(fmt::format("training {} parameters on {} {}s for {} steps of {}, on {} with {} threads{}",
                          network.parameter_count(), dataset.size(), noun(dataset.spec.shape), config.train.steps,
                          config.train.batch_size, device.str(), at::get_num_threads(), others_words()));
    log::debug(options.command_line);
    if (!dataset.spec.about.empty()) log::debug(dataset.spec.about);
    return run_training(config, dataset, device, folder, std::nullopt);
}

/// Where the file beside a checkpoint says something else than what the checkpoint goes on by.
void warn_of_other_config(const std::filesystem::path& file, const Config& config) {
    if (!path_exists(file)) return;
    const auto text = read_file(file, 1 << 20);
    const auto own = nlohmann::json(to_json(config));
    auto merged = own;  // an older program's file lacks keys
    const auto there = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (there.is_object()) merged.update(there, /*merge_objects=*/true);
    if (there.is_object() && merged == own) return;
    log::warn(
        fmt::format("{} is not the config of the checkpoint, whose values hold; change some by --set, or all that "
                    "may change by --config {}",
                    display_path(file), shell_word(display_path(file))));
}

/// The config that a run goes on by: its own, but for what is asked for.
Config resumed_config(const TrainCommand& options, const Config& before) {
    const Config config = resumed(before, asked_config(options, before));
    for (const auto& change : changes(before, config)) {
        log::info(fmt::format("{}: {}, was {}", change.path, change.after, change.before));
    }
    return config;
}

/// What goes on as it was; the learning rate does not where the config gives it another course.
void tell_resuming(const std::string& path, const Checkpoint& start, const Config& config, int64_t images) {
    const int64_t next = start.step + 1;
    const auto rates = [](const TrainOptions& train, int64_t step) {
        return std::pair(make_learning_rate(train, train.learning_rate)(step),
                         make_learning_rate(train, train.muon_learning_rate)(step));
    };
    const auto now = rates(config.train, next);
    const auto before = rates(start.config.train, std::min(next, start.config.train.steps));
    const bool same_rate = now == before;
    log::info(
        fmt::format("{}: resuming after step {} of {}, {:.2f} epochs in; weights, average, optimizer{} and order "
                    "of the data as they were",
                    path, start.step, config.train.steps, double(start.step * config.train.batch_size) / double(images),
                    same_rate ? ", learning rate" : ""));
    if (same_rate) return;
    log::warn(
        fmt::format("the learning rate goes on with {:.3g} (Muon's with {:.3g}), was {:.3g} ({:.3g}): its course "
                    "depends on train.steps, train.decay, train.warmup_steps and the rates themselves",
                    now.first, now.second, before.first, before.second));
}

Result resume_run(const TrainCommand& options, torch::Device device) {
    const auto folder = RunFolder::open(options.resume);
    log::open_file(folder.path() / kLogName);
    log::debug(options.command_line);
    const std::string path = display_path(folder.path());
    const auto start = folder.checkpoint_to_resume(options.resume);
    if (start) warn_of_other_config(folder.path() / kConfigName, start->config);
    Config config = resumed_config(options, start ? start->config : load_config(folder.path() / kConfigName));
    if (start && start->step >= config.train.steps) {
        folder.go_back_to(*start);  // where it came from a copy
        log::info(fmt::format("{} is finished: {} steps of {}; for more: diffuse train --resume {} --set train.steps=N",
                              path, start->step, config.train.steps, shell_word(path)));
        return {path + "\n"};
    }
    const Dataset dataset = data_to_train(config, options);
    if (start) require_data_of(*start, dataset);
    config = resolved(config, dataset, options.settings);
    if (start) {
        const auto abandoned = folder.go_back_to(*start);
        if (!abandoned.empty()) {
            log::info(fmt::format("going back to step {}; what came after it is kept in {}", start->step,
                                  display_path(abandoned)));
        }
        tell_resuming(path, *start, config, dataset.size());
    } else {
        log::info(fmt::format("{}: it has no checkpoint; beginning with its first step", path));
    }
    prepare_others(options, config, dataset, start ? folder.path() / kCheckpointName : "");
    return run_training(config, dataset, device, folder, start);
}

/// How long the rest of a run would take.
Result estimate_rest(const TrainCommand& options, torch::Device device) {
    const Checkpoint start = load_to_resume(options.resume);
    const Config asked = resumed(start.config, asked_config(options, start.config));
    const Dataset dataset = data_to_train(asked, options);
    require_data_of(start, dataset);
    return estimate(resolved(asked, dataset, options.settings), dataset, device, start.step);
}

/// With --resume as it is meant, which the first process knows: the others may have no run folder.
TrainCommand decided(TrainCommand options) {
    const bool begins = options.resume.empty() || options.resume == kAuto;
    if (begins && options.config.empty()) {
        throw Error("train needs --config FILE, or --resume RUN_DIR (see diffuse train --help)");
    }
    if (!begins && !options.out.empty()) {
        throw Error("--resume excludes --out, except as --resume auto");
    }
    if (options.resume != kAuto) return options;
    const bool goes_on = processes::agree(processes::is_first() && RunFolder::has_run(out_of(options))) != 0;
    options.resume = goes_on ? out_of(options).string() : "";
    return options;
}

Result run_train(const TrainCommand& given, const Given&) {
    const TrainCommand options = decided(given);
    const auto device = options.runtime.apply();
    if (!processes::is_first() && !options.dry_run && !options.estimate) return follow(options, device);
    if (!options.resume.empty()) return options.estimate ? estimate_rest(options, device) : resume_run(options, device);
    try {
        return start_run(options, device);
    } catch (const RunExists& error) {
        throw Error(
            fmt::format("{}; resume it by diffuse train --resume {}, give another folder with --out, or "
                        "--force to replace it",
                        error.what(), shell_word(display_path(out_of(options)))));
    }
}

std::vector<Option> what_is_trained(TrainCommand& o) {
    return grouped(
        kTrained,
        {file_option({"config", &o.config,
                      "JSON file, e.g. configs/demo.json, which is also looked for beside the installed program"}),
         {.field = {"set", Words{&o.settings}, "one key of the config with another value, e.g. train.steps=100"},
          .value = "KEY=VALUE"},
         {.field = {"seed", Number<std::optional<int64_t>>{&o.seed, 0, INT64_MAX},
                    "random seed, instead of the config's"}},
         {.field = {"resume", &o.resume,
                    "run folder, or a kept checkpoint inside one, to resume as if it had never stopped, by its own "
                    "config unless --config or --set change what may change; auto: begin or resume the run of --config "
                    "and --out, whichever it is; without a name: the current folder"},
          .value = "RUN",
          .alone = ".",
          .excludes = {"force", "dry_run"}}});
}

std::vector<Option> options_of_train(TrainCommand& o) {
    const auto written = grouped(
        kWritten,
        {{.field = {"out", &o.out, "run folder; default runs/<name of the config>"}, .value = "DIR"},
         {.field = {"force", &o.force, "replace a run that is already in the folder"}},
         {.field = {"dry_run", &o.dry_run, "check everything, print the resolved config, write nothing"}},
         {.field = {"estimate", &o.estimate, "train for a few seconds to say how long it would take, write nothing"},
          .excludes = {"dry_run"}}});
    const auto together = grouped(
        kMachine, {{.field = {"patience", Number<double>{&o.patience, 1, 86'400},
                              "seconds that another process of mpirun or srun may keep this one waiting before the run "
                              "is saved and ended"}}});
    return joined({what_is_trained(o), written, o.runtime.options(), together});
}

}  // namespace

Command train_command(const std::string& line) {
    return command_of({.name = "train",
                       .about = "train a network as a JSON config says",
                       .examples = {"diffuse train --config configs/demo.json --out runs/first",
                                    "diffuse train --resume runs/first --set train.steps=8000"}},
                      TrainCommand{.command_line = line}, options_of_train, run_train);
}

}  // namespace diffuse::cli
