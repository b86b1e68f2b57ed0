// The experiment that docs/extending.md shows how to write.

#include "recipe_4.inc"

#include "testing.hpp"

namespace diffuse {
namespace {

TEST(ExtendingExperiment, TheRecipesChecksHoldAndItsSettingsAreRead) {
    const Experiment experiment = lab::sums_experiment();
    const Findings findings = experiment.run({{"draws", 5000}}, /*seed=*/1);
    ASSERT_EQ(findings.checks.size(), 1u);
    EXPECT_TRUE(findings.checks[0].holds()) << findings.checks[0].measured;
    EXPECT_EQ(experiment.settings.at(0).key, "draws");
}

}  // namespace
}  // namespace diffuse
