#pragma once

#include <string>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/diffusion/level.hpp"

namespace diffuse {

struct ScheduleOptions {
    std::string kind = "linear";
    int64_t steps = 1000;
    bool zero_terminal_snr = false;
};
Fields fields(ScheduleOptions& options);

/// Maps time to noise levels: t = 0 is data, t = 1 .. T are the trained levels. alpha^2 + sigma^2 = 1 for all schedules
/// here, and alpha^2 is what Ho et al. 2020 call alpha-bar. Projects that number levels 0 .. T-1 call our t = k + 1
/// their k.
class Schedule {
public:
    /// From the variances added at each step, beta_1 .. beta_T, each in (0, 1).
    explicit Schedule(const std::vector<double>& betas, bool zero_terminal_snr = false);

    int64_t steps() const { return int64_t(levels_.size()) - 1; }  ///< T
    bool zero_terminal_snr() const { return zero_terminal_snr_; }  ///< it ends in pure noise on purpose
    /// t is 0 or in [1, T]: exact at whole numbers, interpolated linearly in log-SNR between them. Between 0 and 1
    /// log-SNR has no bound and the network was never trained; nothing may ask there.
    NoiseLevel at(double t) const;
    /// The other way: the t in [1, T] at which a level has this log-SNR; the nearest end outside.
    double time_at(double log_snr) const;

private:
    std::vector<NoiseLevel> levels_;
    bool zero_terminal_snr_;
};

/// Each kind is a function of t / T, so that it ends at the same noise for every T (but for the clipping below):
/// linear: beta from 1e-4 to 0.02 (Ho et al. 2020, section 4) for T = 1000; level t of another T is level 1000 t / T of
/// these. scaled-linear: likewise, with sqrt(beta) linear from sqrt(0.00085) to sqrt(0.012) (Rombach et al. 2022,
/// arXiv:2112.10752, their code). cosine: alpha-bar(t) = f(t) / f(0), f(t) = cos^2((t/T + 0.008) / 1.008 * pi/2)
/// (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17).
/// sigmoid: alpha-bar is sigmoid(-u), u from -3 to 3, stretched to end at 1 and 0 (Jabri et al. 2023, arXiv:2212.11972,
/// algorithm 3). polynomial: alpha-bar(t) = (1 - (t/T)^2)^2 (Hoogeboom et al. 2022, arXiv:2203.17003, appendix B). In
/// the last three, beta is clipped at 0.999, so that alpha-bar never reaches zero. With `zero_terminal_snr` alpha is
/// shifted and stretched (Lin et al. 2024, arXiv:2305.08891, algorithm 1) to end at 5e-5: nothing of a picture can be
/// seen there, and r = sigma / alpha stays finite.
Schedule make_schedule(const ScheduleOptions& options);
std::vector<std::string> schedule_names();

}  // namespace diffuse
