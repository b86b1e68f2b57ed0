#include "diffuse/base/json.hpp"

#include "testing.hpp"

namespace diffuse {
namespace {

std::string problem(const std::string& text) {
    return error_of([&] { parse_json(text, "the text"); });
}

TEST(JsonTest, ReadsWhatIsValid) {
    EXPECT_EQ(parse_json(R"({"a": [1, {"a": -2.5e3}], "b": null})", "the text")["a"][1]["a"], -2500);
}

TEST(JsonTest, SaysInWhichLineItStopsMakingSense) {
    EXPECT_EQ(problem("{\n\"a\": 1,\n}"), "the text is not valid JSON (line 3)");
    for (const char* text : {"", "{} {}", "{\"a\":1}x", "nul", "[1,]", "\"\xff\"", "01"}) {
        expect_contains(problem(text), "the text is not valid JSON");
    }
}

TEST(JsonTest, RefusesWhatOtherReadersLetPass) {
    EXPECT_EQ(problem(R"({"a": {"b": 1, "c": 2, "b": 3}})"), "the text has the name 'b' twice");
    EXPECT_EQ(problem("[1e400]"), "the text holds a number that is too large");
    EXPECT_EQ(problem(std::string(1'000'000, '[')), "the text is nested too deeply");
}

}  // namespace
}  // namespace diffuse
