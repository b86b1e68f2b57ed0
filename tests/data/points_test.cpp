#include <algorithm>
#include <memory>
#include <sstream>

#include "diffuse/base/log.hpp"
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
    torch::manual_seed(1);  // of the parts
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
    const Columns columns = standardising({"theta"}, values, "test", {{"theta", {-3, 3}}});
    EXPECT_LT((restored(standardised(values, columns), columns) - values).abs().max().item<double>(), 1e-5);
    const auto far = torch::tensor({{-1e3}, {1e3}}, torch::kFloat64);
    EXPECT_LE(restored(far, columns).abs().max().item<double>(), 3);
    const auto z = torch::tensor({{0.3}}, torch::kFloat64);
    const double slope = (restored(z + 1e-4, columns) - restored(z - 1e-4, columns)).item<double>() / 2e-4;
    EXPECT_NEAR(log_slope(z, columns).item<double>(), std::log(slope), 1e-6);
}

TEST(Columns, OfWholeNumbersAreRoundedWithinTheirBounds) {
    const auto values = torch::arange(1, 7, torch::kFloat64).unsqueeze(1);
    const Columns columns = standardising({"die"}, values, "test", {{"die", {0.6, 6.6}}});
    const auto far = torch::tensor({{-1e3}, {1e3}}, torch::kFloat64);
    EXPECT_TRUE(restored(far, columns).equal(torch::tensor({{1.0}, {6.0}}, torch::kFloat64)));
    EXPECT_TRUE(restored(standardised(values, columns), columns).equal(values));
}

TEST(Columns, ThatDifferByTooLittleAreNotCalledTheSame) {
    const auto error_with = [](const torch::Tensor& values) {
        return error_of([&] { standardising({"id"}, values.unsqueeze(1), "a.csv"); });
    };
    const auto large = 9007199254740992 + 2 * torch::arange(20, torch::kFloat64);
    EXPECT_EQ(error_with(large),
              "a.csv: the numbers of column 'id' differ by too little (1e-12 of their size, or 1e-300): subtract what "
              "they share, take another unit; leave it out by dataset.skip_columns");
    at::globalContext().setFlushDenormal(true);  // as the program does
    expect_contains(error_with(torch::tensor({0.0, 1e-310}, torch::kFloat64)), "differ by too little");
    at::globalContext().setFlushDenormal(false);
}

TEST(Columns, ThatAreConstantAreRefused) {
    expect_contains(error_of([] {
                        standardising({"id"}, torch::ones({5, 1}, torch::kFloat64), "a.csv");
                    }),
                    "a.csv: the column 'id' is the same number in every row");
}

TEST(Columns, OfTinyAndHugeNumbersAreStandardised) {
    const auto values = normal({1000, 1}, {1, Purpose::kLab, 0}).to(torch::kFloat64);
    const auto z = standardised(values, standardising({"x"}, values, "test"));
    for (const double unit : {1e-300, 1e-171, 1e-30, 1e30, 1e200, 1e300}) {
        const Columns columns = standardising({"x"}, values * unit, "test");
        const auto same = standardised(values * unit, columns);
        EXPECT_LT((same - z).abs().max().item<double>(), 1e-5) << unit;  // float32
        const double error = ((restored(same, columns) - values * unit) / unit).abs().max().item<double>();
        EXPECT_LT(error, 1e-5) << unit;
        EXPECT_FALSE(fit_float32(columns) && std::abs(std::log10(unit)) > 35) << unit;
    }
}

TEST(Columns, FarFromZeroNeedMoreThanFloat32) {
    EXPECT_TRUE(fit_float32({{"age", 40, 12}, {"income", 40'000, 15'000}}));
    EXPECT_TRUE(fit_float32({{"x"}}));
    EXPECT_FALSE(fit_float32({{"x"}, {"time", 1.7e9, 60}}));
    EXPECT_FALSE(fit_float32({{.name = "share", .bounds = Ends{1e9, 1e9 + 1}}}));
}

