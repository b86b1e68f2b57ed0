#include <algorithm>

#include "diffuse/base/random.hpp"
#include "diffuse/data/columns.hpp"
#include "diffuse/data/csv.hpp"
#include "diffuse/data/toys.hpp"
#include "diffuse/measure/fisher.hpp"
#include "diffuse/measure/two_sample.hpp"
#include "diffuse/run/model.hpp"
#include "testing.hpp"
#include "training.hpp"

namespace diffuse {
namespace {

DatasetOptions drawn(const std::string& kind, int64_t count, int64_t seed = 0) {
    DatasetOptions options{.kind = kind, .dir = {}, .limit = count, .seed = seed};
    if (kind == "mixture") {
        options.means = {{-1, 0, 2}, {1, 0, 0}};
        options.stds = {0.5, 0.2};
        options.weights = {3, 1};
    }
    return options;
}

torch::Tensor points(const DatasetOptions& options, Split split = Split::kTrain) {
    return load_dataset(options, split).examples.to(torch::kFloat64);
}

TEST(Points, AreFunctionsOfKindSeedAndIndex) {
    for (const auto& kind : point_kinds()) {
        const auto all = points(drawn(kind, 300));
        EXPECT_TRUE(torch::equal(all.narrow(0, 0, 100), points(drawn(kind, 100)))) << kind;
        EXPECT_FALSE(torch::equal(all, points(drawn(kind, 300, /*seed=*/1)))) << kind;
        EXPECT_FALSE(torch::equal(all, points(drawn(kind, 300), Split::kTest))) << kind;
    }
}

TEST(Points, OfTheCheckerboardLieOnItsEightSquaresEvenly) {
    const auto x = points(drawn("checkerboard", 8000));
    const auto cell = ((x + 4) / 2).floor().to(torch::kInt64);
    EXPECT_TRUE(((cell.select(1, 0) + cell.select(1, 1)) % 2 == 0).all().item<bool>());
    const auto counts = torch::bincount(cell.select(1, 0) * 4 + cell.select(1, 1), {}, 16);
    for (int64_t i = 0; i < 16; ++i) {
        const int64_t count = counts[i].item<int64_t>();
        if (count == 0) continue;
        EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000 * 7 / 8.0));  // five standard errors
    }
    EXPECT_EQ((counts > 0).sum().item<int64_t>(), 8);
}

TEST(Points, AreOfTheMixtureThatIsKnownOfThem) {
    for (const std::string kind : {"eight-gaussians", "fractal", "mixture", "two-moons", "swiss-roll", "rings"}) {
        const auto mixture = *known_mixture(drawn(kind, 1));
        const auto x = points(drawn(kind, 1500)), parts = torch::multinomial(mixture.weights, 1500, true);
        const auto noise = normal({1500, x.size(1)}, {3, Purpose::kLab, 0}).to(torch::kFloat64);
        const auto same =
            mixture.means.index_select(0, parts) + mixture.stds.index_select(0, parts).unsqueeze(1) * noise;
        EXPECT_GT(energy_test(x, same, 199, /*seed=*/1).p_value, 0.005) << kind;  // the least that 199 can show
        EXPECT_LT(energy_test(x, same + 0.3, 199, /*seed=*/1).p_value, 0.006) << kind;
    }
    EXPECT_FALSE(known_mixture(drawn("checkerboard", 1)).has_value());
}

