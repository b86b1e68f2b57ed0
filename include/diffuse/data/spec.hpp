#pragma once

#include <string>
#include <vector>

#include "diffuse/data/codec.hpp"
#include "diffuse/diffusion/condition.hpp"
#include "diffuse/diffusion/example_shape.hpp"

namespace diffuse {

/// The classes that a network or a data set knows: 0 .. count - 1, and their names where they have any, in Unicode's
/// normal form C.
struct Classes {
    Classes(int64_t number = 0, std::vector<std::string> known = {}) : count(number), names(std::move(known)) {}
    int64_t count;
    std::vector<std::string> names;
    std::vector<int64_t> examples = {};  ///< for training, of each; empty where that is not known
    std::string name(int64_t number) const {
        return number < std::ssize(names) ? names[size_t(number)] : std::to_string(number);
    }
};

/// What can be known of examples: their class, or numbers in these columns, or nothing.
struct ConditionSpec {
    Classes classes = {};
    Columns numbers = {};

    /// The classes that a text names: "all" 0, 1, ..., "none" none, else names or numbers like "cat" or "0,1,2". Throws
    /// Error for those that are not known. A name with a comma is written in double quotes, as CSV has it.
    std::vector<int64_t> cycle(const std::string& text) const;
    /// The number of the one class that a word names as those do. Throws Error where it is not known.
    int64_t class_number(const std::string& word) const;
    /// The class of each of `count` examples, those of `cycle` again and again. Not defined where it has none.
    Condition of_classes(const std::string& text, int64_t count) const;
    /// The same numbers for each of `count` examples: "y1=0.3,y2=-1", each column once, its name perhaps in double
    /// quotes: "\"height, cm\"=170". Warns of numbers outside the range of the training. Throws Error for numbers that
    /// are missing, unknown or none.
    Condition of_numbers(const std::string& text, int64_t count) const;
    /// The names of the classes in a condition of which there was no example for training, each once.
    std::vector<std::string> never_trained(const Condition& condition) const;
    /// Without what a network of this spec does not take.
    Condition taken(const Condition& condition) const;
    /// The classes that another spec numbers, as this one numbers those of the same names; classes.count for those that
    /// it does not know. int64 [N]
    torch::Tensor renumbered(const torch::Tensor& labels, const Classes& theirs) const;
};

/// What examples are. A data set, a checkpoint and a model have one each, which says the same.
struct DataSpec {
    ExampleShape shape = {};
    Codec codec = {};
    ConditionSpec condition = {};
    std::string about = "";  ///< what was done to the files' images, if anything
};

/// Warns where data reach so far that noise of sigma / alpha = `ratio`, which samples begin from, does not hide them.
void warn_where_uncovered(const DataSpec& data, double ratio);

}  // namespace diffuse
