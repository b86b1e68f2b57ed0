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
    /// The process at t in [1, T], in units of t.
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

/// Each kind is a function of t / T, so that it ends at the same noise for every T (but for the clipping below):
/// linear: beta from 1e-4 to 0.02 (Ho et al. 2020, section 4) for T = 1000; level t of another T is level 1000 t / T of
/// these. scaled-linear: likewise, with sqrt(beta) linear from sqrt(0.00085) to sqrt(0.012) (Rombach et al. 2022,
/// arXiv:2112.10752, their code). cosine: alpha-bar(t) = f(t) / f(0), f(t) = cos^2((t/T + 0.008) / 1.008 * pi/2)
/// (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17).
/// sigmoid: alpha-bar is sigmoid(-u), u from -3 to 3, stretched to end at 1 and 0 (Jabri et al. 2023, arXiv:2212.11972,
/// algorithm 3). polynomial: alpha-bar(t) = (1 - (t/T)^2)^2 (Hoogeboom et al. 2022, arXiv:2203.17003, appendix B). In
/// the last three, beta is clipped at 0.999, so that alpha-bar never reaches zero. With `zero_terminal_snr` alpha is
/// shifted and stretched (Lin et al. 2024, arXiv:2305.08891, algorithm 1) to end at 5e-5: nothing of an image can be
/// seen there, and r = sigma / alpha stays finite.
/// Continuous paths, with u = t / T: vp: g^2 = beta from 0.1 to 20, linear in u, f = -beta / 2; sub-vp: the same alpha,
/// sigma = 1 - alpha^2; ve: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^u, from 0.01 to 50 (all Song et al.
/// 2021, arXiv:2011.13456, appendices B and C). edm: alpha = 1, sigma^(1/7) linear in u from 0.002 to 80 (Karras et al.
/// 2022, arXiv:2206.00364, eq. 5). flow: alpha = 1 - u, sigma = u (Lipman et al. 2023, arXiv:2210.02747, example II;
/// Liu et al. 2023, arXiv:2209.03003). cosine-vp: alpha = cos(pi u / 2), sigma = sin(pi u / 2). Throws Error for
/// zero_terminal_snr of a path and for sigma_min and sigma_max of others than ve and edm.
Schedule make_schedule(const ScheduleOptions& options);
std::vector<std::string> schedule_names();

}  // namespace diffuse
