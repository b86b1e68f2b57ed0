#pragma once

#include <optional>
#include <string>

#include "diffuse/data/png.hpp"
#include "diffuse/run/model.hpp"
#include "diffuse/run/sample_options.hpp"
#include "diffuse/solve/sampler.hpp"

namespace diffuse {

/// All that sampling needs, on LibTorch's number of threads. The one place where it is put together: sample, encode,
/// eval and the previews of training take it from here.
Sampler make_sampler(const SampleOptions& options, const Model& model, torch::Device device);

/// How samples or latents were made, for the pictures and tensor files that hold them: the options that make them again
/// in so many steps as "sampling", a JSON object; and which network it was, as "weights".
PngTexts origin_of(const SampleOptions& options, int64_t steps, const Checkpoint& checkpoint);
inline constexpr const char *kSamplingKey = "sampling", *kWeightsKey = "weights";

/// A file for how the first images form (plot/sheet.hpp); none without a path.
struct TrajectoryFile {
    std::string path;
    std::optional<int64_t> scale;
    PngTexts texts;
};

/// Runs a sampler with a progress line called `what`.
struct TimedSamples : Samples {
    double seconds = 0;
};
TimedSamples run_with_progress(const std::string& what, Sampler sampler, const torch::Tensor& x,
                               const TrajectoryFile& trajectory = {});

}  // namespace diffuse
