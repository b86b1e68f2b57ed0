#pragma once

#include <optional>
#include <string>

#include "diffuse/data/png.hpp"
#include "diffuse/run/model.hpp"
#include "diffuse/run/sample_options.hpp"
#include "diffuse/solve/sampler.hpp"

namespace diffuse {

/// The network that guidance leads away from; none where the options name none.
std::optional<Model> load_guide(const SampleOptions& options, torch::Device device);

/// All that sampling needs, on LibTorch's number of threads. The one place where it is put together: sample, encode,
/// eval and the previews of training take it from here. `guide`: as `load_guide` has it.
Sampler make_sampler(const SampleOptions& options, const Model& model, const std::optional<Model>& guide = {});

/// How samples or latents were made, for the images and tensor files that hold them: the options that make them again
/// in so many steps as "sampling", a JSON object; and which network it was, its `identity`, as "weights".
PngTexts origin_of(const SampleOptions& options, int64_t steps, const ExampleShape& shape, const std::string& network);
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
