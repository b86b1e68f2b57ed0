#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/base/torch.hpp"
#include "diffuse/plot/figure.hpp"

/// The lab: experiments with diffusion, each a list of facts that are measured and of figures that show them.
namespace diffuse {

/// A fact of the mathematics and what was measured of it. What is expected comes from a formula, a quadrature, a
/// publication or a second method, never from the code that is measured.
struct Check {
    std::string what;
    double measured = 0, expected = 0, tolerance = 0;
    std::string source;      ///< of what is expected
    bool is_random = false;  ///< the tolerance is four standard errors of what was measured
    double error() const;    ///< |measured - expected|
    bool holds() const;      ///< the error is at most the tolerance; never of NaN
};

/// Images in rows of `columns`, uint8 [N, C, H, W].
struct Sheet {
    torch::Tensor images;
    int64_t columns = 1;
};

/// A table: rows of texts, all of one length, the head first.
using Cells = std::vector<std::vector<std::string>>;

/// A figure, a sheet of images or a table: the name of its files, and what is to be seen.
struct Exhibit {
    std::string name, caption;
    Figure figure = {};  ///< where there are panels
    Sheet sheet = {};    ///< where there are images
    Cells cells = {};    ///< where there are rows
};

/// What an experiment found.
struct Findings {
    nlohmann::ordered_json settings;  ///< all of the experiment
    std::vector<Check> checks;
    std::vector<Exhibit> exhibits;

    void check(std::string what, double measured, double expected, double tolerance, std::string source,
               bool is_random = false);
    /// That the mean of independent numbers is what it should be, to four standard errors; of what is true or false,
    /// the share that is true.
    void check_mean(std::string what, const torch::Tensor& numbers, double expected, std::string source);
    /// The same of their variance, by the squares of their distances from `mean`, which is known.
    void check_variance(std::string what, const torch::Tensor& numbers, double mean, double expected,
                        std::string source);
    /// That something is true; measured and expected are 1.
    void check_true(std::string what, bool is_true, std::string source);
};

/// A row of the table of experiments.
struct Experiment {
    std::string about;               ///< a line
    std::vector<std::string> story;  ///< paragraphs, with their formulas
    std::vector<std::string> code;   ///< the files whose code is measured
    Fields settings;                 ///< what may be changed, with the values by default
    /// Does it with these values for some settings and random numbers from a seed. Throws Error for settings that are
    /// unknown or out of range.
    std::function<Findings(const nlohmann::json& settings, uint64_t seed)> run;
};
const Table<Experiment>& experiments();

/// Settings of the command line, "key=value" each (json_or_text). Throws Error for one without a key or given twice.
nlohmann::json lab_settings(const Experiment& experiment, const std::vector<std::string>& settings);

}  // namespace diffuse
