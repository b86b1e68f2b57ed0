#include "diffuse/measure/measure.hpp"

#include "measure/measures.hpp"

namespace diffuse {

Fields fields(MeasureOptions& o) {
    return {
        {"features", &o.features,
         "features: safetensors, .npy or .npz file of features, [N, F], or of images, [N, C, H, W], or of their 'mu' "
         "and 'sigma'"},
        {"reference", &o.reference, "features: file to compare with, likewise"},
        {.key = "num",
         .value = Number<std::optional<int64_t>>{&o.num, 2, 1'000'000},
         .meaning = "number of images or points",
         .by_default = "1000 for fid and pr, at most 128 for nll, 64 for roundtrip, 10000 points for c2st and "
                       "fisher, 500 trials for sbc"},
        {"seed", Number<int64_t>{&o.seed, 0, INT64_MAX}, "random seed for all noise"},
        {.key = "observations",
         .value = Number<std::optional<int64_t>>{&o.observations, 1, 1000},
         .meaning = "c2st: observations of a simulator's test split, a row for each",
         .by_default = "5"}};
}

const Table<Measure>& measures() {
    static const Table<Measure> table = {
        {"fid", fid_measure()},       {"features", features_measure()},
        {"fisher", fisher_measure()}, {"nll", nll_measure()},
        {"pr", pr_measure()},         {"roundtrip", roundtrip_measure()},
        {"c2st", c2st_measure()},     {"sbc", sbc_measure()},
    };
    return table;
}

}  // namespace diffuse
