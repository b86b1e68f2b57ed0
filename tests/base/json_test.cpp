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

TEST(JsonTest, SaysWhereATextIsInUtf16) {
    const std::string little("{\0}\0", 4), big("\0{\0}", 4);
    for (const auto& text : {"\xff\xfe" + little, "\xfe\xff" + big, little, big}) {
        EXPECT_EQ(problem(text), "the text is text in UTF-16; save it as UTF-8");
    }
    expect_contains(problem(std::string(4, '\0')), "it has a zero byte");
}

TEST(JsonTest, RefusesWhatOtherReadersLetPass) {
    EXPECT_EQ(problem(R"({"a": {"b": 1, "c": 2, "b": 3}})"), "the text has the name 'b' twice");
    EXPECT_EQ(problem("[1e400]"), "the text holds a number that is too large");
    EXPECT_EQ(problem(std::string(1'000'000, '[')), "the text is nested too deeply");
}

}  // namespace
}  // namespace diffuse
