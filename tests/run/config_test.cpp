#include "diffuse/run/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "diffuse/base/log.hpp"
#include "diffuse/run/model.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

using nlohmann::json;

std::string error_in(const json& config) {
    return error_of([&] { config_from_json(config); });
}

TEST(Config, AMistypedKeyIsNamedByItsPathWithAGuess) {
    const auto error = error_in({{"train", {{"batchsize", 64}}}});
    expect_contains(error, "unknown key 'train.batchsize'");
    expect_contains(error, "did you mean 'train.batch_size'?");
}

TEST(Config, AWrongTypeSaysWhatWasFoundAndWhatIsExpected) {
    EXPECT_EQ(error_in({{"train", {{"batch_size", "many"}}}}),
              "config: train.batch_size is \"many\"; expected a whole number from 1 to 65536");
    EXPECT_EQ(error_in({{"train", {{"batch_size", 6.5}}}}),
              "config: train.batch_size is 6.5; expected a whole number from 1 to 65536");
    EXPECT_EQ(error_in({{"train", {{"learning_rate", true}}}}),
              "config: train.learning_rate is true; expected a number from 0 to 10");
    EXPECT_EQ(error_in({{"model", 3}}), "config: model is 3; expected an object");
    expect_contains(error_in({{"model", {{"channel_multipliers", {1, "x"}}}}}),
                    "model.channel_multipliers[1] is \"x\"");
    expect_contains(error_in({{"dataset", {{"dir", 5}}}}), "dataset.dir is 5; expected a text");
}

TEST(Config, AValueOutOfRangeIsRefused) {
    expect_contains(error_in({{"train", {{"batch_size", 0}}}}), "expected a whole number from 1 to 65536");
    expect_contains(error_in({{"train", {{"ema_decay", 1}}}}), "train.ema_decay is 1");
    expect_contains(error_in({{"train", {{"steps", 18446744073709551615u}}}}), "train.steps");
    expect_contains(error_in({{"model", {{"channel_multipliers", json::array()}}}}), "a list of 1 to 8 whole numbers");
    expect_contains(error_in({{"seed", -1}}), "seed is -1");
}

TEST(Config, ZeroTerminalSnrIsOnlyTakenWithWhatLearnsFromPureNoise) {
    const auto error_with = [](std::vector<std::string> settings) {
        settings.insert(settings.begin(), "schedule.zero_terminal_snr=true");
        return error_of([&] { with_settings(Config{}, settings); });
    };
    expect_contains(error_with({"model.input_skip=none"}), "set model.input_skip to \"scaled\"");
    const std::string needs = "needs train.weighting v or flow or edm";
    expect_contains(error_with({}), needs);
    expect_contains(error_with({"model.prediction=v"}), needs);
    expect_contains(error_with({"model.prediction=x0", "train.weighting=min-snr"}), needs);
    expect_contains(error_of([] {
                        with_settings(Config{}, {"model.input_skip=plain", "train.weighting=v"});
                    }),
                    "nearly all of it at t = T");
    for (const std::string prediction : {"eps", "v", "x0", "flow", "edm"}) {
        for (const std::string weighting : {"v", "flow", "edm"}) {
            const Config good = with_settings(
                Config{},
                {"schedule.zero_terminal_snr=true", "model.prediction=" + prediction, "train.weighting=" + weighting});
            EXPECT_TRUE(good.schedule.zero_terminal_snr);
        }
    }
    expect_contains(error_in({{"schedule", {{"zero_terminal_snr", 1}}}}),
                    "schedule.zero_terminal_snr is 1; expected true or false");
}

TEST(Config, ClassesAreThoseOfTheDataUnlessANumberSaysMore) {
    const Dataset unlabelled = image_dataset(torch::zeros({2, 1, 4, 4}, torch::kUInt8));
    Dataset labelled = unlabelled;
    labelled.condition.classes = torch::tensor({0, 9}, torch::kInt64);
    labelled.spec.condition.classes = 10;
    const auto classes = [](const std::string& asked, const Dataset& dataset) {
        return resolved(with_settings(Config{}, {"model.classes=" + asked}), dataset).net.classes;
    };
    EXPECT_EQ(classes("auto", labelled), 10);
    EXPECT_EQ(classes("auto", unlabelled), 0);
    EXPECT_EQ(classes("12", labelled), 12);
    EXPECT_EQ(classes("0", labelled), 0);
    EXPECT_EQ(error_of([&] { classes("9", labelled); }),
              "config: model.classes is 9, but the labels go up to 9; set it to 10, or to 0 for none");
    expect_contains(error_of([&] { classes("10", unlabelled); }), "there are no labels");
}

