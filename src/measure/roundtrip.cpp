#include "diffuse/measure/roundtrip.hpp"

#include <fmt/format.h>

#include "measure/measures.hpp"

namespace diffuse {

RoundTrip round_trip(Sampler decode, const torch::Tensor& x, const TrajectoryFile& trajectory) {
    Sampler encode = decode;
    encode.grid = reversed(decode.grid);
    RoundTrip trip;
    trip.encoded = run_with_progress("encoding: step", encode, x, trajectory);
    decode.second_states = trip.encoded.second_states;
    trip.decoded = run_with_progress("decoding: step", decode, trip.encoded.x);
    const auto latents = trip.encoded.x.to(torch::kFloat64);
    trip.latent_mean = latents.mean().item<double>();
    trip.latent_std = latents.std(/*unbiased=*/false).item<double>();
    const double range = x.dim() == 4 ? 2 : 1;
    const auto squares = ((trip.decoded.x - x) / range).to(torch::kFloat64).square();
    trip.mse = {squares.mean().item<double>(), mean_estimate(squares.flatten(1).mean(1)).error};
    return trip;
}

namespace {

Report report_roundtrip(const Model& model, const MeasureOptions& options) {
    const Dataset examples = test_examples(model, options, 64);
    const auto x = to_network(examples.examples);
    const ExampleShape& shape = model.data.shape;
    Report report{.head = {{"metric", fmt::format("mean squared error per {} after encoding and decoding",
                                                  shape.points ? "standardised number" : "pixel in [0, 1]")},
                           {noun(shape) + "s", x.size(0)},
                           {"errors", "one standard error, of the mean over the examples"}}};
    tell_condition(report, model, examples.condition, options);
    for (const auto& sampling : options.samplings) {
        Sampler decode = make_sampler(sampling, model);
        decode.condition = examples.condition;
        const auto trip = round_trip(decode, x);
        Json row = row_of(sampling, options.samplings, trip.encoded, std::ssize(decode.grid) - 1);
        put(row, "mse", trip.mse);
        row["latent_mean"] = trip.latent_mean;
        row["latent_std"] = trip.latent_std;
        add(report, row, options);
    }
    return report;
}

}  // namespace

Measure roundtrip_measure() {
    return {.about = "error of test examples that are encoded and decoded",
            .run = report_roundtrip,
            .options = {"num", "data", "weights", "solver", "spacing", "steps", "nfe", "max_ratio", "batch",
                        "tolerance", "shift", "vary"},
            .direction = Direction::kEncoding};
}

}  // namespace diffuse
