#include "diffuse/diffusion/guidance.hpp"

#include "diffuse/run/sampling.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

const Schedule kSchedule = make_schedule({.kind = "linear"});

/// Variance at the data's end of a solver that is linear in x and in its noise, from N(0, 1) at the grid's start: each
/// step makes V' = A^2 V + B^2, whose A and B are what it makes of x = 1 and of noise 1, so that nothing is drawn.
double end_variance(const std::string& solver, const Denoiser& denoiser, int64_t steps) {
    const Grid grid = make_grid(kSchedule, "log-snr", steps);
    double variance = 1;
    for (size_t i = 0; i + 1 < grid.size(); ++i) {
        const auto along = [&](double x, double noise) {
            const auto method = make_solver(solver);
            const auto of_noise = [&](int64_t) { return torch::full({1, 1}, noise, torch::kFloat64); };
            return method->step(denoiser, torch::full({1, 1}, x, torch::kFloat64), grid[i], grid[i + 1], of_noise)
                .item<double>();
        };
        variance = std::pow(along(1, 0), 2) * variance + std::pow(along(0, 1), 2);
    }
    return variance;
}

TEST(Guidance, OfEqualVariancesMovesTheMeanAndNothingElseAtEveryLevel) {
    const GaussianData of_class{.mean = 0.4, .std = 0.7}, of_all{.mean = -0.2, .std = 0.7};
    for (const double scale : {-1.0, 0.5, 2.0, 7.0}) {
        const GaussianData expected{.mean = 0.4 + (scale - 1) * 0.6, .std = 0.7};
        const Denoiser denoiser = guided(of_class.denoiser(), of_all.denoiser(), scale);
        for (const double t : {1.0, 300.0, 1000.0}) {
            const NoiseLevel level = kSchedule.at(t);
            const auto x = torch::linspace(-3, 3, 7, torch::kFloat64).view({7, 1});
            const auto [x0, eps] = denoiser(x, level);
            const auto wanted = expected.denoiser()(x, level);
            // Rounding, which a division by alpha (0.006 at T) enlarges.
            EXPECT_TRUE(torch::allclose(x0, wanted.x0, 1e-10, 1e-10)) << scale << " at " << t;
            EXPECT_TRUE(torch::allclose(eps, wanted.eps, 1e-10, 1e-10)) << scale << " at " << t;
        }
    }
}

/// p = N(0, 2), p(. | c) = N(0, 1): Chidambaram et al. 2024 (arXiv:2408.09000, section 3). Guidance does not sample the
/// power p(. | c)^scale p^(1 - scale), whose variance is 2 / (scale + 1), and an SDE and the ODE do not sample the
/// same.
TEST(Guidance, OfNestedGaussiansHasTheVarianceOfItsClosedFormByOdeAndBySde) {
    const GaussianData of_class{.mean = 0, .std = 1}, of_all{.mean = 0, .std = std::sqrt(2)};
    struct Row {
        double scale, ode, sde;
    };
    for (const auto& [scale, ode, sde] : {Row{2, 0.5, 0.5833333}, Row{3, 0.25, 0.3875}, Row{7, 0.015625, 0.1538273}}) {
        EXPECT_NEAR(ode, std::pow(2, 1 - scale), 1e-7);
        EXPECT_NEAR(sde, (2 - std::pow(2, 2 - 2 * scale)) / (2 * scale - 1), 1e-6);
        const Denoiser denoiser = guided(of_class.denoiser(), of_all.denoiser(), scale);
        // What is left is the start (r = 157 instead of infinity) and 600 steps of order 4 and 1.
        EXPECT_NEAR(end_variance("rk4", denoiser, 600), ode, 2e-3 * ode) << scale;
        EXPECT_NEAR(end_variance("ddpm", denoiser, 600), sde, 3e-2 * sde) << scale;
    }
}

TEST(Guidance, OfAnyTwoDeviationsIsAPowerOfTheirQuotientByOde) {
    for (const auto& [s, all, w] : {std::array{0.5, 2.0, 1.5}, {1.0, 0.8, 1.0}, {0.3, 0.6, 0.4}}) {
        const Denoiser denoiser =
            guided(GaussianData{.mean = 0, .std = s}.denoiser(), GaussianData{.mean = 0, .std = all}.denoiser(), 1 + w);
        const double expected = std::pow(s * std::pow(s / all, w), 2);
        EXPECT_NEAR(end_variance("rk4", denoiser, 600), expected, 5e-3 * expected);
    }
}

