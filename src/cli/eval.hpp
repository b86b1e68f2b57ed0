#pragma once

#include <string>
#include <vector>

#include "cli/common.hpp"
#include "diffuse/measure/measure.hpp"

namespace diffuse::cli {

struct EvalOptions {
    std::string checkpoint, data, metric = "fid";
    MeasureOptions measure;  ///< all but the ways of sampling
    SampleOptions sampling;  ///< of these, all but the lists
    std::vector<std::string> solvers, spacings;
    std::vector<int64_t> steps, nfe;
    std::vector<double> guidance;
    std::vector<double> interval_ends;  ///< low and high of each, in turn
    std::string plot;
    bool json = false;
    RuntimeOptions runtime;
};

/// Every solver, spacing, interval and scale of guidance and number of steps that was asked for. Throws Error, before
/// hours are spent, when one of them cannot be.
std::vector<SampleOptions> combinations(const EvalOptions& options, const Checkpoint& checkpoint, Direction direction);

/// Throws Error, before hours are spent, where the plot that was asked for could not be drawn. of_curves: it is one of
/// `figure_of`.
void check_plot(const EvalOptions& options, bool of_curves);

/// The curves of a table of samples: each of `columns` over the scale of guidance where there are several, else over
/// the network evaluations.
Figure figure_of(const Report& report, const EvalOptions& options, const std::vector<std::string>& columns);

}  // namespace diffuse::cli
