#include "diffuse/measure/roundtrip.hpp"

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
    trip.mse = ((trip.decoded.x - x) / range).to(torch::kFloat64).square().mean().item<double>();
    return trip;
}

}  // namespace diffuse
