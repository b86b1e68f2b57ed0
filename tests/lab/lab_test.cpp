#include "diffuse/lab/experiment.hpp"

#include <ATen/Parallel.h>

#include <cmath>
#include <sstream>

#include "diffuse/base/device.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/diffusion/analytic.hpp"
#include "diffuse/lab/report.hpp"
#include "diffuse/plot/html.hpp"
#include "lab/experiments.hpp"
#include "lab/lattice.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

// At the ends of the ranges.
TEST(LongLab, HoldsItsChecksAtTheEndsOfItsSettings) {
    const std::vector<std::pair<std::string, nlohmann::json>> rows = {
        {"heat", {{"nodes", 64}, {"ratio", 0.01}}},
        {"heat", {{"nodes", 512}, {"ratio", 0.5}}},
        {"fourier", {{"digit", 8}, {"draws", 50}}},
        {"brownian", {{"paths", 1000}, {"steps", 20}}},
        {"ou", {{"theta", 5}, {"sigma", 0.1}, {"paths", 1000}}},
        {"ou", {{"paths", 1000}, {"steps", 1001}}},
        {"ou", {{"paths", 1000}, {"steps", 2000}}},
        {"fokker-planck", {{"nodes", 301}, {"walkers", 2000}}},
        {"fokker-planck", {{"nodes", 1999}, {"walkers", 2000}}},
        {"kolmogorov", {{"nodes", 401}, {"paths", 1000}}},
        {"score", {{"std", 0.5}, {"right", 0.05}, {"samples", 1000}}},
        {"vp-ve", {{"paths", 20000}, {"steps", 100}}},
        {"solvers", {{"numbers", 10000}, {"paths", 9}}},
        {"jarzynski", {{"paths", 10000}, {"steps", 50}}},
        {"ddpm-dsm", {{"batch", 8}, {"draws", 5000}}},
        {"ito", {{"mu", 1}, {"sigma", 0.5}}},
    };
    const int threads = at::get_num_threads();
    set_threads(1);
    for (const auto& [name, settings] : rows) {
        for (const auto& check : look_up("experiment", experiments(), name).run(settings, /*seed=*/7).checks) {
            EXPECT_TRUE(check.holds()) << name << " " << settings << ": " << check.what << ": " << check.measured
                                       << " instead of " << check.expected << ", tolerance " << check.tolerance;
        }
    }
    set_threads(threads);
}

TEST(Lab, AFailedCheckIsOneThatIsNotWithinItsToleranceOrNoNumber) {
    EXPECT_TRUE((Check{"", 1.1, 1, 0.11}.holds()));
    EXPECT_FALSE((Check{"", 1.2, 1, 0.11}.holds()));
    EXPECT_FALSE((Check{"", std::nan(""), 1, 0.11}.holds()));
    EXPECT_FALSE((Check{"", 1, 1, std::nan("")}.holds()));
}

TEST(Lab, AMeansToleranceIsFourOfItsStandardErrors) {
    const auto numbers = torch::tensor({1.0, 2.0, 3.0, 4.0}, torch::kFloat64);
    Findings findings;
    findings.check_mean("", numbers, 2.5, "");
    const Check& check = findings.checks.at(0);
    EXPECT_EQ(check.measured, 2.5);
    EXPECT_NEAR(check.tolerance, 4 * std::sqrt(5.0 / 3) / 2, 1e-12);  // variance 5/3 of four numbers
    EXPECT_TRUE(check.is_random);
}

TEST(Lab, SettingsAreReadStrictly) {
    const Experiment& fourier = look_up("experiment", experiments(), "fourier");
    EXPECT_EQ(lab_settings(fourier, {"a=1", "b=x.png"}), (nlohmann::json{{"a", 1}, {"b", "x.png"}}));
    EXPECT_EQ(lab_settings(fourier, {"digit=3", "input=3"}), (nlohmann::json{{"digit", 3}, {"input", "3"}}));
    expect_contains(error_of([&] { lab_settings(fourier, {"a"}); }), "expected key=value");
    expect_contains(error_of([&] { lab_settings(fourier, {"a=1", "a=2"}); }), "given twice");
    const auto run = [](const nlohmann::json& settings) {
        look_up("experiment", experiments(), "heat").run(settings, 0);
    };
    expect_contains(error_of([&] { run({{"nods", 64}}); }), "nods");
    expect_contains(error_of([&] { run({{"ratio", 0.6}}); }), "0.5");
}

TEST(Lab, GridsThatDoNotFitAreRefusedWithTheNearestOneThatDoes) {
    struct Row {
        std::string experiment, key;
        int64_t value;
        std::string expected;
    };
    const std::vector<Row> rows = {
        {"brownian", "steps", 21, "settings: steps is 21; expected a multiple of 2, the nearest is 22"},
        {"heat", "nodes", 65, "settings: nodes is 65; expected a multiple of 2, the nearest is 66"},
        {"fokker-planck", "nodes", 305,
         "settings: nodes is 305; expected a multiple of 6 and one more, the nearest is 307"},
        {"kolmogorov", "nodes", 402,
         "settings: nodes is 402; expected a multiple of 16 and one more, the nearest is 401"},
        {"ito", "paths", 16385, "settings: paths is 16385; expected a multiple of 64, the nearest is 16384"}};
    for (const auto& [experiment, key, value, expected] : rows) {
        const auto run = [&] { look_up("experiment", experiments(), experiment).run({{key, value}}, /*seed=*/0); };
        EXPECT_EQ(error_of(run), expected);
    }
}