TEST(Guidance, OfScaleOneAndZeroIsOneOfTheTwoAndLeavesTheOtherAlone) {
    const Denoiser fine = GaussianData{}.denoiser();
    const Denoiser broken = [](const Tensor&, const NoiseLevel&) -> Prediction {
        throw std::logic_error("must not be asked");
    };
    const auto x = torch::randn({3, 2}, torch::kFloat64);
    const NoiseLevel level = kSchedule.at(500);
    EXPECT_TRUE(torch::equal(guided(fine, broken, 1)(x, level).x0, fine(x, level).x0));
    EXPECT_TRUE(torch::equal(guided(broken, fine, 0)(x, level).eps, fine(x, level).eps));
}

TEST(Guidance, RescaledHasTheDeviationOfTheMainOneInEachExample) {
    torch::manual_seed(3);
    const auto a = torch::randn({4, 100}, torch::kFloat64), b = torch::randn({4, 100}, torch::kFloat64);
    const auto says = [](const Tensor& x0) {
        return [x0](const Tensor& x, const NoiseLevel& level) {
            return Prediction{x0, (x - level.alpha * x0) / level.sigma};
        };
    };
    const NoiseLevel level = kSchedule.at(500);
    const auto x = torch::randn_like(a);
    const auto [x0, eps] = guided(says(a), says(b), 4, /*rescale=*/1)(x, level);
    EXPECT_TRUE(torch::allclose(x0.std(1, false), a.std(1, false), 1e-10, 0));
    EXPECT_TRUE(torch::allclose(level.alpha * x0 + level.sigma * eps, x, 0, 1e-10)) << "eps goes with x0";
    const auto flat = guided(says(torch::zeros_like(a)), says(torch::zeros_like(a)), 4, 0.7)(x, level).x0;
    EXPECT_TRUE(flat.eq(0).all().item<bool>()) << "no deviation at all is no reason for NaN";
}

TEST(Threshold, ScalesWhatIsBeyondItsPercentileAndLeavesTheRest) {
    const auto inside = torch::linspace(-0.9, 0.9, 101, torch::kFloat64), outside = 3 * inside;
    const auto x0 = torch::stack({inside, outside});
    const Denoiser plain = [&](const Tensor& x, const NoiseLevel& level) {
        return Prediction{x0, (x - level.alpha * x0) / level.sigma};
    };
    const NoiseLevel level = kSchedule.at(500);
    const auto x = torch::zeros_like(x0);
    const auto [found, eps] = thresholded(plain, 90)(x, level);
    EXPECT_TRUE(torch::equal(found[0], inside));
    const double bound = torch::quantile(outside.abs(), 0.9).item<double>();
    EXPECT_TRUE(torch::allclose(found[1], (outside / bound).clamp(-1, 1), 1e-12, 0));
    EXPECT_TRUE(torch::allclose(level.alpha * found + level.sigma * eps, x, 0, 1e-12));
}

TEST(RatioInterval, HoldsForWholeStepsInBothDirections) {
    const RatioInterval interval{0.3, 3};
    const auto at = [](double ratio) { return NoiseLevel{1 / std::hypot(1, ratio), ratio / std::hypot(1, ratio), 0}; };
    EXPECT_TRUE(interval.holds(at(2), at(0.1)) && interval.holds(at(0.1), at(2)));
    EXPECT_TRUE(interval.holds(at(3), at(2))) << "its upper end belongs to it";
    EXPECT_FALSE(interval.holds(at(4), at(2)));
    EXPECT_FALSE(interval.holds(at(0.3), at(0.1)));
}

TEST(SampleOptions, ClassesFollowOneAnother) {
    const auto classes = [](const std::string& text, int64_t known) {
        return ConditionSpec{.classes = known}.of_classes(text, 5).classes;
    };
    EXPECT_TRUE(torch::equal(classes("all", 3), torch::tensor({0, 1, 2, 0, 1}, torch::kInt64)));
    EXPECT_TRUE(torch::equal(classes("7", 10), torch::tensor({7, 7, 7, 7, 7}, torch::kInt64)));
    EXPECT_TRUE(torch::equal(classes("2,0", 3), torch::tensor({2, 0, 2, 0, 2}, torch::kInt64)));
    EXPECT_FALSE(classes("none", 10).defined() || classes("all", 0).defined());
    expect_contains(error_of([&] { classes("3", 3); }), "class 3: the network knows 0 to 2");
    expect_contains(error_of([&] { classes("0", 0); }), "trained without labels");
    for (const char* text : {"", "x", "1,", ",1", "-1", "1 2", "1.5", "99999999999999999999"}) {
        expect_contains(error_of([&] { classes(text, 10); }), "is not all, none, or classes");
    }
}

