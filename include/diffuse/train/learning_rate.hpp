#pragma once

#include <functional>
#include <string>
#include <vector>

#include "diffuse/train/options.hpp"

namespace diffuse {

/// Step size of step `step` (from 1): linear rise to `rate` over warmup_steps, then as options.decay says. cosine falls
/// to zero after the last step along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5), linear in a
/// straight line, none stays.
using LearningRate = std::function<double(int64_t step)>;
LearningRate make_learning_rate(const TrainOptions& options, double rate);
std::vector<std::string> decay_names();

}  // namespace diffuse
