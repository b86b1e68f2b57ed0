#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// One number of a point, and how a network sees it: as z = (u - mean) / std, where u is the number itself or, where it
/// has bounds, the logit of its place between them, log((x - low) / (high - x)), so that no sample leaves them.
using Ends = std::pair<double, double>;  ///< the lower and the upper one
struct Column {
    std::string name;
    double mean = 0, std = 1;
    std::optional<Ends> bounds = {};
    bool whole = false;              ///< samples are rounded, as all numbers of the training are whole
    std::optional<Ends> range = {};  ///< of the numbers of the training; older checkpoints do not say it

    /// Whether a network sees the numbers of both alike.
    bool operator==(const Column& other) const {
        return name == other.name && mean == other.mean && std == other.std && bounds == other.bounds;
    }
};
using Columns = std::vector<Column>;

/// Columns of these names, some of which have bounds, whose z have mean 0 and standard deviation 1 over the rows of
/// `values`, float64 [N, D]. Throws Error, beginning with `what`, for a column that is the same in every row.
Columns standardising(const std::vector<std::string>& names, const torch::Tensor& values, const std::string& what,
                      const std::map<std::string, Ends>& bounds = {});

/// The least and the largest of `values`, [N].
Ends range_of(const torch::Tensor& values);

/// Throws Error, beginning with `what` and the line, for the first of a column's `values`, [N], that is not within the
/// ends. lines: of each, from 1.
void require_within(const Ends& ends, const torch::Tensor& values, const std::vector<int64_t>& lines,
                    const std::string& name, const std::string& what);

/// Numbers float64 [N, D] to what the network sees, float32 [N, D], and back.
torch::Tensor standardised(const torch::Tensor& values, const Columns& columns);
torch::Tensor restored(const torch::Tensor& z, const Columns& columns);

/// How finely the numbers that are restored are known, by z's own digits: a step for each column, 0 where all digits
/// are meant, of whole numbers and near bounds.
std::vector<double> steps_of(const Columns& columns);

/// Whether float32 tells numbers of these columns apart: not around 1.7e9 with a standard deviation of 60.
bool fit_float32(const Columns& columns);

/// log |d values / d z| summed over the columns, float64 [N]: what a log density of z loses as one of the values.
torch::Tensor log_slope(const torch::Tensor& z, const Columns& columns);

/// Their names; and a list of columns as JSON and back, which throws Error, beginning with `what`, where it is none.
std::vector<std::string> names(const Columns& columns);
nlohmann::ordered_json to_json(const Columns& columns);
Columns columns_from_json(const nlohmann::json& json, const std::string& what);

}  // namespace diffuse