TEST(SampleOptions, NfeIsTheLimitOfGuidedSamplingToo) {
    for (const auto& [name, kind] : solvers()) {
        for (const int64_t nfe : {8, 15, 40}) {
            SampleOptions options{.solver = name, .nfe = nfe, .guidance = 2};
            if (nfe < 2 * kind.last_evaluations) continue;  // not even one step
            const auto steps = [&] { return std::ssize(make_grid(options, kSchedule, ExampleShape{}.numel())) - 1; };
            EXPECT_LE(2 * steps() * kind.evaluations - 2 * (kind.evaluations - kind.last_evaluations), nfe) << name;
            const int64_t everywhere = steps();
            options.guidance_interval = {0.3, 3};
            EXPECT_GE(steps(), everywhere) << name;
            options.guidance = 1;
            EXPECT_GE(steps(), everywhere) << name;
        }
    }
}

/// A network that knows ten classes and says something else of each.
Model ten_classes() {
    const Network network = [](const NetworkInput& input) {
        const torch::Tensor& classes = input.condition.classes;
        const auto own = classes.defined() ? classes.to(torch::kFloat32) : torch::full({1}, 10.f);
        return (0.1 * input.x + 0.01 * own.view({-1, 1, 1, 1})).clone();
    };
    const DataSpec data{.shape = {1, 4, 4}, .condition = {.classes = 10}};
    return model_of(network, make_parameterization({.prediction = "v"}), kSchedule, data, torch::kCPU);
}

Tensor drawn(const SampleOptions& options, const Model& model, int64_t count, int64_t threads = 1,
             int64_t* nfe = nullptr) {
    Sampler sampler = make_sampler(options, model);
    sampler.condition = model.data.condition.of_classes(options.classes, count);
    sampler.seed = 4;
    sampler.threads = threads;
    const Samples samples = run(sampler, sampling_noise(4, 0, count, model.data.shape.sizes(), 0));
    if (nfe) *nfe = samples.nfe;
    return samples.x;
}

TEST(GuidedSampler, OfScaleOneAndZeroIsTheConditionalAndTheUnconditionalOneBitForBit) {
    const Model model = ten_classes();
    for (const std::string solver : {"heun", "ddpm"}) {
        const SampleOptions plain{.solver = solver, .steps = 7};
        SampleOptions none = plain, zero = plain, two = plain;
        none.classes = "none";
        zero.guidance = 0;
        two.guidance = 2;
        EXPECT_TRUE(torch::equal(drawn(zero, model, 20), drawn(none, model, 20))) << solver;
        EXPECT_FALSE(torch::equal(drawn(plain, model, 20), drawn(none, model, 20))) << solver;
        EXPECT_FALSE(torch::equal(drawn(two, model, 20), drawn(plain, model, 20))) << solver;
        SampleOptions nowhere = two;
        nowhere.guidance_interval = {1e8, 1e9};
        EXPECT_TRUE(torch::equal(drawn(nowhere, model, 20), drawn(plain, model, 20))) << solver;
    }
}

/// N(0, 1) of the class and N(0, 2) of none, in closed form.
Model nested_gaussians(const Schedule& schedule) {
    const DataSpec data{.shape = ExampleShape::of_points(1), .condition = {.classes = 1}};
    const auto denoiser = [](const Condition& condition, const Counter& evaluations) {
        return counted(gaussian_denoiser(0, condition.defined() ? 1 : std::sqrt(2)), evaluations);
    };
    return {.denoiser = denoiser, .schedule = schedule, .data = data};
}

/// Along the ODE x / alpha goes like sqrt(v + r^2) of the data's variance v, and guided like the powers of both: of
/// s^2 = 1 against S^2 = 2, guided by w in (lo, hi], it begins with a variance of 1 + r0^2 and ends with this one.
TEST(GuidedSampler, InAnIntervalHasTheVarianceOfItsClosedFormByTheOde) {
    const double s2 = 1, S2 = 2, w = 2, lo = 0.3 * 0.3, hi = 9;
    for (const auto& kind : schedule_names()) {
        const Model model = nested_gaussians(make_schedule({.kind = kind}));
        const auto end = [&](const SampleOptions& options) {
            Sampler sampler = make_sampler(options, model);
            sampler.condition = model.data.condition.of_classes("0", 1);
            return std::pow(run(sampler, torch::ones({1, 1})).x.item<double>(), 2);
        };
        const SampleOptions interval{.guidance = w + 1, .guidance_interval = {{0.3, 3}}};
        SampleOptions by_dopri5 = interval, by_heun = interval;
        by_dopri5.solver = "dopri5", by_dopri5.solver_options.tolerance = 1e-6;
        const double r02 = std::pow(make_grid(by_dopri5, model.schedule, 1).front().ratio(), 2);
        const double exact =
            (1 + r02) * s2 / (s2 + r02) * std::pow((s2 + lo) / (s2 + hi), w) * std::pow((S2 + hi) / (S2 + lo), w);
        EXPECT_NEAR(end(by_dopri5), exact, 1e-4 * exact) << kind;  // its tolerance; x is float32 at the end
        by_heun.solver = "heun", by_heun.spacing = "log-snr", by_heun.steps = 600;
        // Whole steps, of a factor of 1.02, begin and end the interval; so does their error.
        EXPECT_NEAR(end(by_heun), exact, 0.05 * exact) << kind;
    }
    EXPECT_NEAR((1 + 157 * 157.0) / (1 + 157 * 157.0) * std::pow(1.09 / 10, 2) * std::pow(11 / 2.09, 2), 0.32911, 1e-5);
}

