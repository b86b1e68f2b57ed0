#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>

#include "diffuse/denoiser.hpp"
#include "diffuse/error.hpp"
#include "diffuse/solver.hpp"

namespace diffuse {

/// A folder for one test, removed with what is in it.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = std::filesystem::temp_directory_path() / "diffuse-test-XXXXXX";
        path_ = mkdtemp(name.data());
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

/// The message of the Error that `action` throws; fails when it throws none.
inline std::string error_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.what();
    }
    ADD_FAILURE() << "no Error was thrown";
    return "";
}

inline void expect_contains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

/// Data whose pixels are independent normal numbers, for which everything is known in closed form: the noisy data has
/// mean alpha * mean and variance v = alpha^2 deviation^2 + sigma^2, and E[eps | x] = sigma (x - alpha mean) / v.
struct GaussianData {
    double mean = 0.3, deviation = 0.5;

    double variance(const NoiseLevel& level) const {
        return std::pow(level.alpha * deviation, 2) + std::pow(level.sigma, 2);
    }
    Denoiser denoiser() const {
        return [*this](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
            const auto eps = level.sigma / variance(level) * (x - level.alpha * mean);
            return {(x - level.sigma * eps) / level.alpha, eps};
        };
    }
    /// The probability-flow ODE's exact solution: deviations from the mean scale like the marginal's.
    torch::Tensor flow(const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to) const {
        return to.alpha * mean + std::sqrt(variance(to) / variance(from)) * (x - from.alpha * mean);
    }
};

inline torch::Tensor no_noise(int64_t) { throw std::logic_error("a deterministic solver asked for noise"); }
inline void ignore_step(int64_t, const torch::Tensor&) {}

}  // namespace diffuse
