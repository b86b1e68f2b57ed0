#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "cli/common.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/measure/frechet.hpp"
#include "diffuse/nets/classifier.hpp"
#include "diffuse/solve/likelihood.hpp"
#include "diffuse/train/batch.hpp"

namespace diffuse::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
    std::string checkpoint, metric = "fid", weights = "ema";
    std::vector<std::string> solvers, spacings = {"uniform"};
    std::vector<int64_t> steps, nfe;
    std::optional<int64_t> num;
    std::optional<double> max_ratio;
    std::optional<bool> clip_x0;
    int64_t seed = 0, probes = 1, ode_steps = 50;
    bool json = false;
    RuntimeOptions runtime;
};

/// A table whose rows are JSON objects: printed as it is, or as columns of text.
struct Report {
    Json head, rows = Json::array();

    /// Also told at once, so that a long table cut short is not lost.
    void add(const Json& row) {
        rows.push_back(row);
        log::info(to_text(row));
    }

    void print(bool as_json) const {
        Json all = head;
        all["rows"] = rows;
        std::string text;
        for (const auto& [key, value] : head.items()) {
            text += fmt::format("{}{}: {}", text.empty() ? "" : "\n", key,
                                value.is_string() ? value.get<std::string>() : value.dump());
        }
        for (size_t i = 0; i < rows.size(); ++i) {
            if (i == 0) {
                text += "\n";
                for (const auto& [key, value] : rows[i].items()) text += fmt::format("  {:>12}", key);
            }
            text += "\n";
            for (const auto& [key, value] : rows[i].items()) {
                text += fmt::format("  {:>12}", value.is_number_float() ? fmt::format("{:.4g}", value.get<double>())
                                                : value.is_string()     ? value.get<std::string>()
                                                                        : value.dump());
            }
        }
        print_result(as_json, all, text);
    }
};

/// Every solver, spacing and number of steps that was asked for.
std::vector<SolverOptions> walks(const Options& options, Direction direction) {
    std::vector<SolverOptions> all;
    const auto solvers = options.solvers.empty() ? std::vector<std::string>{kUsualSolver} : options.solvers;
    for (const auto& solver : solvers) {
        for (const auto& spacing : options.spacings) {
            SolverOptions one;
            one.checkpoint = options.checkpoint;
            one.solver = solver;
            one.spacing = spacing;
            one.weights = options.weights;
            one.max_ratio = options.max_ratio;
            one.clip_x0 = options.clip_x0;
            one.direction = direction;
            for (const int64_t steps : options.steps) all.push_back(one), all.back().steps = steps;
            for (const int64_t nfe : options.nfe) all.push_back(one), all.back().nfe = nfe;
            if (options.steps.empty() && options.nfe.empty()) all.push_back(one);
        }
    }
    return all;
}

Json row_of(const SolverOptions& walk, const WalkResult& result, int64_t steps) {
    Json row;
    row["solver"] = walk.solver;
    row["spacing"] = walk.spacing;
    row["steps"] = steps;
    row["nfe"] = result.nfe;
    return row;
}

torch::Tensor test_images(const Checkpoint& checkpoint, int64_t count) {
    const Dataset test = load_dataset(checkpoint.config.dataset, Split::kTest);
    if (count > test.size()) throw Error(fmt::format("--num {}: there are {} test images", count, test.size()));
    return test.images.narrow(0, 0, count);
}

/// "0.093 0.114 ...": of each class, among the most probable ones.
std::string class_shares(const torch::Tensor& probabilities) {
    const auto counts = torch::bincount(probabilities.argmax(1), {}, probabilities.size(1)).to(torch::kFloat64) /
                        double(probabilities.size(0));
    std::vector<std::string> shares;
    for (int64_t i = 0; i < counts.size(0); ++i) shares.push_back(fmt::format("{:.3f}", counts[i].item<double>()));
    return fmt::format("{}", fmt::join(shares, " "));
}

double confident_share(const torch::Tensor& probabilities) {
    return (std::get<0>(probabilities.max(1)) > 0.9).to(torch::kFloat64).mean().item<double>();
}