TEST(Columns, RememberTheirRangeAndWhetherTheyAreWhole) {
    const auto values = torch::tensor({{1.0, 0.5}, {2.0, 2.0}, {4.0, 3.0}}, torch::kFloat64);
    const Columns columns = standardising({"whole", "half"}, values, "test");
    const Columns back = columns_from_json(nlohmann::json::parse(to_json(columns).dump()), "test");
    EXPECT_TRUE(back[0].whole && !back[1].whole);
    EXPECT_EQ(back[1].range, std::optional(Ends(0.5, 3)));
    const auto drawn = restored(torch::tensor({{0.4f, 0.4f}}), back);
    EXPECT_EQ(drawn[0][0].item<double>(), 3);
    EXPECT_NE(drawn[0][1].item<double>(), std::round(drawn[0][1].item<double>()));
    expect_contains(error_of([&] {
                        columns_from_json({{{"name", "x"}, {"mean", 0}, {"std", 1}, {"range", {2, 1}}}}, "it");
                    }),
                    "it makes no sense");
}

/// A table in a file, and what is warned of while it is loaded.
class TableFile : public testing::Test {
protected:
    Dataset load(const std::string& text, const DatasetOptions& more = {}, Split split = Split::kTrain) {
        write_file(folder / "t.csv", text);
        DatasetOptions options = more;
        options.kind = "table";
        options.file = (folder / "t.csv").string();
        said.str("");
        log::set_stream(&said);
        const auto restore = [](void*) { log::set_stream(nullptr); };
        const std::unique_ptr<void, decltype(restore)> end(&said, restore);
        return load_dataset(options, split);
    }
    TemporaryFolder folder;
    std::ostringstream said;
};

/// So many rows of a column, made by a function of their number.
std::string rows_of(int64_t count, const std::function<double(int64_t)>& number) {
    std::string text = "x\n";
    for (int64_t i = 0; i < count; ++i) text += std::to_string(number(i)) + "\n";
    return text;
}

TEST_F(TableFile, CopiesOfARowAreSplitBetweenTrainingAndTests) {
    const auto sides = [](int64_t i) { return double(i % 6 + 1); };
    const auto train = load(rows_of(6000, sides)), test = load(rows_of(6000, sides), {}, Split::kTest);
    EXPECT_EQ(train.size() + test.size(), 6000);
    const auto shown = train.spec.codec.decode(train.examples).flatten().to(torch::kInt64);
    const auto counts = torch::bincount(shown, {}, 7);
    for (int64_t side = 1; side <= 6; ++side) {
        EXPECT_NEAR(counts[side].item<double>(), 900, 5 * std::sqrt(1000 * 0.1 * 0.9)) << side;  // five deviations
    }
}

TEST_F(TableFile, RowsStayOnTheirSideWhenOthersAreAdded) {
    const auto some = [](int64_t i) { return double(i * i % 50); };
    const auto values = [](const Dataset& data) { return data.spec.codec.decode(data.examples).flatten(); };
    const auto before = values(load(rows_of(500, some))), after = values(load(rows_of(800, some)));
    EXPECT_TRUE(torch::equal(before, after.narrow(0, 0, before.size(0))));
}

TEST_F(TableFile, ARowFarOutIsNamed) {
    const auto normal_but = [](double outlier) {
        return [=](int64_t i) { return i == 39 ? outlier : std::sin(double(i * i)); };
    };
    load(rows_of(40, normal_but(1e9)));
    expect_contains(said.str(), "t.csv: line 41, column 'x': 1e+09 is 1.");
    expect_contains(said.str(), "e+09 standard deviations from the median");
    load(rows_of(40, normal_but(3)));
    EXPECT_EQ(said.str(), "");
    load(rows_of(1000, [](int64_t i) { return (i % 5 == 0 ? 100 : 0) + std::sin(double(i * i)); }));  // two modes
    EXPECT_EQ(said.str(), "");
}

TEST_F(TableFile, SamplesOfWholeNumbersAreRoundedUnlessTheyShallNot) {
    const auto whole = [](int64_t i) { return double(i % 9); };
    const auto half = torch::tensor({{0.1f}});
    EXPECT_EQ(load(rows_of(100, whole)).spec.codec.decode(half).item<double>(), 4);
    expect_contains(said.str(), "samples of x are rounded, as all rows are whole numbers");
    DatasetOptions as_they_are;
    as_they_are.round = false;
    EXPECT_NE(load(rows_of(100, whole), as_they_are).spec.codec.decode(half).item<double>(), 4);
}