TEST(Config, OneThatIsResolvedStaysAsItIsAndARunGoesOnByWhatItResolved) {
    Dataset data = image_dataset(torch::arange(32, torch::kUInt8).view({2, 1, 4, 4}));
    data.condition.classes = torch::tensor({0, 9}, torch::kInt64);
    data.spec.condition.classes = 10;
    const TemporaryFolder folder;
    std::ofstream(folder / "there") << "a checkpoint";
    const std::vector<std::string> open = {"model.prediction=edm", "train.weighting=edm", "sample.guidance=2",
                                           "sample.guide=" + std::filesystem::relative(folder / "there").string()};
    const Config once = resolved(with_settings(Config{}, open), data);
    EXPECT_EQ(to_json(resolved(once, data)), to_json(once));
    EXPECT_EQ(once.sample.guide, folder / "there");
    const Config after = resumed(once, with_settings(Config{}, open));
    EXPECT_EQ(after.net.classes, 10);
    EXPECT_EQ(after.parameterization.sigma_data, once.parameterization.sigma_data);
    EXPECT_EQ(to_json(after), to_json(once));
}

TEST(Config, WhatTheDataAddMustLieInItsRange) {
    Dataset classes = image_dataset(torch::zeros({2, 1, 4, 4}, torch::kUInt8));
    classes.condition.classes = torch::tensor({0, 1000}, torch::kInt64);
    classes.spec.condition.classes = 1001;
    expect_contains(error_of([&] { resolved(Config{}, classes); }), "model.classes is 1001");
    const Dataset wide{torch::tensor({{5000.0f, 0.0f}, {-5000.0f, 0.0f}})}, narrow{wide.examples / 1e9};
    for (const Dataset& points : {wide, narrow}) {
        Dataset data = points;
        data.spec.shape = ExampleShape::of_points(2);
        const Config edm = with_settings(Config{}, {"model.kind=mlp", "model.prediction=edm", "train.weighting=edm"});
        expect_contains(error_of([&] { resolved(edm, data); }), "model.sigma_data is ");
    }
}

TEST(Config, AnUnknownNameListsTheKnownOnes) {
    expect_contains(error_in({{"schedule", {{"kind", "cosin"}}}}), "did you mean 'cosine'? known: linear, ");
    expect_contains(error_in({{"dataset", {{"kind", "imagenet"}}}}),
                    "known: mnist, images, cifar10, cifar100, idx, digits");
}

TEST(Config, WhatIsWrittenReadsBackTheSame) {
    Config config;
    config.train.learning_rate = 0.1 + 0.2;  // must survive to the last bit
    config.net.unet.attention_resolutions = {7, 14};
    config.dataset.dir = "/a \"folder\"";
    EXPECT_EQ(to_json(config_from_json(json::parse(to_json(config).dump()))), to_json(config));
    EXPECT_EQ(config_from_json(json::parse(to_json(config).dump())).train.learning_rate, 0.1 + 0.2);
}

TEST(Config, SettingsReplaceSingleKeys) {
    const TemporaryFolder folder;
    std::ofstream(folder / "c.json") << R"({"train": {"steps": 5}})";
    const Config config =
        load_config(folder / "c.json", {"train.batch_size=3", "model.channel_multipliers=[1,2,3]", "dataset.dir=a b"});
    EXPECT_EQ(config.train.steps, 5);
    EXPECT_EQ(config.train.batch_size, 3);
    EXPECT_EQ(config.net.unet.channel_multipliers, (std::vector<int64_t>{1, 2, 3}));
    EXPECT_EQ(config.dataset.dir, "a b");
    const auto error = [&](const std::string& setting) {
        return error_of([&] { load_config(folder / "c.json", {setting}); });
    };
    const Config section = load_config(folder / "c.json", {"train={\"batch_size\":2}", "train={\"log_every\":9}"});
    EXPECT_EQ(section.train.steps, 5) << "a key of the section that was not named";
    EXPECT_EQ(section.train.batch_size, 2);
    EXPECT_EQ(section.train.log_every, 9);
    EXPECT_EQ(load_config(folder / "c.json", {"train.steps=1e3"}).train.steps, 1000);
    expect_contains(error("train.steps=1.5e0"), "train.steps is 1.5; expected a whole number");
    expect_contains(error("train.steps=1e300"), "expected a whole number");
    expect_contains(error("train.steps"), "expected key.path=value");
    expect_contains(error("train.stps=3"), "did you mean 'train.steps'?");
    expect_contains(error("train.steps.x=3"), "train.steps is 5; expected an object");
    expect_contains(error("train.steps=ten"), "train.steps is \"ten\"");
}

