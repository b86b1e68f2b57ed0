#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "diffuse/lab/experiment.hpp"

namespace diffuse {

/// An experiment that was done.
struct Outcome {
    std::string name;
    uint64_t seed = 0;
    Findings findings = {};
    double seconds = 0;
    std::vector<std::string> files = {};  ///< that were written of it
    std::string problem = {};             ///< why some could not be
};

/// Writes all exhibits into a folder, each under EXPERIMENT-NAME: its numbers, its script and its image. Says in the
/// outcome which files there are, and what kept the first one that failed from being drawn or written: the findings are
/// not to be lost with it.
void save_exhibits(const std::filesystem::path& folder, Outcome& outcome);

/// {"name", "about", "settings", "seed", "seconds", "checks": [{"what", "measured", "expected", "error", "tolerance",
/// "source", "random", "holds"}], "files"}; what is not finite is null.
nlohmann::ordered_json to_json(const Outcome& outcome);

/// A table of checks for a terminal.
std::string to_table(const Outcome& outcome);

/// All of it with stories and tables, as a page of Markdown.
std::string to_markdown(const std::vector<Outcome>& outcomes);

/// The same with the images that `save_exhibits` wrote, as one page of HTML that needs no other file.
std::string to_html(const std::vector<Outcome>& outcomes, const std::filesystem::path& folder);

}  // namespace diffuse
