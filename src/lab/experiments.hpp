#pragma once

#include <memory>

#include "diffuse/lab/experiment.hpp"
#include "diffuse/solve/integrate.hpp"

/// What the files of experiments share.
namespace diffuse::lab {

Experiment brownian_experiment();
Experiment ddpm_dsm_experiment();
Experiment fokker_planck_experiment();
Experiment fourier_experiment();
Experiment heat_experiment();
Experiment ito_experiment();
Experiment jarzynski_experiment();
Experiment kolmogorov_experiment();
Experiment ou_experiment();
Experiment score_experiment();
Experiment solvers_experiment();
Experiment vp_ve_experiment();

/// Independent random numbers of an experiment, one tensor after the other, in float64.
class Draws {
public:
    explicit Draws(uint64_t seed) : seed_(seed) {}
    uint64_t seed() const { return seed_; }
    torch::Tensor normal(torch::IntArrayRef shape);
    torch::Tensor uniform(torch::IntArrayRef shape);  ///< over (0, 1)
    torch::Tensor signs(torch::IntArrayRef shape);    ///< -1 or 1
    StepNoise step_noise(torch::IntArrayRef shape);   ///< for a solver

private:
    uint64_t seed_, next_ = 0;
};

/// An experiment of options that `fields` describes. It owns those that its own settings lie in.
template <class Options>
Experiment experiment(std::string about, std::vector<std::string> story, std::vector<std::string> code,
                      void (*run)(Findings& findings, Options options, Draws& random)) {
    const auto defaults = std::make_shared<Options>();  // kept alive by run_with, as settings lie there
    const auto run_with = [run, defaults](const nlohmann::json& settings, uint64_t seed) {
        Options options;
        read(fields(options), settings, "settings");
        Findings findings;
        findings.settings = to_json(fields(options));
        Draws random(seed);
        run(findings, options, random);
        return findings;
    };
    return {std::move(about), std::move(story), std::move(code), fields(*defaults), run_with};
}

/// Throws Error that names the nearest one, unless a setting is a multiple of `step` and `rest` more.
void require_multiple(const std::string& key, int64_t value, int64_t step, int64_t rest = 0);

/// The mean of independent numbers, and its standard error.
struct Mean {
    double value = 0, standard_error = 0;
};
Mean mean_of(const torch::Tensor& numbers);

/// The size of the number that is farthest from 0.
double largest(const torch::Tensor& numbers);

torch::Tensor doubles(const std::vector<double>& values);  ///< float64 [N]

/// The double well (x^2 - 1)^2, as a potential.
double double_well(double x);

/// The slope of log y over log x by least squares: the order of a method from errors and step sizes.
double slope(const std::vector<double>& x, const std::vector<double>& y);
/// The same from its error at each step size.
double order_of(const std::function<double(double)>& error, const std::vector<double>& steps);

/// The distribution function of N(0, 1).
double normal_cdf(double x);

/// The integral of f over an interval, by Simpson's rule on so many pairs of steps.
double integral(const std::function<double(double)>& f, double low, double high, int64_t pairs = 2000);

/// Where f, which changes its sign between them, is zero, by bisection.
double root(const std::function<double(double)>& f, double low, double high);

/// `count` numbers at equal distances, both ends counted.
std::vector<double> spaced(double low, double high, int64_t count);
/// A function at each of these.
std::vector<double> at_each(const std::vector<double>& x, const std::function<double(double)>& f);

/// A formula at each of these, as a line.
Curve formula(std::string name, const std::vector<double>& x, const std::function<double(double)>& f);
/// What is measured at each of these, as points; without a name, in the colour of the formula before.
Curve measured(std::string name, const std::vector<double>& x, const std::function<double(double)>& f);
/// The density of numbers as points, by a histogram of `bins` between two ends.
Curve histogram(std::string name, const torch::Tensor& numbers, double low, double high, int64_t bins);
/// Paths as thin lines; values: [paths, times]
Curve paths_curve(const std::string& name, const std::vector<double>& times, const torch::Tensor& values);

}  // namespace diffuse::lab
