#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/diffusion/level.hpp"

namespace diffuse {

struct ScheduleOptions {
    std::string kind = "linear";
    int64_t steps = 1000;
    bool zero_terminal_snr = false;
    std::optional<double> sigma_min, sigma_max;  ///< of ve and edm
};
Fields fields(ScheduleOptions& options);

/// The process dx = f x dt + g dw (Song et al. 2021, arXiv:2011.13456, eq. 5, whose f(x, t) is f x here) at some time:
/// f = alpha' / alpha, g^2 = 2 sigma^2 (log(sigma / alpha))', for any alpha and sigma.
struct Sde {
    double f = 0, g2 = 0;
};

/// A path of levels in continuous time u, from data at 0 to noise at 1.
struct Path {
    std::function<NoiseLevel(double u)> level;  ///< its t is not set
    std::function<Sde(double u)> sde;           ///< in units of u
};

/// Maps time to noise levels: t = 0 is data, exactly; t = 1 .. T are the trained levels. For schedules of steps,
/// alpha^2 + sigma^2 = 1, and alpha^2 is what Ho et al. 2020 call alpha-bar; projects that number levels 0 .. T-1 call
/// our t = k + 1 their k. For continuous paths, t is T u. Copies share all that it holds.
class Schedule {
public:
    /// From the variances added at each step, beta_1 .. beta_T, each in (0, 1).
    explicit Schedule(const std::vector<double>& betas, bool zero_terminal_snr = false);
    Schedule(Path path, int64_t steps);

    int64_t steps() const { return std::ssize(*levels_) - 1; }     ///< T
    bool zero_terminal_snr() const { return zero_terminal_snr_; }  ///< it ends in pure noise on purpose
    /// t is 0 or in [1, T]: exact at whole numbers, and between them exact for paths, interpolated linearly in log-SNR
    /// for steps. Between 0 and 1 log-SNR may have no bound and the network was never trained; nothing may ask there.
    NoiseLevel at(double t) const;
    /// The process at t in (0, T], in units of t.
    Sde sde(double t) const;
    /// The other way: the t in [1, T] at which a level has this log-SNR; the nearest end outside.
    double time_at(double log_snr) const;

private:
    NoiseLevel path_level(double t, double steps) const;
    /// The time between two at which a path has this log-SNR, to rounding.
    double path_time(double below, double above, double log_snr) const;

    std::shared_ptr<const std::vector<NoiseLevel>> levels_;
    std::shared_ptr<const Path> path_;  ///< null for schedules of steps
    bool zero_terminal_snr_ = false;
};

/// A schedule of a kind, each of which stands in schedule.cpp with its source. It is a function of t / T, so that it
/// ends at the same noise for every T (but for the clipping of betas). With `zero_terminal_snr` it ends at alpha =
/// 5e-5: nothing of an image can be seen there, and r = sigma / alpha stays finite. Throws Error for an unknown kind,
/// for zero_terminal_snr of a path, and for a sigma_min that is not below sigma_max.
Schedule make_schedule(const ScheduleOptions& options);
std::vector<std::string> schedule_names();

}  // namespace diffuse
