#pragma once

#include <string>

#include "diffuse/run/model.hpp"
#include "diffuse/run/sample_options.hpp"
#include "diffuse/solve/sampler.hpp"

namespace diffuse {

/// All that sampling needs, on LibTorch's number of threads. The one place where it is put together: sample, encode,
/// eval and the previews of training take it from here.
Sampler make_sampler(const SampleOptions& options, const Model& model, torch::Device device);

/// Runs a sampler with a progress line called `what`. `trajectory`: a file for how the first images form, or empty.
struct TimedSamples : Samples {
    double seconds = 0;
};
TimedSamples run_with_progress(const std::string& what, Sampler sampler, const torch::Tensor& x,
                               const std::string& trajectory = "");

}  // namespace diffuse
