#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "cli/sampling_command.hpp"
#include "diffuse/measure/measure.hpp"

namespace diffuse::cli {

/// A key of sampling and the values that it takes in turn, a row of the table for each.
struct Sweep {
    std::string key;
    std::vector<nlohmann::json> values;
};

struct EvalOptions {
    std::string checkpoint, data, metric = "fid";
    MeasureOptions measure;  ///< all but the ways of sampling
    SampleOptions sampling;
    std::vector<std::string> vary;
    std::vector<Sweep> sweeps;  ///< what `vary` says
    std::string plot;
    bool json = false;
    RuntimeOptions runtime;
    Given given;
};

/// "steps=5,10", of an interval "guidance_interval=0.3,3,1,20". Throws Error for an unknown key and for a value that is
/// none.
Sweep parse_sweep(const std::string& text);

/// Whether a table may have rows that differ in a key: not in the network, nor in what changes nothing.
bool can_vary(const std::string& key);

/// How many values a key takes; 1 where it does not vary.
size_t values_of(const EvalOptions& options, const std::string& key);

/// Every combination of what varies, each on the checkpoint's own way of sampling where nothing says otherwise. Throws
/// Error, before hours are spent, when one of them cannot be, and for an option that changes none of them.
std::vector<SampleOptions> combinations(const EvalOptions& options, const Checkpoint& checkpoint, Direction direction);

/// Rows as text, in columns under their keys. Numbers stand with their errors, "7.18 ± 0.92"; lists are left out.
class TextTable {
public:
    /// Makes room for a row.
    void widen(const nlohmann::ordered_json& row);
    bool empty() const { return columns_.empty(); }
    std::string head() const;
    std::string row(const nlohmann::ordered_json& values) const;
    /// A word on the lists; empty where there are none.
    std::string left_out() const;

private:
    struct Column {
        std::string key;
        size_t width;
    };
    std::string line(const std::function<std::string(const std::string& key)>& cell) const;

    std::vector<Column> columns_;
    std::set<std::string> lists_;
};

/// What is said of all rows, and below it the rows.
std::string report_text(const Report& report, bool with_rows = true);

/// Tells of each row at once, so that a long table cut short is not lost: as JSON; or, where the result will be on the
/// same screen, as the lines of its table, which are then not to be said again.
class RowTeller {
public:
    RowTeller(bool quiet, bool json);
    void tell(const nlohmann::ordered_json& row);
    bool told_table() const { return way_ == Way::kAsTable && !table_.empty(); }

private:
    enum class Way { kNot, kAsJson, kAsTable };
    Way way_;
    TextTable table_;
};

/// Throws Error, before hours are spent, where the plot that was asked for could not be drawn. of_curves: it is one of
/// `figure_of`.
void check_plot(const EvalOptions& options, bool of_curves);

/// The curves of a table of samples: each of `columns` over the scale of guidance where there are several, else over
/// the network evaluations.
Figure figure_of(const Report& report, const EvalOptions& options, const std::vector<std::string>& columns);

}  // namespace diffuse::cli
