#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <atomic>
#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/solve/likelihood.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

/// What is measured of some examples: of the first, by its index, all draws are functions.
using MeasureSome = std::function<Tensor(const Denoiser& estimate, const Tensor& some, int64_t first)>;

/// A number for each example, float64 [N], and the mean of the network evaluations that an example took.
struct Measured {
    Tensor each;
    int64_t nfe;
};

/// The rows' errors, in words.
constexpr const char* kNllErrors = "one standard error, of the mean over the examples";

/// The mean under a name, and the evaluations.
void put_measured(Json& row, const std::string& name, const Measured& measured) {
    put(row, name, mean_estimate(measured.each));
    row["nfe"] = measured.nfe;
}

/// Measures examples by groups of one size, each on one thread, so that an example's figures depend on its index and
/// the seed alone; with a progress line called `what`.
Measured over_groups(const std::string& what, const Model& model, const Dataset& examples, int64_t group,
                     const MeasureSome& measure) {
    const int64_t count = examples.size();
    Measured result{torch::empty({count}, torch::kFloat64), 0};
    const Counter evaluations;
    std::atomic<int64_t> done{0};
    Progress progress(what, count);
    for_each_group(count, group, model.device, at::get_num_threads(), [&](int64_t first, int64_t size) {
        const auto condition = group_of(examples.condition, first, group).to(model.device);
        const Denoiser estimate = model.denoiser(condition, evaluations);
        const auto measured = measure(estimate, group_of(examples.examples, first, group).to(model.device), first);
        result.each.narrow(0, first, size).copy_(measured.narrow(0, 0, size));
        progress.update(done += size);
    });
    if (!result.each.isfinite().all().item<bool>()) {
        throw Error(fmt::format("{}: not all bits are finite; more ode_steps, or a smaller max_ratio, may help", what),
                    kRunFailed);
    }
    result.nfe = evaluations.count() / ((count + group - 1) / group * group);
    return result;
}

/// How many examples are stepped together: one alone where they would depend on one another.
int64_t group_size(const NllOptions& options, int64_t at_once) { return options.tolerance ? 1 : at_once; }

/// The levels that the ODE takes: from the lowest trained one, whose noise the distribution has in it.
Grid ode_grid(const Model& model, const NllOptions& options) {
    return normalised(likelihood_grid(model.schedule, options.tolerance ? 1 : options.ode_steps, options.max_ratio));
}

/// How the ODE is solved, in words.
std::string ode_words(const NllOptions& options, const Grid& grid) {
    return options.tolerance ? fmt::format("dopri5 with a tolerance of {}", *options.tolerance)
                             : fmt::format("heun in {} steps", std::ssize(grid) - 1);
}

/// log p of points by the ODE, in nats of what the network sees (see `Codec::log_slope`). The divergence is exact.
Measured log_density_of_points(const Model& model, const Dataset& points, const MeasureOptions& options,
                               const Grid& grid) {
    constexpr int64_t kAtOnce = 1024, kExactTrace = 0;
    return over_groups("ODE: point", model, points, group_size(options.nll, kAtOnce),
                       [&](const Denoiser& estimate, const Tensor& some, int64_t first) {
                           return ode_log_density(estimate, grid, some.to(torch::kFloat64), kExactTrace,
                                                  Draws{uint64_t(options.seed), first}, options.nll.tolerance);
                       });
}

Report report_of_points(const Model& model, const MeasureOptions& options) {
    const Dataset test = test_examples(model, options, 1000);
    const Grid grid = ode_grid(model, options.nll);
    Report report{
        .head = {{"metric", "nats per point, -log p of the test points in their own units, by the ODE"},
                 {"points", test.size()},
                 {"ode", fmt::format("from t = 1 to {}, exact divergence, {}",
                                     grid_start(model.schedule, options.nll.max_ratio), ode_words(options.nll, grid))},
                 {"errors", kNllErrors}}};
    tell_condition(report, model, test.condition, options);
    for (const auto& column : model.data.codec.columns) {
        if (!column.whole) continue;
        log::warn(
            fmt::format("column '{}' has whole numbers alone: their density has no bound, and what is printed "
                        "depends on the first noise level",
                        column.name));
    }
    Measured nats = log_density_of_points(model, test, options, grid);
    nats.each = model.data.codec.log_slope(test.examples) - nats.each;
    Json row;
    put_measured(row, "nats", nats);
    add(report, row, options);
    return report;
}

