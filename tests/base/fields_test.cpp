#include "diffuse/base/fields.hpp"

#include "testing.hpp"

namespace diffuse {
namespace {

struct Options {
    int64_t count = 3;
    std::optional<int64_t> steps;
    std::optional<double> ratio;
    std::optional<bool> clip;
    std::optional<int64_t> classes;
    bool fast = false;
    std::string method = "a", name;
    std::vector<int64_t> sizes = {1};
};

Fields fields(Options& o) {
    return {{"count", Number<int64_t>{&o.count, 1, 10}, "number of things"},
            {"steps", Number<std::optional<int64_t>>{&o.steps, 1, 10}, "number of steps"},
            {"section", Fields{{"ratio", Number<std::optional<double>>{&o.ratio, 0, 2}, "ratio"},
                               {.key = "clip", .value = &o.clip, .meaning = "clipping", .may_change = true}}},
            {"classes", NumberOrAuto{&o.classes, 0, 10}, "number of classes"},
            {"fast", &o.fast, "speed"},
            {"method", Choice{&o.method, {"a", "b"}}, "method"},
            {"name", &o.name, "name"},
            {"sizes", List{&o.sizes, 0, 9, 1, 3}, "sizes"}};
}

TEST(Fields, WhatIsWrittenReadsBackTheSameAndWhatIsNotGivenIsNull) {
    Options options{.steps = 4, .ratio = 0.1 + 0.2, .fast = true, .method = "b", .name = "\"x\"", .sizes = {5, 6}},
        again;
    const auto json = to_json(fields(options));
    EXPECT_TRUE(json["section"]["clip"].is_null());
    read(fields(again), nlohmann::json::parse(json.dump()), "options");
    EXPECT_EQ(to_json(fields(again)), json);
    EXPECT_EQ(again.ratio, 0.1 + 0.2);
    again.ratio = std::numeric_limits<double>::infinity();  // beyond what the field takes
    EXPECT_EQ(to_json(fields(again))["section"]["ratio"], std::numeric_limits<double>::max());
    read(fields(again), {{"steps", nullptr}, {"section", {{"clip", true}}}}, "options");
    EXPECT_FALSE(again.steps);
    EXPECT_EQ(again.clip, true);
}

TEST(Fields, InfinityIsAWordOfTheFieldsThatTakeIt) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    std::optional<double> ratio;
    std::optional<std::pair<double, double>> range;
    double size = 0;
    const Fields all = {{"ratio", Number<std::optional<double>>{&ratio, 0, kInfinity}},
                        {"range", Interval{&range, 0, kInfinity}},
                        {"size", Number<double>{&size, 0, kInfinity}}};
    read(all, nlohmann::json::parse(R"({"ratio": "inf", "range": [1, "inf"], "size": "inf"})"), "options");
    EXPECT_EQ(ratio, kInfinity);
    EXPECT_EQ(range->second, kInfinity);
    EXPECT_EQ(size, kInfinity);
    EXPECT_EQ(to_json(all).dump(), R"({"ratio":"inf","range":[1.0,"inf"],"size":"inf"})");
    Options o;
    expect_contains(error_of([&] { read(fields(o), {{"section", {{"ratio", "inf"}}}}, "options"); }), "is \"inf\"");
}

TEST(Fields, AKeyOfAnotherChoiceIsNoOffenceAtTheValueThatItHas) {
    std::string kind = "a";
    double size = 5;
    const Fields all = {{"kind", Choice{&kind, {"a", "b"}}},
                        {.key = "size", .value = Number<double>{&size, 0, 9}, .belongs = {"kind", {"b"}}}};
    read(all, {{"size", 5}}, "options");
    expect_contains(error_of([&] { read(all, {{"size", 6}}, "options"); }), "size belongs to kind b; here that is a");
}

TEST(Fields, AWholeNumberMayBeLeftToBeFoundOut) {
    Options options, again;
    EXPECT_EQ(to_json(fields(options))["classes"], "auto");
    options.classes = 0;
    read(fields(again), nlohmann::json::parse(to_json(fields(options)).dump()), "options");
    EXPECT_EQ(again.classes, 0);
    read(fields(again), {{"classes", "auto"}}, "options");
    EXPECT_FALSE(again.classes);
}

TEST(Fields, AWrongValueSaysWhatWasFoundAndWhatIsExpected) {
    Options o;
    const auto error = [&](const nlohmann::json& json) { return error_of([&] { read(fields(o), json, "options"); }); };
    EXPECT_EQ(error({{"steps", 11}}), "options: steps is 11; expected a whole number from 1 to 10");
    EXPECT_EQ(error({{"section", {{"ratio", "1"}}}}), "options: section.ratio is \"1\"; expected a number from 0 to 2");
    EXPECT_EQ(error({{"section", {{"clip", 1}}}}), "options: section.clip is 1; expected true, false or null");
    for (const nlohmann::json& wrong : {nlohmann::json(11), nlohmann::json(-1), nlohmann::json(2.5),
                                        nlohmann::json("none"), nlohmann::json(UINT64_MAX)}) {
        EXPECT_EQ(error({{"classes", wrong}}),
                  "options: classes is " + wrong.dump() + "; expected a whole number from 0 to 10, or auto");
    }
    EXPECT_EQ(error({{"section", {{"clop", 1}}}}),
              "options: unknown key 'section.clop'; did you mean 'section.clip'? known: section.ratio, section.clip");
    EXPECT_EQ(error({{"method", "c"}}), "options: unknown method 'c'; did you mean 'a'? known: a, b");
    EXPECT_EQ(error({{"sizes", {1, 10}}}), "options: sizes[1] is 10; expected a whole number from 0 to 9");
    EXPECT_EQ(error(nlohmann::json::array()), "options: the file is an array; expected an object");
}

TEST(Fields, ChangesAreListedByPath) {
    Options before, after;
    after.clip = false;
    after.count = 4;
    const auto found = changes(fields(before), fields(after));
    ASSERT_EQ(found.size(), 2u);
    EXPECT_EQ(found[0].path + found[0].before + found[0].after, "count34");
    EXPECT_FALSE(found[0].may_change);
    EXPECT_EQ(found[1].path + found[1].before + found[1].after, "section.clipnullfalse");
    EXPECT_TRUE(found[1].may_change);
}

TEST(Fields, OfOtherKindsAreNeitherWrittenNorTaken) {
    struct {
        std::string kind = "a";
        int64_t of_b = 1;
    } options;
    const auto described = [&] {
        return Fields{{"kind", Choice{&options.kind, {"a", "b"}}, "kind"},
                      {.key = "of_b", .value = Number<int64_t>{&options.of_b, 0, 9}, .belongs = {"kind", {"b"}}}};
    };
    EXPECT_FALSE(to_json(described()).contains("of_b"));
    expect_contains(error_of([&] {
                        read(described(), {{"of_b", 3}}, "config");
                    }),
                    "config: of_b belongs to kind b; here that is a");
    read(described(), {{"of_b", 3}, {"kind", "b"}}, "config");
    EXPECT_EQ(options.of_b, 3);
    EXPECT_TRUE(to_json(described()).contains("of_b"));
}

}  // namespace
}  // namespace diffuse