TEST(Dopri5, FollowsTheOdeFromPureNoiseToo) {
    for (const std::string kind : {"flow", "cosine-vp"}) {
        const Model model = nested_gaussians(make_schedule({.kind = kind}));
        SampleOptions options{.solver = "dopri5", .max_ratio = std::numeric_limits<double>::infinity(), .guidance = 0};
        Sampler sampler = make_sampler(options, model);
        ASSERT_EQ(sampler.grid.front().alpha, 0) << kind;
        sampler.condition = model.data.condition.of_classes("0", 1);
        const double end = run(sampler, torch::ones({1, 1})).x.item<double>();
        EXPECT_NEAR(end, std::sqrt(2), 1e-3) << kind;  // of N(0, 2), by a tolerance of 1e-4
    }
}

TEST(GuidedSampler, DependsNeitherOnTheNumberOfExamplesNorOnThreads) {
    const Model model = ten_classes();
    const SampleOptions options{.solver = "ddpm", .steps = 5, .guidance = 3, .guidance_interval = {{0.3, 3}}};
    const Tensor all = drawn(options, model, 1000);
    EXPECT_TRUE(torch::equal(drawn(options, model, 1000, /*threads=*/3), all));
    EXPECT_TRUE(torch::equal(drawn(options, model, 37), all.narrow(0, 0, 37)));
}

TEST(GuidedSampler, CountsTheCallsThatWereMadeAndTakesWholeSteps) {
    const Model model = ten_classes();
    SampleOptions options{.solver = "heun", .steps = 10};
    int64_t plain = 0, everywhere = 0, within = 0;
    drawn(options, model, 8, 1, &plain);
    options.guidance = 2;
    drawn(options, model, 8, 1, &everywhere);
    options.guidance_interval = {0.5, 3};  // without the last step, which has one evaluation
    drawn(options, model, 8, 1, &within);
    EXPECT_EQ(everywhere, 2 * plain);
    int64_t guided_steps = 0;
    const Grid grid = make_grid(options, kSchedule, ExampleShape{}.numel());
    for (size_t i = 0; i + 1 < grid.size(); ++i) guided_steps += grid[i].ratio() > 0.5 && grid[i].ratio() <= 3;
    EXPECT_EQ(within, plain + 2 * guided_steps) << "both evaluations of a step of heun are guided, or none";
}

TEST(GuidedSampler, GoesBackToTheImageOverTheSameGrid) {
    const Model model = ten_classes();
    const SampleOptions options{.solver = "reversible", .steps = 12, .guidance = 2, .guidance_interval = {{0.3, 3}}};
    Sampler down = make_sampler(options, model), up = down;
    down.condition = up.condition = model.data.condition.of_classes("all", 8);
    up.grid = reversed(down.grid);
    const auto images = torch::rand({8, 1, 4, 4}) * 2 - 1;
    const Samples latents = run(up, images);
    down.second_states = latents.second_states;
    EXPECT_LT((run(down, latents.x).x - images).abs().max().item<double>(), 1e-5) << "float32 at both ends";
}

TEST(GuidedSampler, RefusesWhatThereIsNothingToLeadAwayFrom) {
    Model model = ten_classes();
    expect_contains(error_of([&] { make_sampler({.guidance = 2, .negative_class = "10"}, model); }),
                    "sample.negative_class: class 10: the network knows 0 to 9");
    model.data.condition.classes.names = {"0", "1", "10", "11", "2", "3", "4", "5", "6", "7"};
    EXPECT_EQ(negative_class({.negative_class = "3"}, model.data.condition), 5) << "a name, not a place in the list";
    expect_contains(error_of([&] { make_sampler({.guidance = 2, .negative_class = "9"}, model); }), "knows 0, 1, 10");
    model.data.condition.classes.names.clear();
    model.data.condition.classes.count = 0;
    expect_contains(error_of([&] { make_sampler({.guidance = 2}, model); }), "trained without labels");
}

}  // namespace
}  // namespace diffuse