Report measure_fid(const Options& options, const Checkpoint& checkpoint, torch::Device device) {
    const Classifier classifier = Classifier::shipped();
    const int64_t count = options.num.value_or(1000);
    const Dataset train = load_dataset(checkpoint.config.dataset, Split::kTrain);
    const Dataset test = load_dataset(checkpoint.config.dataset, Split::kTest);
    const auto reference = fit_gaussian(classifier.judge(to_signed(test.images)).features);
    // Drawn at random: MNIST's file goes from writer to writer, and its first images are few people's.
    const int64_t some_count = std::min(count, train.size());
    const auto some = train.images.index_select(0, DataOrder(/*seed=*/0, train.size()).indices(0, some_count));
    const auto real = classifier.judge(to_signed(some));

    Report report;
    report.head["metric"] =
        fmt::format("Frechet distance in the features of {}, a classifier of MNIST ({:.2f}% right); not Inception FID",
                    kClassifierName, 100 * classifier.test_accuracy());
    report.head["samples"] = count;
    report.head["floor"] = frechet_distance(fit_gaussian(real.features), reference);
    report.head["floor_is"] =
        fmt::format("{} random training images against the {} test images", some_count, test.size());
    report.head["confident_real"] = confident_share(real.probabilities);
    for (const auto& options_of_walk : walks(options, Direction::kSampling)) {
        Walk walk = options_of_walk.walk(checkpoint, device);
        walk.seed = uint64_t(options.seed);
        const auto start = sampling_noise(
            walk.seed, 0, count, {checkpoint.shape.channels, checkpoint.shape.height, checkpoint.shape.width}, 0);
        const auto result = run_walk(
            fmt::format("{}, {} steps: image steps", options_of_walk.solver, walk.grid.size() - 1), walk, start);
        const auto judged = classifier.judge(to_signed(to_bytes(result.images)));
        Json row = row_of(options_of_walk, result, int64_t(walk.grid.size()) - 1);
        row["fid"] = frechet_distance(fit_gaussian(judged.features), reference);
        row["confident"] = confident_share(judged.probabilities);
        row["seconds"] = result.seconds;
        row["class_shares"] = class_shares(judged.probabilities);
        report.add(row);
    }
    return report;
}

Report measure_roundtrip(const Options& options, const Checkpoint& checkpoint, torch::Device device) {
    for (const auto& walk : walks(options, Direction::kEncoding)) {
        if (walk.stochastic()) throw Error(fmt::format("{} is stochastic and cannot be walked back", walk.solver));
    }
    const auto images = to_signed(test_images(checkpoint, options.num.value_or(64)));
    Report report;
    report.head["metric"] = "mean squared error per pixel in [0, 1] after encoding and decoding";
    report.head["images"] = images.size(0);
    for (const auto& options_of_walk : walks(options, Direction::kEncoding)) {
        const Walk decode = options_of_walk.walk(checkpoint, device);
        const RoundTrip trip = round_trip(decode, images);
        Json row = row_of(options_of_walk, trip.encoded, int64_t(decode.grid.size()) - 1);
        row["mse"] = trip.mse;
        row["latent_mean"] = trip.latent_mean;
        row["latent_std"] = trip.latent_std;
        report.add(row);
    }
    return report;
}

Json mean_and_error(const std::string& what, const torch::Tensor& bits, int64_t nfe) {
    Json row;
    row["bound"] = what;
    row["bits_per_dim"] = bits.mean().item<double>();
    row["standard_error"] = bits.std().item<double>() / std::sqrt(double(bits.size(0)));
    row["nfe"] = nfe;
    return row;
}

/// What `measure` says of each image, in groups of one size (the last one padded), each on one thread.
torch::Tensor over_groups(const std::string& what, const torch::Tensor& bytes, torch::Device device,
                          const std::function<torch::Tensor(const torch::Tensor& some, int64_t first)>& measure) {
    constexpr int64_t kGroup = 16;
    const int64_t count = bytes.size(0), groups = (count + kGroup - 1) / kGroup;
    auto result = torch::empty({count}, torch::kFloat64);
    std::atomic<int64_t> done{0};
    Progress progress(what, groups);
    const auto measure_group = [&](int64_t g) {
        const int64_t first = g * kGroup, size = std::min(kGroup, count - first);
        const auto indices = torch::arange(first, first + kGroup).clamp_max(count - 1);
        const auto measured = measure(bytes.index_select(0, indices).to(device), first);
        result.narrow(0, first, size).copy_(measured.narrow(0, 0, size));
        progress.update(++done);
    };
    if (device.is_cpu()) {
        parallel_for_each(groups, at::get_num_threads(), measure_group);
    } else {
        for (int64_t g = 0; g < groups; ++g) measure_group(g);  // all threads draw the noise
    }
    return result;
}

