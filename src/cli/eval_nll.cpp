#include <fmt/format.h>

#include <cmath>

#include "cli/eval.hpp"
#include "diffuse/measure/nll.hpp"

namespace diffuse::cli {
namespace {

Json mean_and_error(const std::string& what, const torch::Tensor& bits, int64_t nfe) {
    Json row;
    row["bound"] = what;
    row["bits_per_dim"] = bits.mean().item<double>();
    row["standard_error"] = bits.std().item<double>() / std::sqrt(double(bits.size(0)));
    row["nfe"] = nfe;
    return row;
}

NllOptions nll_options(const EvalOptions& options) {
    NllOptions nll = options.nll;
    nll.max_ratio = options.sampling.max_ratio;
    nll.tolerance = options.sampling.tolerance;
    nll.seed = uint64_t(options.seed);
    return nll;
}

Report report_point_density(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device) {
    const Dataset test = test_examples(options, checkpoint, 1000);
    const Model model = make_model(checkpoint, options.sampling.weights, device);
    const auto [in_z, start, steps, nfe] =
        measure_point_density(model, test.examples, test.condition, nll_options(options));
    const auto nats = model.data.codec.log_slope(test.examples) - in_z;
    Report report;
    report.head["metric"] = "nats per point, -log p of the test points in their own units, by the ODE";
    report.head["points"] = test.size();
    report.head["ode"] = fmt::format("from t = 1 to {}, exact divergence, {}", start,
                                     options.sampling.tolerance
                                         ? fmt::format("dopri5 with a tolerance of {}", *options.sampling.tolerance)
                                         : fmt::format("heun in {} steps", steps));
    if (test.condition.classes.defined()) report.head["condition"] = "the labels of the test points";
    Json row;
    row["nats"] = nats.mean().item<double>();
    row["standard_error"] = nats.std().item<double>() / std::sqrt(double(nats.size(0)));
    row["nfe"] = nfe;
    report.add(row);
    return report;
}

}  // namespace

Report report_nll(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device) {
    if (checkpoint.data.shape.points) return report_point_density(options, checkpoint, device);
    const Dataset test = test_examples(options, checkpoint, 128);
    const NllOptions nll = nll_options(options);
    const Model model = make_model(checkpoint, options.sampling.weights, device);
    const Nll bits = measure_nll(model, test.examples, test.condition, nll);
    Report report;
    report.head["metric"] = "bits per dimension of the test images, 256 grey values";
    report.head["images"] = test.size();
    if (test.condition.classes.defined()) report.head["condition"] = "the labels of the test images";
    report.head["ode"] = fmt::format(
        "from t = 1 to {}, {} Hutchinson probes of signs, {}; once from the dequantised "
        "image, as if it were x_1, and once from a draw of x_1 with the discrete decoder before it",
        bits.start, nll.probes,
        nll.tolerance ? fmt::format("dopri5 with a tolerance of {}", *nll.tolerance)
                      : fmt::format("heun in {} steps", bits.ode_steps));
    report.head["variational"] =
        fmt::format("all {} terms from t = {} on, one draw each, discrete decoder", bits.start + 1, bits.start);
    report.add(mean_and_error("ode-uniform", bits.dequantised_ode, bits.dequantised_nfe));
    report.add(mean_and_error("ode", bits.ode, bits.ode_nfe));
    report.add(mean_and_error("variational", bits.variational, bits.variational_nfe));
    return report;
}

}  // namespace diffuse::cli
