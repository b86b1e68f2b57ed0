#include "diffuse/train/options.hpp"

#include "diffuse/diffusion/objective.hpp"
#include "diffuse/train/learning_rate.hpp"
#include "diffuse/train/optimizer.hpp"

namespace diffuse {

int64_t TrainOptions::directions() const { return needs_of(objective).directions ? projections : 0; }

Fields fields(TrainOptions& o) {
    using Integer = Number<int64_t>;
    using Real = Number<double>;
    constexpr int64_t kMany = 1'000'000'000;
    Fields all = {
        {"steps", Integer{&o.steps, 1, kMany}, "optimizer steps"},
        {"batch_size", Integer{&o.batch_size, 1, 65536}, "examples a step"},
        {"objective", Choice{&o.objective, objective_names()},
         "loss; ddpm: the error of eps; dsm: denoising, ism: implicit, ssm and ssm-vr: sliced score matching, the "
         "last three of model.kind mlp"},
        {"projections", Integer{&o.projections, 1, 1000}, "random directions of each example (objectives ssm, ssm-vr)"},
        {"weighting", Choice{&o.weighting, weighting_names()}, "loss weight by noise level"},
        {"levels", Choice{&o.levels.kind, level_density_names()},
         "density of the noise levels that are trained: of t, or of log(sigma / alpha); one: levels_mean alone"},
        {.key = "levels_mean",
         .value = Number<std::optional<double>>{&o.levels.mean, -20, 20},
         .meaning = "mean of log(sigma / alpha), of log-normal (-1.2 if null) and logit-normal levels (0), or the one "
                    "level (0)",
         .belongs = {"levels", {"log-normal", "logit-normal", "one"}}},
        {.key = "levels_std",
         .value = Number<std::optional<double>>{&o.levels.std, 1e-3, 20},
         .meaning = "standard deviation of log(sigma / alpha), of log-normal (1.2 if null) and logit-normal levels (1)",
         .belongs = {"levels", {"log-normal", "logit-normal"}}},
        {"optimizer", Choice{&o.optimizer, optimizer_names()},
         "optimizer; muon: Muon for the convolutions between feature maps, AdamW for all other weights"},
        {"learning_rate", Real{&o.learning_rate, 0, 10}, "AdamW's step size after warm-up"},
        {"muon_learning_rate", Real{&o.muon_learning_rate, 0, 10}, "Muon's step size after warm-up"},
        {"warmup_steps", Integer{&o.warmup_steps, 0, kMany},
         "steps over which the learning rates rise linearly from 0"},
        {"decay", Choice{&o.decay, decay_names()}, "shape of the learning rates' fall until the last step"},
        {"weight_decay", Real{&o.weight_decay, 0, 10}, "decoupled weight decay, times the learning rate"},
        {"beta2", Real{&o.beta2, 0, 0.999999}, "AdamW's decay of the squared gradient"},
        {"muon_momentum", Real{&o.muon_momentum, 0, 0.999999}, "Muon's decay of the gradient's running mean"},
        {"label_dropout", Real{&o.label_dropout, 0, 1},
         "probability of dropping the label, for classifier-free guidance (model.classes)"},
        {"gradient_clip", Real{&o.gradient_clip, 0, 1e9}, "largest gradient norm; 0: no clipping"},
        {"ema_decay", Real{&o.ema_decay, 0, 0.9999999},
         "decay of the averaged weights; warmed up as (1 + step) / (10 + step)"},
        {"max_bad_steps", Integer{&o.max_bad_steps, 1, kMany},
         "steps in a row without a finite loss and gradient, each skipped, that end the run"},
        {"log_every", Integer{&o.log_every, 1, kMany}, "steps between lines of metrics.jsonl"},
        {"validate_every", Integer{&o.validate_every, 0, kMany},
         "steps between losses on up to 1024 held-out examples; 0: none"},
        {"sample_every", Integer{&o.sample_every, 0, kMany}, "steps between sample grids; 0: none"},
        {"checkpoint_every", Integer{&o.checkpoint_every, 0, kMany}, "steps between checkpoints; 0: only at the end"},
        {"keep_checkpoints", Integer{&o.keep_checkpoints, 0, 10'000},
         "number of latest checkpoints that are kept, each under its step"},
    };
    for (auto& field : all) {
        // Which images a step sees, and what a checkpoint remembers of each weight.
        field.may_change = field.key != "batch_size" && field.key != "optimizer";
    }
    return all;
}

}  // namespace diffuse