TEST_F(TableFile, NoSampleLeavesTheBoundsOfItsColumn) {
    DatasetOptions options;
    options.bounds = {{"x", {0, 1}}};
    const auto in_unit = [](int64_t i) { return std::pow(std::sin(double(i)), 2); };
    const auto columns = load(rows_of(200, in_unit), options).spec.codec.columns;
    const auto drawn = restored(torch::tensor({{-50.0f}, {50.0f}}), columns);
    EXPECT_GE(drawn.min().item<double>(), 0);
    EXPECT_LE(drawn.max().item<double>(), 1);
    const auto error = [&](const std::map<std::string, Ends>& bounds) {
        options.bounds = bounds;
        return error_of([&] { load("x,y\n0.5,1\n1.5,2\n0.1,3\n", options); });
    };
    expect_contains(error({{"x", {0, 1}}}), "line 3, column 'x': 1.5 is outside of its dataset.bounds, 0 to 1");
    expect_contains(error({{"z", {0, 1}}}), "dataset.bounds: " + (folder / "t.csv").string() + ": unknown column");
}

TEST_F(TableFile, RowsWithGapsAreSkippedWhereThatIsAskedFor) {
    DatasetOptions options;
    options.skip_bad = true;
    options.test_share = 0;
    EXPECT_EQ(load("x,y\n0.5,1\n,2\n0.1,3\n0.2,NaN\n0.3,4\n", options).size(), 3);
    expect_contains(said.str(), "2 of 5 rows have gaps and are skipped");
}

TEST_F(TableFile, ThatIsNotThereIsAskedFor) {
    expect_contains(error_of([&] { load_dataset({.kind = "table", .dir = {}, .file = "none.csv"}, Split::kTrain); }),
                    "none.csv; say where it is by dataset.file");
}

/// What is warned of while `action` is done.
std::string said_by(const std::function<void()>& action) {
    std::ostringstream said;
    log::set_stream(&said);
    action();
    log::set_stream(nullptr);
    return said.str();
}

TEST(NumbersAsCondition, MayHaveNamesInQuotes) {
    const ConditionSpec spec{.numbers = {{"height, cm", 170, 10}, {"a=b"}, {"say \"x\""}, {"y"}}};
    const auto z = spec.of_numbers(R"("height, cm"=180,"a=b"=1,"say ""x"""=2,y=-3)", 2).numbers;
    EXPECT_TRUE(torch::equal(z[1], torch::tensor({1.0f, 1.0f, 2.0f, -3.0f})));
    const auto error = [&](const std::string& text) { return error_of([&] { spec.of_numbers(text, 1); }); };
    expect_contains(error("height, cm=180"), "write names that have a comma or = in double quotes");
    expect_contains(error("\"height, cm=180"), "is not closed");
    expect_contains(error("y=1"), R"(condition "height, cm"=NUMBER)");
    expect_contains(error("y"), "'y' is not y=NUMBER");
    const ConditionSpec classes{.classes = {2, {"black, white", "grey"}}};
    EXPECT_EQ(classes.cycle("grey,\"black, white\""), (std::vector<int64_t>{1, 0}));
}

TEST(NumbersAsCondition, OutsideOfTheTrainingAreWarnedOf) {
    const ConditionSpec spec{.numbers = {{.name = "y", .mean = 0.5, .std = 0.25, .range = Ends{0, 1}}, {"z"}}};
    EXPECT_EQ(said_by([&] { spec.of_numbers("y=0.7,z=3", 1); }), "");
    const auto far = said_by([&] { spec.of_numbers("y=-20,z=7", 1); });
    expect_contains(far,
                    "condition: y=-20 is outside of what the network was trained on, 0 to 1: 82 standard deviations");
    expect_contains(far, "condition: z=7 is outside of what the network was trained on: 7 standard deviations");
}

TEST(Points, ThatTheNoiseDoesNotHideAreWarnedOf) {
    DatasetOptions options = drawn("mixture", 1000);
    options.means = {{-100}, {100}};
    options.stds = {0.1, 0.1};
    const DataSpec far = load_dataset(options, Split::kTrain).spec;
    expect_contains(said_by([&] { warn_where_uncovered(far, 80); }), "the data reach to 100, and noise of");
    EXPECT_EQ(said_by([&] { warn_where_uncovered(far, 1000); }), "");
    const DataSpec moons = load_dataset(drawn("two-moons", 1000), Split::kTrain).spec;
    EXPECT_EQ(said_by([&] { warn_where_uncovered(moons, 80); }), "");
    expect_contains(said_by([&] { warn_where_uncovered(moons, 1); }), "the data reach to 3");
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