// Each takes some seconds with its own settings.
TEST(LongLab, LongExperimentsShowHowFarTheyAre) {
    for (const std::string name : {"score", "solvers", "jarzynski"}) {
        std::ostringstream said;
        log::set_stream(&said);
        look_up("experiment", experiments(), name).run(nlohmann::json::object(), /*seed=*/0);
        log::set_stream(nullptr);
        expect_contains(said.str(), " left\n");
    }
}

TEST(Lab, AnotherSeedDrawsOtherNumbersAndTheSameSeedTheSame) {
    const auto measured = [](uint64_t seed) {
        std::vector<double> all;
        const nlohmann::json few = {{"paths", 16384}};
        for (const auto& check : look_up("experiment", experiments(), "ito").run(few, seed).checks)
            all.push_back(check.measured);
        return all;
    };
    EXPECT_EQ(measured(1), measured(1));
    EXPECT_NE(measured(1), measured(2));
}

TEST(Lab, ReportsHaveEveryCheckAndNeedNoOtherFile) {
    const TemporaryFolder folder;
    Findings findings;
    findings.checks = {{"a < b | c", 1, 1, 0.1, "a \"book\""}, {"d", std::nan(""), 2, 0.1, "e", true}};
    findings.exhibits = {{"curve", "A curve.", {"title", {{"x", "y", {{"f", {1, 2}, {1, 2}}}}}}},
                         {"sheet", "Images.", {}, {torch::zeros({2, 1, 8, 8}, torch::kUInt8), 2}}};
    findings.settings = {{"nodes", 64}};
    Outcome outcome{"heat", 5, findings, 1};
    save_exhibits(folder.path(), outcome);
    EXPECT_EQ(outcome.files.size(), 5u);
    for (const auto& file : outcome.files) EXPECT_TRUE(path_exists(file)) << file;
    const auto json = to_json(outcome);
    EXPECT_EQ(json["checks"][0]["holds"], true);
    EXPECT_TRUE(json["checks"][1]["measured"].is_null());
    EXPECT_EQ(json["checks"][1]["holds"], false);
    const std::string html = to_html({outcome}, folder.path()), markdown = to_markdown({outcome});
    for (const std::string part :
         {"a &lt; b | c", "a &quot;book&quot;", "FAILS", "data:image/svg+xml;base64,", "data:image/png;base64,"}) {
        expect_contains(html, part);
    }
    EXPECT_EQ(html.find("<script"), std::string::npos);
    expect_contains(markdown, "| a < b \\| c | 1 | 1 | 0.1 |");
    expect_contains(markdown, "`nodes=64`, `--seed 5`");
    expect_contains(to_table(outcome), "1 of which FAILED");
}

TEST(Html, DataAddressesAreBase64) {  // the vectors of RFC 4648, section 10
    for (const auto& [bytes, digits] : std::vector<std::pair<std::string, std::string>>{{"", ""},
                                                                                        {"f", "Zg=="},
                                                                                        {"fo", "Zm8="},
                                                                                        {"foo", "Zm9v"},
                                                                                        {"foob", "Zm9vYg=="},
                                                                                        {"fooba", "Zm9vYmE="},
                                                                                        {"foobar", "Zm9vYmFy"}}) {
        EXPECT_EQ(data_address("text/plain", bytes), "data:text/plain;base64," + digits);
    }
}

TEST(Lattice, SolvesWhatItMultiplies) {
    lab::Tridiagonal matrix{{0, 1, -2}, {4, 5, 6}, {2, -1, 0}};
    const std::vector<double> x = {1, -2, 3};
    const auto y = matrix.times(x);
    EXPECT_EQ(y, (std::vector<double>{0, -12, 22}));
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(matrix.solve(y)[i], x[i], 1e-14);
    EXPECT_TRUE(torch::equal(matrix.transposed().dense(), matrix.dense().t()));
}

TEST(Lattice, RatesOfDecayAreTheEigenvaluesOfItsMatrix) {
    const auto lattice = lab::make_lattice([](double x) { return x * x / 2; }, 1, -6, 6, 601);
    for (size_t k = 0; k < 4; ++k) EXPECT_NEAR(lab::decay_rate(lattice, k), double(k), 2e-3) << k;  // of OU; h^2
}

TEST(Analytic, OneComponentIsTheGaussianDenoiser) {
    const Mixture one{torch::full({1, 3}, 0.3, torch::kFloat64), torch::tensor({0.5}, torch::kFloat64),
                      torch::ones({1}, torch::kFloat64)};
    const auto x = torch::linspace(-2, 2, 12, torch::kFloat64).view({4, 3});
    for (const NoiseLevel& level : {NoiseLevel{0.6, 0.8}, NoiseLevel{1, 30}, NoiseLevel{0, 1}}) {
        const auto a = mixture_denoiser(one)(x, level), b = gaussian_denoiser(0.3, 0.5)(x, level);
        EXPECT_TRUE(torch::allclose(a.x0, b.x0, 0, 1e-13));
        EXPECT_TRUE(torch::allclose(a.eps, b.eps, 0, 1e-13));
    }
}

}  // namespace
}  // namespace diffuse