TEST(Config, BrokenJsonSaysWhere) {
    const TemporaryFolder folder;
    std::ofstream(folder / "c.json") << "{\n\"train\": {\n\"steps\": }\n}";
    expect_contains(error_of([&] { load_config(folder / "c.json"); }), "not valid JSON (line 3)");
    expect_contains(error_of([&] { load_config(folder / "missing.json"); }), "No such file");
    std::ofstream(folder / "zero.json") << std::string("{}\0{", 4);
    expect_contains(error_of([&] { load_config(folder / "zero.json"); }), "it has a zero byte");
    std::ofstream(folder / "text.json") << R"({"dataset": {"dir": "a\u0000b"}})";
    expect_contains(error_of([&] { load_config(folder / "text.json"); }), "dataset.dir is");
}

TEST(Config, EveryKeyIsDocumented) {
    Config config;
    std::set<std::string> keys;
    for (const auto& key : leaves(fields(config))) {
        EXPECT_TRUE(keys.insert(key.key).second) << key.key;
        EXPECT_FALSE(key.meaning.empty()) << key.key;
    }
}

/// What is logged meanwhile.
std::string logged_by(const std::function<void()>& action) {
    std::ostringstream lines;
    log::set_stream(&lines);
    action();
    log::set_stream(nullptr);
    return lines.str();
}

Dataset dataset_of(const ExampleShape& shape, int64_t classes) {
    Dataset data;
    data.spec.shape = shape;
    auto sizes = shape.sizes();
    sizes.insert(sizes.begin(), 2);
    data.examples = torch::ones(sizes, shape.points ? torch::kFloat32 : torch::kUInt8);
    data.spec.condition.classes = classes;
    if (classes > 0) data.condition.classes = torch::tensor({0, 1}, torch::kInt64);
    return data;
}

TEST(Config, DefaultsThatDoNotGoWithASettingAreLeftOutAndTold) {
    const TemporaryFolder folder;
    std::ofstream(folder / "c.json") << R"({"dataset": {"kind": "images", "dir": "d", "size": "32"},
        "schedule": {"kind": "ve", "sigma_max": 9}, "sample": {"solver": "heun", "steps": 7, "spacing": "edm"}})";
    const auto load = [&](const std::vector<std::string>& settings) {
        return load_config(folder / "c.json", settings);
    };
    Config config;
    const auto told = logged_by([&] {
        config = load({"dataset.kind=cifar10", "schedule.kind=cosine", "sample.solver=ddpm"});
    });
    EXPECT_EQ(told,
              "left out of the defaults: dataset.size \"32\" (for dataset.kind images)\n"
              "left out of the defaults: sample.spacing \"edm\", sample.steps 7 (for sample.solver heun)\n"
              "left out of the defaults: schedule.sigma_max 9 (for schedule.kind ve, edm)\n");
    EXPECT_EQ(config.dataset.dir, "d");
    EXPECT_FALSE(config.sample.steps);
    EXPECT_EQ(logged_by([&] { config = load({"sample.solver=heun", "schedule.sigma_max=8"}); }), "");
    EXPECT_EQ(config.sample.steps, 7);
    EXPECT_FALSE(load({"sample.nfe=20"}).sample.steps);
    // what is said is refused
    expect_contains(error_of([&] {
                        load({"dataset.kind=cifar10", "dataset.size=16"});
                    }),
                    "belongs to dataset.kind images");
    EXPECT_EQ(load({"dataset.kind=cifar10", "dataset.size="}).dataset.size, "") << "its default is no offence";
}

