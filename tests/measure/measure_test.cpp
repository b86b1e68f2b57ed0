// Measures without the command line, of models in closed form; and the one that docs/extending.md shows how to write.

#include "diffuse/measure/measure.hpp"

#include "diffuse/data/toys.hpp"
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

/// One number: nine in ten points are around -4, class 0, the others around 4, class 1.
DatasetOptions two_modes() {
    DatasetOptions dataset;
    dataset.kind = "mixture";
    dataset.limit = 1000;
    dataset.means = {{-4}, {4}};
    dataset.stds = {0.5, 0.5};
    dataset.weights = {0.9, 0.1};
    return dataset;
}

/// The exact denoiser of two modes: of a class that of its mode, else that of both.
Model labelled_model() {
    Model model{.schedule = make_schedule({.kind = "edm"}), .data = load_dataset(two_modes(), Split::kTrain).spec};
    model.denoiser = [both = mixture_denoiser(*known_mixture(two_modes()))](const Condition& condition,
                                                                            const Counter& evaluations) {
        if (!condition.classes.defined()) return counted(both, evaluations);
        const auto centre = (8 * condition.classes.to(torch::kFloat64) - 4).unsqueeze(1);
        const Denoiser of_class = [centre, around = gaussian_denoiser(0, 0.5)](const auto& x, const auto& level) {
            const auto [x0, eps] = around(x - (level.alpha * centre).to(x.scalar_type()), level);
            return Prediction{x0 + centre.to(x.scalar_type()), eps};
        };
        return counted(of_class, evaluations);
    };
    return model;
}

MeasureOptions options_of_two_modes() {
    MeasureOptions options = options_of({heun_in(30)});
    options.dataset = two_modes();
    options.num = 1000;
    return options;
}

TEST(Measures, C2stOfANetworkWithLabelsIsNotAboutTheSharesOfTheClasses) {
    // Class-balanced draws would be told in seven of ten cases (TwoSample, of nine to one), and energy_test would see
    // it.
    const Report found = measured("c2st", labelled_model(), options_of_two_modes());
    const auto& row = found.rows[0];
    EXPECT_NEAR(row["c2st"].get<double>(), 0.5, 4 * row["c2st_se"].get<double>());
    EXPECT_LT(row["c2st"].get<double>(), 0.6);
    EXPECT_GT(row["p_value"].get<double>(), 0.01);
    EXPECT_EQ(found.head["condition"], "the labels of the test points");
}

TEST(Measures, FisherAndNllSayWhichBranchTheyMeasureAndRefuseOneThatWasNeverTrained) {
    MeasureOptions options = options_of_two_modes();
    options.num = 20;
    options.sigmas = {1};
    const std::string none = "none: the network without classes (unconditional)";
    for (const std::optional<double> dropout : {std::optional<double>(), std::optional(0.1), std::optional(1.0)}) {
        options.label_dropout = dropout;
        EXPECT_EQ(measured("fisher", labelled_model(), options).head["condition"], none);
    }
    expect_contains(error_of([&] { measured("nll", labelled_model(), options); }), "train.label_dropout is 1");
    options.label_dropout = 0;
    expect_contains(error_of([&] { measured("fisher", labelled_model(), options); }), "train.label_dropout is 0");
    EXPECT_EQ(measured("nll", labelled_model(), options).head["condition"], "the labels of the test points");
    EXPECT_FALSE(measured("fisher", closed_form_model("mixture"), options_of()).head.contains("condition"));
}

TEST(Measures, LabelsInTheSharesOfTheTestImagesAreExactlyInThese) {
    Dataset test;
    test.condition.classes = torch::arange(1000).remainder(10).div(9, "floor");  // nine to one
    test.spec.condition.classes = 3;
    const auto labels = labels_in_shares({.classes = 3}, test, 50);
    EXPECT_TRUE(torch::bincount(labels, {}, 3).equal(torch::tensor({45, 5, 0}, torch::kInt64)));
    EXPECT_GT(labels.narrow(0, 0, 45).sum().item<int64_t>(), 0);                     // not one class after the other
    EXPECT_EQ(labels_in_shares({.classes = 1}, test, 50).sum().item<int64_t>(), 0);  // what it knows
    test.condition = {};
    expect_contains(error_of([&] { labels_in_shares({.classes = 3}, test, 50); }), "no labels beside the test images");
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
