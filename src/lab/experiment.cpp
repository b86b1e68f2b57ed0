#include "diffuse/lab/experiment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "diffuse/base/json.hpp"
#include "lab/experiments.hpp"

namespace diffuse {

double Check::error() const { return std::abs(measured - expected); }

bool Check::holds() const { return error() <= tolerance; }

void Findings::check(std::string what, double measured, double expected, double tolerance, std::string source,
                     bool is_random) {
    checks.push_back({std::move(what), measured, expected, tolerance, std::move(source), is_random});
}

void Findings::check_mean(std::string what, const torch::Tensor& numbers, double expected, std::string source) {
    const auto [value, standard_error] = lab::mean_of(numbers);
    check(std::move(what), value, expected, 4 * standard_error, std::move(source), /*is_random=*/true);
}

void Findings::check_variance(std::string what, const torch::Tensor& numbers, double mean, double expected,
                              std::string source) {
    check_mean(std::move(what), (numbers - mean).square(), expected, std::move(source));
}

void Findings::check_true(std::string what, bool is_true, std::string source) {
    check(std::move(what), double(is_true), 1, 0, std::move(source));
}

const Table<Experiment>& experiments() {
    static const Table<Experiment> table = {
        {"heat", lab::heat_experiment()},
        {"fourier", lab::fourier_experiment()},
        {"brownian", lab::brownian_experiment()},
        {"ou", lab::ou_experiment()},
        {"fokker-planck", lab::fokker_planck_experiment()},
        {"kolmogorov", lab::kolmogorov_experiment()},
        {"score", lab::score_experiment()},
        {"vp-ve", lab::vp_ve_experiment()},
        {"solvers", lab::solvers_experiment()},
        {"jarzynski", lab::jarzynski_experiment()},
        {"ddpm-dsm", lab::ddpm_dsm_experiment()},
        {"ito", lab::ito_experiment()},
    };
    return table;
}

nlohmann::json lab_settings(const Experiment& experiment, const std::vector<std::string>& settings) {
    nlohmann::json result = nlohmann::json::object();
    for (const auto& setting : settings) {
        const size_t equals = setting.find('=');
        if (equals == std::string::npos || equals == 0) {
            throw Error(fmt::format("setting '{}': expected key=value, e.g. paths=1000", setting));
        }
        const std::string key = setting.substr(0, equals), text = setting.substr(equals + 1);
        if (result.contains(key)) throw Error(fmt::format("setting '{}' is given twice; once is enough", key));
        const bool wants_text = std::ranges::any_of(
            experiment.settings, [&](const Field& known) { return known.key == key && value_of(known).is_string(); });
        result[key] = json_or_text(text, wants_text);
    }
    return result;
}

}  // namespace diffuse