TEST(Config, DefaultsThatDoNotGoWithTheDataAreLeftOutAndTold) {
    const Config config = with_settings(
        Config{}, {"model.attention_resolutions=[7,14]", "sample.guidance=2", "sample.guidance_interval=[1,10]"});
    const Dataset data = dataset_of({1, 32, 32}, 0);
    Config found;
    const auto told = logged_by([&] { found = resolved(config, data); });
    expect_contains(told, "model.attention_resolutions [7,14] (the levels of these images are 32, 16 high)");
    expect_contains(
        told, "sample.guidance 2.0, sample.guidance_interval [1.0,10.0] (of no class there is nothing to lead to)");
    EXPECT_TRUE(found.net.unet.attention_resolutions.empty());
    EXPECT_EQ(found.sample, SampleOptions());
    expect_contains(error_of([&] { resolved(config, data, {"sample.guidance=2"}); }), "there is nothing to lead to");
    EXPECT_EQ(resolved(config, data, {"model.attention_resolutions=[7,14]"}).net.unet.attention_resolutions.size(), 2u)
        << "for the network to refuse";
}

TEST(Config, EveryPresetServesAllDataThatItCan) {
    const std::filesystem::path presets = DIFFUSE_TESTS "/../configs";
    int count = 0;
    for (const auto& file : std::filesystem::directory_iterator(presets)) {
        for (const std::string kind :
             {"mnist", "images", "cifar10", "idx", "digits", "two-moons", "table", "simulator"}) {
            const bool points = kind == "two-moons" || kind == "table" || kind == "simulator";
            const Config config = load_config(
                file.path(), {"dataset.kind=" + kind, std::string("model.kind=") + (points ? "mlp" : "unet"),
                              "dataset.dir=" + std::string(points ? "" : "there")});
            for (const int64_t classes : {0, 2}) {
                const auto shape = points ? ExampleShape::of_points(3) : ExampleShape{3, 64, 32};
                const Dataset data = dataset_of(shape, classes);
                const Config found = resolved(config, data);
                EXPECT_GT(new_network(found, seen_by_network(found, data.spec), torch::kCPU).parameter_count(), 0)
                    << file.path() << " " << kind;
                ++count;
            }
        }
    }
    EXPECT_GE(count, 200);
}

TEST(Config, TrainingWarnsWhereItsWayOfSamplingNeedsALabelThatIsNeverTrained) {
    const auto told = [](const std::vector<std::string>& settings) {
        const Config config = with_settings(Config{}, settings);
        return logged_by([&] { resolved(config, dataset_of({1, 28, 28}, 2), settings); });
    };
    EXPECT_EQ(told({"sample.guidance=2"}), "");
    EXPECT_EQ(told({"train.label_dropout=0"}), "") << "classes are all that is drawn";
    expect_contains(told({"train.label_dropout=0", "sample.guidance=2"}), "which sample.guidance 2 needs");
    expect_contains(told({"train.label_dropout=0", "sample.class=none"}), "which sample.class none needs");
    EXPECT_EQ(told({"train.label_dropout=0", "sample.guidance=2", "sample.negative_class=1"}), "");
    expect_contains(told({"train.label_dropout=1"}), "never learns a class");
    EXPECT_EQ(told({"train.label_dropout=1", "model.classes=0"}), "");
}

TEST(Model, WarnsOnceWhereItIsAskedForWhatWasNeverTrained) {
    Checkpoint checkpoint{with_settings(Config{}, {"model.classes=2", "train.label_dropout=0"})};
    checkpoint.config.net.unet = {.base_channels = 8, .channel_multipliers = {1}, .patch_size = 4};
    checkpoint.data.condition.classes = 2;
    checkpoint.ema = new_network(checkpoint.config, checkpoint.data, torch::kCPU).named_parameters();
    const auto told = [&](const Condition& condition, int times) {
        return logged_by([&] {
            const Model model = make_model(checkpoint, "ema", torch::kCPU);
            for (int i = 0; i < times; ++i) model.denoiser(condition, {});
        });
    };
    const Condition classes{torch::tensor({0, 1}, torch::kInt64)}, mixed{torch::tensor({0, 2}, torch::kInt64)};
    EXPECT_EQ(told(classes, 2), "");
    for (const auto& condition : {Condition(), mixed}) {
        const auto lines = told(condition, 2);
        expect_contains(lines, "train.label_dropout 0 and never saw an image of no class");
        EXPECT_EQ(std::ranges::count(lines, '\n'), 1) << lines;
    }
    checkpoint.config.train.label_dropout = 1;
    EXPECT_EQ(told({}, 1), "");
    expect_contains(told(classes, 1), "train.label_dropout 1 and never saw a class");
}

