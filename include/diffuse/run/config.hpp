#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/diffusion/parameterization.hpp"
#include "diffuse/diffusion/schedule.hpp"
#include "diffuse/nets/net.hpp"
#include "diffuse/run/sample_options.hpp"
#include "diffuse/train/options.hpp"

namespace diffuse {

/// What a training run is made of. The sections of its JSON are dataset, schedule, model (the network and what it
/// predicts), train and sample; each option is described beside the struct that it is a member of.
struct Config {
    int64_t seed = 0;
    DatasetOptions dataset;
    ScheduleOptions schedule;
    NetOptions net;
    ParameterizationOptions parameterization;
    TrainOptions train;
    SampleOptions sample;  ///< how its network draws best, where nobody says otherwise
};
Fields fields(Config& config);

/// As `read` (base/fields.hpp). Takes combinations that `load_config` refuses, since checkpoints may have them.
Config config_from_json(const nlohmann::json& json);
nlohmann::ordered_json to_json(const Config& config);

/// Reads a JSON file, a preset also from where the program was installed; `settings` are "key.path=value", each
/// replacing one key before the strict reading. A value is JSON where it parses as JSON, else text: train.steps=100,
/// model.channel_multipliers=[1,2], dataset.dir=/data. Throws Error as above, and for values that do not go together.
/// What the file says that does not go with the settings is left out and told (defaults.hpp).
Config load_config(const std::filesystem::path& path, const std::vector<std::string>& settings = {});

/// A config with such settings applied to it; without any as it is, since checkpoints may have what these refuse.
Config with_settings(const Config& config, const std::vector<std::string>& settings);

/// A config with all that it leaves open: model.classes where that is "auto" and model.sigma_data of prediction edm as
/// the data set has them, paths absolute. One that is resolved stays as it is. What does not go with the data is left
/// out and told: attention at levels that the network has not, guidance without classes, what keeps images in bounds.
/// Where `settings` say it, and of other keys, throws Error that names the key. Warns where labels that the config
/// samples by are never trained.
Config resolved(Config config, const Dataset& dataset, const std::vector<std::string>& settings = {});

/// Which labels of a class-conditional network of a resolved config training shows it: classes but where all are
/// dropped, and the label of no class but where none are.
struct TrainedLabels {
    bool classes = true, none = true;
};
TrainedLabels trained_labels(const Config& config);

/// By what config a run of the resolved config `before` goes on where another is asked for: what that leaves open stays
/// as it was. Throws Error naming a key that cannot change in mid-run: images, times and noise of a step are functions
/// of the data set, seed and batch size, the shapes of the weights of the model.
Config resumed(const Config& before, Config asked);

/// The keys whose values differ.
std::vector<Change> changes(const Config& before, const Config& after);

/// What the network of a resolved config sees of a data set.
DataSpec seen_by_network(const Config& config, DataSpec data);

}  // namespace diffuse
