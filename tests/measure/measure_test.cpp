// Measures without the command line, of models in closed form; and the one that docs/extending.md shows how to write.

#include "diffuse/measure/measure.hpp"

#include "diffuse/run/analytic_model.hpp"
#include "recipe_2.inc"
#include "testing.hpp"

namespace diffuse {
namespace {

Config eight_gaussians_config() {
    Config config;
    config.dataset.kind = "eight-gaussians";
    config.dataset.limit = 1000;
    config.schedule.kind = "edm";
    return config;
}

/// A denoiser in closed form for eight Gaussians.
Model closed_form_model(const std::string& name) {
    const Config config = eight_gaussians_config();
    return analytic_model(name, config, load_dataset(config.dataset, Split::kTrain));
}

MeasureOptions options_of(const std::vector<SampleOptions>& samplings = {SampleOptions()}) {
    MeasureOptions options;
    options.dataset = eight_gaussians_config().dataset;
    options.num = 500;
    options.samplings = samplings;
    return options;
}

SampleOptions heun_in(int64_t steps, Direction direction = Direction::kSampling) {
    SampleOptions sampling;
    sampling.solver = "heun";
    sampling.spacing = "edm";
    sampling.steps = steps;
    sampling.direction = direction;
    return sampling;
}

Report measured(const std::string& name, const Model& model, const MeasureOptions& options) {
    return look_up("measure", measures(), name).run(model, options);
}

TEST(Measures, TheExactScoreHasNoErrorAndThatOfAnotherDistributionHas) {
    MeasureOptions options = options_of();
    options.sigmas = {0.5, 100};
    for (const auto& row : measured("fisher", closed_form_model("mixture"), options).rows) EXPECT_EQ(row["fisher"], 0);
    const auto wrong = measured("fisher", closed_form_model("gaussian"), options).rows;
    EXPECT_GT(wrong[0]["relative"].get<double>(), 0.1);
    EXPECT_LT(wrong[1]["relative"].get<double>(), 0.01);  // so much noise hides which of the two it is
}

TEST(Measures, ARoundTripIsOfOrderTwoOnTheWayAndOfNoErrorWhereTheSolverIsReversible) {
    SampleOptions reversible = heun_in(20, Direction::kEncoding);
    reversible.solver = "reversible";
    const auto options = options_of({heun_in(40, Direction::kEncoding), heun_in(80, Direction::kEncoding), reversible});
    const auto rows = measured("roundtrip", closed_form_model("mixture"), options).rows;
    // Squares of errors of order two: sixteen times smaller with twice the steps, and near it with so few.
    EXPECT_GT(rows[0]["mse"].get<double>(), 8 * rows[1]["mse"].get<double>());
    EXPECT_LT(rows[2]["mse"].get<double>(), 1e-12);  // float32's rounding of what is given back
}

TEST(Measures, SamplesOfTheExactScoreCannotBeToldFromData) {
    const auto row = measured("c2st", closed_form_model("mixture"), options_of({heun_in(30)})).rows[0];
    EXPECT_NEAR(row["c2st"].get<double>(), 0.5, 3 * std::sqrt(0.25 / 1000));  // of 1000 points, each named at random
    EXPECT_GT(row["p_value"].get<double>(), 0.01);
    const auto other = measured("c2st", closed_form_model("gaussian"), options_of({heun_in(30)})).rows[0];
    EXPECT_EQ(other["p_value"].get<double>(), 0.001);  // the least of 999 relabellings
}

TEST(Measures, EachRowIsToldAtOnce) {
    MeasureOptions options = options_of();
    options.sigmas = {1, 2, 3};
    auto told = nlohmann::ordered_json::array();
    options.on_row = [&](const nlohmann::ordered_json& row) { told.push_back(row); };
    EXPECT_EQ(measured("fisher", closed_form_model("mixture"), options).rows, told);
    EXPECT_EQ(told.size(), 3);
}

TEST(Measures, AnErrorNamesTheKey) {
    const Model model = closed_form_model("mixture");
    MeasureOptions options = options_of({heun_in(5), heun_in(6)});
    options.num = 1001;
    expect_contains(error_of([&] { measured("fisher", model, options); }), "num 1001: there are 1000 test points");
    expect_contains(error_of([&] { measured("c2st", model, options); }), "c2st takes one way of sampling");
    expect_contains(error_of([&] { measured("sbc", model, options); }), "condition is numbers");
    expect_contains(error_of([&] { measured("fid", model, options); }), "nothing of data of kind eight-gaussians");
}

TEST(Measures, TheRecipesMeasureFindsTheSpreadOfData) {
    const auto row = spread_measure().run(closed_form_model("mixture"), options_of({heun_in(30)})).rows[0];
    // On a circle of radius 2.83 the square of a coordinate is 4 on average, beside 0.354 squared.
    const double exact = std::sqrt(4 + 0.354 * 0.354);
    // Its standard error: that of 1000 numbers, as if they were normal, of which these vary less.
    EXPECT_NEAR(row["drawn"].get<double>(), exact, 3 * exact / std::sqrt(2 * 1000.0));
    EXPECT_NEAR(row["test"].get<double>(), exact, 3 * exact / std::sqrt(2 * 1000.0));
}

}  // namespace
}  // namespace diffuse
