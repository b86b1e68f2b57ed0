#include "diffuse/measure/nll.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <atomic>
#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/solve/likelihood.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int64_t kGroup = 16;

/// What is measured of some examples: of the first, by its index, all draws are functions.
using MeasureSome = std::function<Tensor(const Denoiser& estimate, const Tensor& some, int64_t first)>;

/// A number for each example, by groups of one size, with a progress line called `what`; and the mean of the network
/// evaluations that an example took.
struct Measured {
    Tensor each;
    int64_t nfe;
};
Measured over_groups(const std::string& what, const Model& model, const Tensor& examples, const Condition& condition,
                     int64_t group, const MeasureSome& measure) {
    const int64_t count = examples.size(0);
    Measured result{torch::empty({count}, torch::kFloat64), 0};
    const Counter evaluations;
    std::atomic<int64_t> done{0};
    Progress progress(what, count);
    for_each_group(count, group, model.device, at::get_num_threads(), [&](int64_t first, int64_t size) {
        const Denoiser estimate = model.denoiser(group_of(condition, first, group).to(model.device), evaluations);
        const auto measured = measure(estimate, group_of(examples, first, group).to(model.device), first);
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

}  // namespace

Fields fields(NllOptions& options) {
    return {{"ode_steps", Number<int64_t>{&options.ode_steps, 1, 100'000}, "nll: steps of heun along the ODE"},
            {"probes", Number<int64_t>{&options.probes, 1, 10'000}, "nll: vectors of the trace estimate"}};
}

Nll measure_nll(const Model& model, const Tensor& bytes, const Condition& condition, const NllOptions& options) {
    const int64_t start = grid_start(model.schedule, options.max_ratio);
    const Grid chain = normalised(make_grid(model.schedule, "uniform", start, options.max_ratio));
    const int64_t steps = options.tolerance ? 1 : options.ode_steps;
    const Grid grid = normalised(likelihood_grid(model.schedule, steps, options.max_ratio));
    // Examples that are stepped together depend on one another.
    const int64_t group = options.tolerance ? 1 : kGroup;
    const auto measured = [&](const std::string& what, const MeasureSome& measure) {
        return over_groups(what, model, bytes, condition, group, measure);
    };
    const auto draws = [&](int64_t first) { return Draws{options.seed, first}; };
    const Measured dequantised_ode =
        measured("ODE, dequantised: image", [&](const Denoiser& estimate, const Tensor& some, int64_t first) {
            const auto x = dequantised(some, draws(first));
            const auto log_density =
                ode_log_density(estimate, grid, x, options.probes, draws(first), options.tolerance);
            return bits_per_dim(log_density, some[0].numel());
        });
    const Measured ode =
        measured("ODE from x_1: image", [&](const Denoiser& estimate, const Tensor& some, int64_t first) {
            return ode_bound(estimate, chain, grid, some, options.probes, draws(first), options.tolerance);
        });
    const Measured variational =
        measured("variational bound: image", [&](const Denoiser& estimate, const Tensor& some, int64_t first) {
            return variational_bound(estimate, chain, some, draws(first)).total();
        });
    return {dequantised_ode.each, ode.each, variational.each, start, std::ssize(grid) - 1,
            dequantised_ode.nfe,  ode.nfe,  variational.nfe};
}

PointDensity measure_point_density(const Model& model, const Tensor& z, const Condition& condition,
                                   const NllOptions& options) {
    constexpr int64_t kPointsAtOnce = 1024, kExactTrace = 0;
    const int64_t steps = options.tolerance ? 1 : options.ode_steps;
    const Grid grid = normalised(likelihood_grid(model.schedule, steps, options.max_ratio));
    const int64_t group = options.tolerance ? 1 : kPointsAtOnce;
    const Measured density = over_groups(
        "ODE: point", model, z, condition, group, [&](const Denoiser& estimate, const Tensor& some, int64_t first) {
            return ode_log_density(estimate, grid, some.to(torch::kFloat64), kExactTrace, Draws{options.seed, first},
                                   options.tolerance);
        });
    return {density.each, grid_start(model.schedule, options.max_ratio), std::ssize(grid) - 1, density.nfe};
}

namespace {

/// How the ODE is solved, in words.
std::string ode_words(const NllOptions& options, int64_t steps) {
    return options.tolerance ? fmt::format("dopri5 with a tolerance of {}", *options.tolerance)
                             : fmt::format("heun in {} steps", steps);
}

double standard_error(const Tensor& each) { return each.std().item<double>() / std::sqrt(double(each.size(0))); }

Json row_of_bits(const std::string& what, const Tensor& bits, int64_t nfe) {
    Json row;
    row["bound"] = what;
    row["bits_per_dim"] = bits.mean().item<double>();
    row["standard_error"] = standard_error(bits);
    row["nfe"] = nfe;
    return row;
}

Report report_of_points(const Model& model, const MeasureOptions& options, const NllOptions& nll) {
    const Dataset test = test_examples(model, options, 1000);
    const auto [in_z, start, steps, nfe] = measure_point_density(model, test.examples, test.condition, nll);
    const auto nats = model.data.codec.log_slope(test.examples) - in_z;
    Report report;
    report.head["metric"] = "nats per point, -log p of the test points in their own units, by the ODE";
    report.head["points"] = test.size();
    report.head["ode"] = fmt::format("from t = 1 to {}, exact divergence, {}", start, ode_words(nll, steps));
    if (test.condition.classes.defined()) report.head["condition"] = "the labels of the test points";
    Json row;
    row["nats"] = nats.mean().item<double>();
    row["standard_error"] = standard_error(nats);
    row["nfe"] = nfe;
    add(report, row, options);
    return report;
}

Report report_of_images(const Model& model, const MeasureOptions& options, const NllOptions& nll) {
    const Dataset test = test_examples(model, options, 128);
    const Nll bits = measure_nll(model, test.examples, test.condition, nll);
    Report report;
    report.head["metric"] = "bits per dimension of the test images, 256 grey values";
    report.head["images"] = test.size();
    if (test.condition.classes.defined()) report.head["condition"] = "the labels of the test images";
    report.head["ode"] = fmt::format(
        "from t = 1 to {}, {} Hutchinson probes of signs, {}; once from the dequantised "
        "image, as if it were x_1, and once from a draw of x_1 with the discrete decoder before it",
        bits.start, nll.probes, ode_words(nll, bits.ode_steps));
    report.head["variational"] =
        fmt::format("all {} terms from t = {} on, one draw each, discrete decoder", bits.start + 1, bits.start);
    add(report, row_of_bits("ode-uniform", bits.dequantised_ode, bits.dequantised_nfe), options);
    add(report, row_of_bits("ode", bits.ode, bits.ode_nfe), options);
    add(report, row_of_bits("variational", bits.variational, bits.variational_nfe), options);
    return report;
}

Report report_nll(const Model& model, const MeasureOptions& options) {
    NllOptions nll = options.nll;
    nll.seed = uint64_t(options.seed);
    return (model.data.shape.points ? report_of_points : report_of_images)(model, options, nll);
}

}  // namespace

Measure nll_measure() {
    return {.about = "likelihood of test examples: bits per dimension of images, nats of points",
            .run = report_nll,
            .options = {"num", "data", "weights", "max_ratio", "seed", "probes", "ode_steps", "tolerance"}};
}

}  // namespace diffuse