Report measure_nll(const Options& options, const Checkpoint& checkpoint, torch::Device device) {
    const auto bytes = test_images(checkpoint, options.num.value_or(128));
    const Schedule schedule = make_schedule(checkpoint.config.schedule);
    const auto network = make_network(checkpoint, options.weights == "ema" ? Weights::kEma : Weights::kRaw, device);
    const auto denoiser = network_denoiser(network, parameterization(checkpoint.config.model.prediction), schedule);
    const int64_t dimensions = bytes[0].numel(), start = grid_start(schedule, options.max_ratio);
    const Grid chain = make_grid(schedule, "uniform", start, options.max_ratio);
    const Grid grid = likelihood_grid(schedule, options.ode_steps, options.max_ratio);
    const int64_t ode_nfe = 2 * (std::ssize(grid) - 1);

    const auto measured = [&](const std::string& what, const auto& measure) {
        return over_groups(what, bytes, device, [&](const torch::Tensor& some, int64_t first) {
            return measure(some, Draws{uint64_t(options.seed), first});
        });
    };
    const auto dequantised_ode =
        measured("ODE, dequantised: group", [&](const torch::Tensor& some, const Draws& draws) {
            return bits_per_dim(ode_log_density(denoiser, grid, dequantised(some, draws), options.probes, draws),
                                dimensions);
        });
    const auto ode = measured("ODE from x_1: group", [&](const torch::Tensor& some, const Draws& draws) {
        return ode_bound(denoiser, chain, grid, some, options.probes, draws);
    });
    const auto bound = measured("variational bound: group", [&](const torch::Tensor& some, const Draws& draws) {
        return variational_bound(denoiser, chain, some, draws).total();
    });
    Report report;
    report.head["metric"] = "bits per dimension of the test images, 256 grey values";
    report.head["images"] = bytes.size(0);
    report.head["ode"] = fmt::format(
        "from t = 1 to {}, {} Hutchinson probes of signs, heun in {} steps; once from the dequantised "
        "picture, as if it were x_1, and once from a draw of x_1 with the discrete decoder before it",
        start, options.probes, std::ssize(grid) - 1);
    report.head["variational"] =
        fmt::format("all {} terms from t = {} on, one draw each, discrete decoder", start + 1, start);
    report.add(mean_and_error("ode-uniform", dequantised_ode, ode_nfe));
    report.add(mean_and_error("ode", ode, ode_nfe + 1));
    report.add(mean_and_error("variational", bound, start));
    return report;
}

using Metric = Report (*)(const Options& options, const Checkpoint& checkpoint, torch::Device device);
const Table<Metric>& metrics() {
    static const Table<Metric> table = {{"fid", measure_fid}, {"nll", measure_nll}, {"roundtrip", measure_roundtrip}};
    return table;
}

void run(const Options& options) {
    if (options.clip_x0 && options.metric != "fid") {
        throw Error("--clip-x0 belongs to --metric fid: a clipped denoiser has no way back and no likelihood");
    }
    const auto device = options.runtime.apply();
    const Checkpoint checkpoint = load_to_run(options.checkpoint, device);
    look_up("metric", metrics(), options.metric)(options, checkpoint, device).print(options.json);
}

}  // namespace

void add_eval(CLI::App& app) {
    auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand("eval", "measure a network: quality of its samples, likelihood, round trips");
    command->add_option("--checkpoint", options->checkpoint, "checkpoint file or run folder")->required();
    command->add_option("--metric", options->metric, "what to measure")
        ->check(known_name("metric", names(metrics())))
        ->capture_default_str();
    command->add_option("--solvers", options->solvers, "a row for each of these, e.g. ddim,heun")
        ->delimiter(',')
        ->check(known_name("solver", names(solvers())));
    command->add_option("--spacings", options->spacings, "and each of these")
        ->delimiter(',')
        ->check(known_name("spacing", spacing_names()));
    command->add_option("--steps", options->steps, "and each of these numbers of steps, e.g. 5,10,20")
        ->delimiter(',')
        ->check(range<int64_t>(1, 100'000));
    command->add_option("--nfe", options->nfe, "or at most so many network evaluations, whatever the solver")
        ->delimiter(',')
        ->check(range<int64_t>(1, 1'000'000));
    add_max_ratio(*command, options->max_ratio);
    add_clip_x0(*command, options->clip_x0);
    command->add_option("--num", options->num, "images; default 1000 (fid), 128 (nll), 64 (roundtrip)")
        ->check(range<int64_t>(2, 1'000'000));
    command->add_option("--weights", options->weights, "averaged or raw weights")
        ->check(known_name("weights", std::vector<std::string>{"ema", "raw"}))
        ->capture_default_str();
    command->add_option("--seed", options->seed, "random seed for all noise")
        ->check(range<int64_t>(0, INT64_MAX))
        ->capture_default_str();
    command->add_option("--probes", options->probes, "nll: vectors of the trace estimate")
        ->check(range<int64_t>(1, 10'000))
        ->capture_default_str();
    command->add_option("--ode-steps", options->ode_steps, "nll: steps of heun along the ODE")
        ->check(range<int64_t>(1, 100'000))
        ->capture_default_str();
    command->add_flag("--json", options->json, "print the result as one JSON object");
    options->runtime.add_to(*command);
    command->callback([options] { run(*options); });
}

}  // namespace diffuse::cli
