#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/base/torch.hpp"
#include "diffuse/data/spec.hpp"

namespace diffuse {

struct DatasetOptions {
    std::string kind = "mnist";
    std::string dir;
    int64_t limit = 0;
    int64_t seed = 0;
    bool flip = false;
    // idx
    std::string name;
    bool transpose = false;
    // images
    std::optional<int64_t> channels;
    std::string size, background;
    double test_share = 0.1;
    bool skip_bad = false;
    // cifar100
    std::string labels = "fine";
    // mixture
    std::vector<std::vector<double>> means;
    std::vector<double> stds, weights;
    // table
    std::string file;
    std::vector<std::string> condition, skip_columns;
    std::map<std::string, Ends> bounds;
    bool round = true;
    // simulator
    std::string simulator = "two-moons";

    bool fills_cache = true;  ///< whether decoded images may be kept in the user's cache folder; no key of a config
};
Fields fields(DatasetOptions& options);

/// Images or points, and what is known of each. Images stay bytes in memory: 47 MB for MNIST instead of 188.
struct Dataset {
    torch::Tensor examples;    ///< images: uint8 [N, C, H, W]; points: float32 [N, D], as a network sees them
    Condition condition = {};  ///< the labels of all, or the numbers that their table has beside, or nothing
    DataSpec spec = {};        ///< of the whole data set, whatever part this is
    int64_t size() const { return examples.size(0); }
    /// The examples at these indices, int64 [L], or first .. first + count - 1.
    Dataset rows(const torch::Tensor& index) const;
    Dataset part(int64_t first, int64_t count) const;
};

/// Images uint8 [N, C, H, W] without labels.
Dataset image_dataset(const torch::Tensor& images);

/// A data set as a network of this spec sees it: points in its units, labels by its numbers of classes of the same
/// names (classes.count for those that it does not know), and nothing that it does not take. Throws Error, beginning
/// with `what`, for other columns.
Dataset in_terms_of(const DataSpec& spec, Dataset dataset, const std::string& what);

enum class Split { kTrain, kTest };

/// Whether the data are read from the files of a folder, not drawn.
bool reads_files(const DatasetOptions& options);

/// The options with the folder that the files are read from as an absolute path, so that a run remembers it; as they
/// are for data that are drawn.
DatasetOptions located(const DatasetOptions& options);

/// Loads a split as `options` say.
/// mnist: images and, where there is a file of them, labels from IDX files, plain or .gz, in options.dir, or else
///   $DIFFUSE_MNIST, or else data/mnist.
/// idx: any images of bytes, [N, H, W], [N, H, W, C] or [N, C, H, W], in the one file of options.dir whose name has
///   "images", the split ("train", or "test" or "t10k") and options.name in it; labels likewise.
/// cifar10, cifar100: the binary versions (Krizhevsky 2009), in options.dir, or else data/cifar10 or data/cifar100, or
/// in
///   the folder there that their archive makes; of cifar100 with options.labels.
/// images: the PNG and JPEG files of options.dir and of its sub-folders, each once, of which each is then a class, as
///   `ImageRule` says (image.hpp). What is no image by its name and its content is passed over. Those whose content's
///   hash is below options.test_share are the test split, but each class keeps one for training. What was decoded is
///   kept in the user's cache folder.
/// digits: drawn (see digits.hpp); the test split holds 10,000 others.
/// eight-gaussians and the other `point_kinds`: points that are drawn (see toys.hpp).
/// table: the rows of the CSV file options.file (see csv.hpp) without the columns options.skip_columns; its columns
///   options.condition are the condition of the others. Rows are the test split where the hash of their content, and of
///   how many equal rows stand before them, is below options.test_share: so equal rows are split too. Warns of rows
///   that are so far from the others that these become nearly one number for a network.
/// simulator: parameters and what options.simulator makes of them (see simulators.hpp), 30,000 pairs or options.limit;
///   the observations are the condition, and parameters are drawn. The test split holds as many others, at most 10,000.
/// Throws Error naming the file or folder when something is missing, damaged or does not fit together.
/// The training split says of how many examples each class is.
Dataset load_dataset(const DatasetOptions& options, Split split);

/// Says which classes a training has, where they have names, and warns of those of fewer than 5 examples and of names
/// that parts of a data set have (train, val).
void tell_classes(const Classes& classes);

/// "60000 images of 1x28x28, CRC-32 5a1c3b07": tells whether two data sets hold the same examples in the same order,
/// and where asked, ", labels 0f1e2d3c", the same labels; ", given 0f1e2d3c" of numbers that are the condition.
std::string fingerprint(const Dataset& dataset, bool with_labels = false);

}  // namespace diffuse
