// The command that docs/extending.md shows how to write.

#include "recipe_3.inc"

#include "testing.hpp"

namespace diffuse {
namespace {

TEST(ExtendingCommand, TheRecipesCommandIsParsedDocumentedAndRun) {
    const cli::Command command = cli::level_command();
    const cli::Given given = cli::parse_words(command, {"--kind", "cosine", "--time", "500"});
    EXPECT_EQ(given, (cli::Given{"kind", "time"}));
    // cos(pi / 2 (0.5 + 0.008) / 1.008) over that of 0 (Nichol & Dhariwal 2021, eq. 17)
    expect_contains(command.run(given).text, "alpha 0.7027");
    expect_contains(cli::command_help(command), "--time X");
    expect_contains(error_of([&] { cli::parse_words(command, {"--tme", "3"}); }), "did you mean '--time'");
    cli::parse_words(command, {"--sigma-max", "3"});
    EXPECT_EQ(error_of([&] { command.run(given); }), "sigma_max belongs to kind ve, edm; here that is cosine");
}

}  // namespace
}  // namespace diffuse
