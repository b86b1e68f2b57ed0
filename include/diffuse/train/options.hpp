#pragma once

#include <string>

#include "diffuse/base/fields.hpp"
#include "diffuse/train/batch.hpp"

namespace diffuse {

struct TrainOptions {
    int64_t steps = 5000;
    int64_t batch_size = 64;
    std::string objective = "ddpm";
    int64_t projections = 1;
    std::string weighting = "simple";
    LevelDensity levels;
    std::string optimizer = "muon";
    double learning_rate = 1e-3;
    double muon_learning_rate = 5e-3;
    int64_t warmup_steps = 100;
    std::string decay = "cosine";
    double weight_decay = 0;
    double beta2 = 0.999;
    double muon_momentum = 0.95;
    double label_dropout = 0.15;
    double gradient_clip = 1;
    double ema_decay = 0.999;
    int64_t max_bad_steps = 10;
    int64_t log_every = 50;
    int64_t validate_every = 0;
    int64_t sample_every = 1000;
    int64_t checkpoint_every = 1000;
    int64_t keep_checkpoints = 0;
    /// Random directions of each example that the objective needs: `projections`, or 0.
    int64_t directions() const;
};
Fields fields(TrainOptions& options);

}  // namespace diffuse