TEST(SampleOptionsTest, DdpmInAsManyStepsAsTheScheduleHasBeginsAtItsEnd) {
    const Schedule cosine = make_schedule({.kind = "cosine"});
    const auto first = [&](const SampleOptions& options) { return make_grid(options, cosine, 784).front().t; };
    EXPECT_EQ(first({.solver = "ddpm", .steps = 1000}), 1000);
    EXPECT_LT(first({.solver = "ddpm", .steps = 50}), 1000);
    EXPECT_EQ(first({.solver = "heun", .steps = 1000, .max_ratio = std::numeric_limits<double>::infinity()}), 1000);
    expect_contains(error_of([&] { first({.solver = "heun", .steps = 1000}); }), "or sample.max_ratio inf, by which");
}

TEST(SampleOptionsTest, TakeAsManyStepsAsTheSpacingHasLevelsForUnlessANumberIsSaid) {
    const auto steps = [](const SampleOptions& options, const std::string& kind) {
        return std::ssize(make_grid(options, make_schedule({.kind = kind}), 784)) - 1;
    };
    for (const std::string kind : {"linear", "cosine", "flow"}) {
        const SampleOptions by_default = {.solver = "ddpm", .spacing = "flow"};
        const int64_t most = steps(by_default, kind);
        EXPECT_GT(most, 50) << kind;
        SampleOptions said = by_default;
        said.steps = most;
        EXPECT_EQ(steps(said, kind), most) << kind;
        said.steps = most + 1;
        expect_contains(error_of([&] { steps(said, kind); }), fmt::format("expected 1 to {}", most));
        EXPECT_EQ(steps({.solver = "ddpm", .nfe = 5000, .spacing = "flow"}, kind), most) << kind;
    }
}

TEST(Config, WhatSamplingWouldRefuseIsRefusedBeforeTraining) {
    const Dataset data = dataset_of({1, 28, 28}, 2);
    const auto error_with = [&](const std::vector<std::string>& settings) {
        return error_of([&] { resolved(with_settings(Config{}, settings), data, settings); });
    };
    EXPECT_EQ(error_with({"sample.steps=2000"}),
              "sample.steps: 2000 steps asked of a grid that begins at t = 1000; expected 1 to 1000");
    expect_contains(error_with({"sample.solver=langevin", "sample.nfe=1"}), "sample.nfe: ");
    expect_contains(error_with({"schedule.steps=10", "sample.spacing=edm", "sample.steps=50"}), "sample.steps: 50");
    expect_contains(error_with({"sample.max_ratio=0"}), "sample.max_ratio: no noise level");
    EXPECT_EQ(error_with({"sample.guide=/nope", "sample.guidance=2"}), "config: sample.guide: there is no /nope");
    for (const auto& solver : names(solvers())) {
        for (const auto& spacing : spacing_names()) {
            for (const std::string steps : {"1", "2", "10", "1000"}) {
                const Config config = with_settings(
                    Config{}, {"schedule.steps=" + steps, "sample.solver=" + solver, "sample.spacing=" + spacing});
                EXPECT_NO_THROW(resolved(config, data)) << solver << " " << spacing << " " << steps;
            }
        }
    }
}

TEST(ConfigTest, ChangesAreListedByKey) {
    Config before, after = before;
    EXPECT_TRUE(changes(fields(before), fields(after)).empty());
    after.train.steps = 7;
    after.net.unet.channel_multipliers = {1};
    const auto found = changes(fields(before), fields(after));
    ASSERT_EQ(found.size(), 2u);
    EXPECT_EQ(found[0].path + found[0].before + found[0].after, "model.channel_multipliers[1,2][1]");
    EXPECT_EQ(found[1].path + found[1].before + found[1].after, "train.steps50007");
}

TEST(ConfigTest, SettingsApplyToAConfigToo) {
    Config config;
    config.seed = 5;
    const Config changed = with_settings(config, {"train.steps=9"});
    EXPECT_EQ(changed.seed, 5);
    EXPECT_EQ(changed.train.steps, 9);
    expect_contains(error_of([&] { with_settings(config, {"train.stepz=9"}); }), "did you mean 'train.steps'");
}

}  // namespace
}  // namespace diffuse
