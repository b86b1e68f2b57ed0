#include <gtest/gtest.h>

#include "cli/eval.hpp"

namespace diffuse {
namespace {

TEST(TextTable, HasNumbersWithAsManyDigitsAsTheirErrorsHave) {
    Report report{.head = {{"floor", 6.6576909725379885}, {"floor_se", 0.4321}}};
    report.rows = {{{"solver", "ddim"}, {"fid", 7.1834}, {"fid_se", 0.921}, {"mse", 1.2345e-5}, {"mse_se", 3.4e-7}},
                   {{"solver", "unipc"}, {"fid", 12.9}, {"fid_se", 0.123}, {"mse", 0.5}, {"mse_se", nullptr}}};
    EXPECT_EQ(cli::report_text(report),
              "floor: 6.7 ± 0.4\n"
              "  solver           fid                  mse\n"
              "    ddim     7.2 ± 0.9  1.234e-05 ± 3.4e-07\n"
              "   unipc  12.90 ± 0.12                  0.5");
}

TEST(TextTable, LinesUpWhatSomeRowsLackAndLeavesOutLists) {
    Report report;
    report.rows = {{{"against", "posterior 1"}, {"c2st", 0.51}, {"nfe", 9}, {"counts", {1, 2}}},
                   {{"against", "all, mean"}, {"c2st", 0.5}, {"p_value", nullptr}}};
    EXPECT_EQ(
        cli::report_text(report),
        "\n      against  c2st  nfe  p_value\n  posterior 1  0.51    9         \n    all, mean   0.5             -\n"
        "(--json has counts too)");
    EXPECT_EQ(cli::report_text(report, /*with_rows=*/false), "\n(--json has counts too)");
}

TEST(EvalPlot, DrawsTheFloorOverTheRangeOfAllCurves) {
    Report report{.head = {{"floor", 2}, {"samples", 8}}};
    for (const auto& [solver, nfe] : {std::pair("unipc", 9), {"unipc", 1}, {"rk4", 36}, {"rk4", 4}}) {
        report.rows.push_back({{"solver", solver}, {"nfe", nfe}, {"fid", 3}, {"fid_se", 1}});
    }
    const Curve floor = cli::figure_of(report, {}, {"fid"}).panels.at(0).curves.back();
    EXPECT_EQ(floor.name, "real images");
    EXPECT_EQ(floor.x, (std::vector<double>{1, 36}));
}

}  // namespace
}  // namespace diffuse