/// Adds bits per dimension by three measures (likelihood.hpp): the ODE from the dequantised images on, as if they were
/// x_1; the bound by the ODE from x_1 on; the variational bound along the chain of all levels.
void add_bits(Report& report, const Model& model, const Dataset& images, const MeasureOptions& options,
              const Grid& chain, const Grid& grid) {
    const NllOptions& nll = options.nll;
    const auto draws = [&](int64_t first) { return Draws{uint64_t(options.seed), first}; };
    const auto add_bound = [&](const std::string& name, const std::string& what, const MeasureSome& measure) {
        const Measured bits = over_groups(what, model, images, group_size(nll, 16), measure);
        Json row = {{"bound", name}};
        put_measured(row, "bits_per_dim", bits);
        add(report, row, options);
    };
    add_bound("ode-uniform", "ODE, dequantised: image", [&](const auto& estimate, const Tensor& some, int64_t first) {
        const auto x = dequantised(some, draws(first));
        const auto log_density = ode_log_density(estimate, grid, x, nll.probes, draws(first), nll.tolerance);
        return bits_per_dim(log_density, some[0].numel());
    });
    add_bound("ode", "ODE from x_1: image", [&](const auto& estimate, const Tensor& some, int64_t first) {
        return ode_bound(estimate, chain, grid, some, nll.probes, draws(first), nll.tolerance);
    });
    add_bound("variational", "variational bound: image", [&](const auto& estimate, const Tensor& some, int64_t first) {
        return variational_bound(estimate, chain, some, draws(first)).total();
    });
}

Report report_of_images(const Model& model, const MeasureOptions& options) {
    const NllOptions& nll = options.nll;
    const Dataset test = test_examples(model, options, 128);
    const int64_t start = grid_start(model.schedule, nll.max_ratio);
    const Grid chain = normalised(make_grid(model.schedule, "uniform", start, nll.max_ratio));
    const Grid grid = ode_grid(model, nll);
    Report report{.head = {{"metric", "bits per dimension of the test images, 256 grey values"},
                           {"images", test.size()},
                           {"errors", kNllErrors}}};
    tell_condition(report, model, test.condition, options);
    report.head["ode"] = fmt::format(
        "from t = 1 to {}, {} Hutchinson probes of signs, {}; once from the dequantised "
        "image, as if it were x_1, and once from a draw of x_1 with the discrete decoder before it",
        start, nll.probes, ode_words(nll, grid));
    report.head["variational"] =
        fmt::format("all {} terms from t = {} on, one draw each, discrete decoder", start + 1, start);
    add_bits(report, model, test, options, chain, grid);
    return report;
}

Report report_nll(const Model& model, const MeasureOptions& options) {
    return (model.data.shape.points ? report_of_points : report_of_images)(model, options);
}

}  // namespace

Fields fields(NllOptions& options) {
    return {{"ode_steps", Number<int64_t>{&options.ode_steps, 1, 100'000}, "nll: steps of heun along the ODE"},
            {"probes", Number<int64_t>{&options.probes, 1, 10'000}, "nll: vectors of the trace estimate"}};
}

Measure nll_measure() {
    return {.about = "likelihood of test examples: bits per dimension of images, nats of points",
            .run = report_nll,
            .options = {"num", "data", "weights", "max_ratio", "seed", "probes", "ode_steps", "tolerance"}};
}

}  // namespace diffuse