TEST(Points, OfEightGaussiansHaveTheEntropyAndFloorsOfTheFormulas) {
    // Quadrature in the anchors' conventions, divided by 1.414: nats, E|score|^2 and DSM's floor.
    const auto mixture = *known_mixture(drawn("eight-gaussians", 1));
    const auto x = points(drawn("eight-gaussians", 200'000));
    const auto nats = -mixture_log_density(mixture, x);
    const double error = 5 * nats.std().item<double>() / std::sqrt(200'000.0);
    EXPECT_NEAR(nats.mean().item<double>(), 2.83188, error);
    struct Known {
        double sigma, square, floor;
    };
    for (const auto& [sigma, square, floor] :
         {Known{0.1, 14.1748, 0.92913}, {0.5, 3.40723, 0.57410}, {1, 0.81016, 0.59492}, {2, 0.26104, 0.47792}}) {
        const auto exact = mixture_denoiser(mixture);
        const auto found = fisher_divergence(exact, exact, x, sigma, /*seed=*/1);
        EXPECT_EQ(found.divergence.value, 0);
        EXPECT_NEAR(found.exact_square.value, square, 0.015 * square) << sigma;  // 200,000 points
        EXPECT_NEAR(found.floor.value, floor, 0.008) << sigma;
    }
}

TEST(Points, AreSharedOutRightlyByEveryStochasticSolver) {
    // The exact score of eight Gaussians, a start from noise: each mode gets an eighth, and its own width.
    const Mixture mixture = *known_mixture(drawn("eight-gaussians", 1));
    const Schedule ve = make_schedule({.kind = "ve"});
    constexpr int64_t kCount = 4000;
    for (const std::string name : {"langevin", "pc", "reverse-diffusion", "euler-maruyama", "ddpm", "edm-sde"}) {
        SolverOptions options = on_schedule(ve, /*eta=*/1);
        const Grid grid = make_grid(ve, "log-snr", 100);
        options.steps = std::ssize(grid) - 1;
        Sampler sampler{.solver = [=] { return make_solver(name, options); },
                        .denoiser = closed_form(mixture_denoiser(mixture)),
                        .grid = grid};
        const auto x = run(sampler, sampling_noise(1, 0, kCount, {2}, 0)).x.to(torch::kFloat64);
        const auto squares = (x.unsqueeze(1) - mixture.means).square().sum(-1);
        const auto [nearest, mode] = squares.min(1);
        const auto counts = torch::bincount(mode, {}, 8).to(torch::kFloat64);
        EXPECT_LT((counts - kCount / 8.0).abs().max().item<double>(), 5 * std::sqrt(kCount * 7 / 64.0)) << name;
        // Of a law and its neighbours 6.1 standard deviations away; the steps of 100 levels leave a tenth.
        const double std = std::sqrt(nearest.mean().item<double>() / 2);
        // The corrector's rule goes by norms, which of two numbers are as random as they are: 0.46 is measured.
        EXPECT_NEAR(std, 0.3536, name == "pc" ? 0.15 : 0.04) << name;
    }
}

TEST(Fisher, DivergenceOfTwoNormalLawsIsItsClosedForm) {
    // s1^2/s2^4 - 2/s2^2 + 1/s1^2 + (m1 - m2)^2/s2^4 with data N(0, 1), here with noise of 0.5 on both.
    const double noise = 0.25, first = 1 + noise, second = 4 + noise;
    const double expected = first / (second * second) - 2 / second + 1 / first + 1 / (second * second);
    const auto x = normal({200'000, 1}, {1, Purpose::kLab, 0});
    const auto found = fisher_divergence(gaussian_denoiser(1, 2), gaussian_denoiser(0, 1), x, 0.5, /*seed=*/1);
    EXPECT_NEAR(found.divergence.value, expected, 5 * found.divergence.error);
    EXPECT_LT(found.divergence.error, 0.01 * expected);
}

TEST(Columns, AreStandardisedAndComeBack) {
    const auto values = 3 + 2 * normal({1000, 2}, {1, Purpose::kLab, 0}).to(torch::kFloat64);
    const Columns columns = standardising({"a", "b"}, values, "test");
    const auto z = standardised(values, columns).to(torch::kFloat64);
    EXPECT_LT(z.mean(0).abs().max().item<double>(), 1e-6);  // float32
    EXPECT_LT((z.square().mean(0) - 1).abs().max().item<double>(), 1e-6);
    EXPECT_LT((restored(z, columns) - values).abs().max().item<double>(), 1e-6);
    const Columns again = columns_from_json(nlohmann::json::parse(to_json(columns).dump()), "test");
    EXPECT_TRUE(again == columns);
}

TEST(Columns, WithBoundsKeepEverySampleBetweenThem) {
    const auto values = 6 * torch::rand({1000, 1}, torch::kFloat64) - 3;
    const Columns columns = standardising({"theta"}, values, "test", std::pair(-3.0, 3.0));
    EXPECT_LT((restored(standardised(values, columns), columns) - values).abs().max().item<double>(), 1e-5);
    const auto far = torch::tensor({{-1e3}, {1e3}}, torch::kFloat64);
    EXPECT_LE(restored(far, columns).abs().max().item<double>(), 3);
    const auto z = torch::tensor({{0.3}}, torch::kFloat64);
    const double slope = (restored(z + 1e-4, columns) - restored(z - 1e-4, columns)).item<double>() / 2e-4;
    EXPECT_NEAR(log_slope(z, columns).item<double>(), std::log(slope), 1e-6);
}

TEST(Columns, ThatAreConstantAreRefused) {
    expect_contains(error_of([] {
                        standardising({"id"}, torch::ones({5, 1}, torch::kFloat64), "a.csv");
                    }),
                    "a.csv: the column 'id' is the same number in every row");
}

TEST(TableData, TellTheNetworkTheColumnsOfTheCondition) {
    const TemporaryFolder folder;
    const auto values = normal({400, 3}, {1, Purpose::kLab, 0}).to(torch::kFloat64);
    write_csv(folder / "t.csv", {{"y", "a", "b"}, values});
    DatasetOptions options{.kind = "table", .dir = {}};
    options.file = (folder / "t.csv").string();
    options.condition = {"y"};
    const Dataset train = load_dataset(options, Split::kTrain), test = load_dataset(options, Split::kTest);
    EXPECT_EQ(train.size() + test.size(), 400);
    EXPECT_NEAR(double(test.size()), 40, 30);  // five standard deviations of a share of 0.1
    EXPECT_EQ(names(train.spec.codec.columns), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(names(train.spec.condition.numbers), std::vector<std::string>{"y"});
    EXPECT_TRUE(train.spec.codec.columns == test.spec.codec.columns);
    EXPECT_LT(train.condition.numbers.mean().abs().item<double>(), 1e-6);
    options.condition = {"z"};
    expect_contains(error_of([&] { load_dataset(options, Split::kTrain); }), "unknown column 'z'");
    options.condition = {"y", "a", "b"};
    expect_contains(error_of([&] { load_dataset(options, Split::kTrain); }), "none is left to draw");
}

Config on_points(const DatasetOptions& data) {
    Config config = training_config(data, /*steps=*/40);
    config.schedule = {.kind = "ve"};
    config.net.kind = "mlp";
    config.net.mlp = {.width = 32, .blocks = 2};
    return config;
}

TEST(PointTraining, ResumesToTheSameBits) {
    DatasetOptions simulated{.kind = "simulator", .dir = {}, .limit = 500};
    for (const std::string objective : {"ddpm", "ssm"}) {
        for (const auto& data : {drawn("two-moons", 500), simulated}) {
            const TemporaryFolder folder;
            Config config = on_points(data);
            config.train.objective = objective;
            train_in(config, folder / "whole");
            train_in(config, folder / "parts", after(13));
            train_in(config, folder / "parts");
            EXPECT_TRUE(checkpoint_bytes(folder / "whole") == checkpoint_bytes(folder / "parts"))
                << data.kind << " " << objective;
            EXPECT_TRUE(path_exists(folder / "whole" / "samples" / "step-0000040.csv"));
        }
    }
}

TEST(PointTraining, KeepsTheColumnsInItsCheckpoint) {
    const TemporaryFolder folder;
    train_in(on_points({.kind = "simulator", .dir = {}, .limit = 500}), folder / "run");
    const Checkpoint checkpoint = load_checkpoint(folder / "run");
    EXPECT_TRUE(checkpoint.data.shape == ExampleShape::of_points(2));
    EXPECT_EQ(names(checkpoint.data.codec.columns), (std::vector<std::string>{"theta1", "theta2"}));
    EXPECT_EQ(names(checkpoint.data.condition.numbers), (std::vector<std::string>{"y1", "y2"}));
    EXPECT_TRUE(checkpoint.data.codec.columns[0].bounds.has_value());
}

TEST(PointTraining, RefusesWhatCannotBe) {
    Config config = on_points(drawn("two-moons", 100));
    config.net.kind = "unet";
    const Dataset data = load_dataset(config.dataset, Split::kTrain);
    expect_contains(error_of([&] { new_network(config, data.spec, torch::kCPU); }),
                    "model.kind unet is for images, and the data are 2 numbers; set it to mlp");
    expect_contains(error_of([] { with_settings(Config{}, {"train.objective=ism"}); }),
                    "train.objective ism takes derivatives of the network's derivatives");
    expect_contains(error_of([&] { load_dataset({.kind = "mixture", .dir = {}}, Split::kTrain); }),
                    "dataset.means is empty");
}

}  // namespace
}  // namespace diffuse
