#include "diffuse/run/trainer.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "diffuse/base/device.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/data/csv.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/diffusion/objective.hpp"
#include "diffuse/plot/sheet.hpp"
#include "diffuse/run/machine.hpp"
#include "diffuse/run/sampling.hpp"
#include "diffuse/train/batch.hpp"
#include "diffuse/train/flat_parameters.hpp"
#include "diffuse/train/learning_rate.hpp"
#include "diffuse/train/optimizer.hpp"
#include "diffuse/train/replicas.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxValidation = 1024, kValidationGroup = 16;  // examples
constexpr int64_t kMaxPreviewImages = 64, kPreviewColumns = 8, kMaxPreviewColumns = 16, kPreviewSteps = 25,
                  kPreviewPoints = 2000;

/// As many that each column shows one class, where that is possible.
int64_t preview_columns(int64_t classes) {
    if (classes == 0 || classes > kMaxPreviewColumns) return kPreviewColumns;
    return classes * std::max<int64_t>(1, kPreviewColumns / classes);
}

/// Images a second since the last line of metrics, without the time that samples and checkpoints take.
struct Speed {
    int64_t steps = 0;
    Stopwatch watch;
};

/// The first test examples, as the network sees them.
Dataset held_out(const DatasetOptions& options, const DataSpec& data) {
    const Dataset test = in_terms_of(data, load_dataset(options, Split::kTest), "the test split");
    return test.part(0, std::min(kMaxValidation, test.size()));
}

class Trainer {
public:
    Trainer(const Config& config, const Dataset& dataset, const std::string& fingerprint, torch::Device device,
            const RunFolder& folder)
        : config_(config),
          data_(seen_by_network(config, dataset.spec)),
          device_(device),
          folder_(folder),
          fingerprint_(fingerprint),
          machine_(describe(device)),
          seed_(uint64_t(config.seed)),
          threads_(at::get_num_threads()),
          examples_(dataset.examples.to(device)),
          condition_(data_.condition.taken(dataset.condition)),
          validation_(config.train.validate_every > 0 ? std::optional(held_out(config.dataset, data_)) : std::nullopt),
          order_(seed_, dataset.size()),
          schedule_(make_schedule(config.schedule)),
          parameterization_(make_parameterization(config.parameterization)),
          objective_(make_objective(config.train.objective, parameterization_, schedule_, config.train.weighting)),
          average_(new_network(config, data_, device)),
          groups_(weight_groups(average_, config.train.optimizer)),
          ema_(flatten_parameters(groups_.parameters())),
          weights_(ema_.clone()),
          replicas_([&] { return new_network(config, data_, device); },
                    [&](const Net& network) { return weight_groups(network, config.train.optimizer).parameters(); },
                    weights_, config.train.batch_size),
          optimizer_(groups_, config.train, weights_, ema_),
          learning_rate_(make_learning_rate(config.train, config.train.learning_rate)),
          muon_learning_rate_(make_learning_rate(config.train, config.train.muon_learning_rate)),
          metrics_(folder.path() / kMetricsName) {
        average_.set_training(false);
    }

    void resume_from(const Checkpoint& checkpoint, double wall_seconds) {
        const TrainingState& training = checkpoint.training;
        if (training.machine != machine_) {
            log::warn(
                fmt::format("so far trained by {}, now by {}: the last digits may differ", training.machine, machine_));
        }
        restore(named_views(weights_, groups_.all()), checkpoint.model, "the weights");
        restore(named_views(ema_, groups_.all()), checkpoint.ema, "the averaged weights");
        restore(named_views(optimizer_.adamw.mean, groups_.adamw), training.mean, "AdamW's means");
        restore(named_views(optimizer_.adamw.square, groups_.adamw), training.square, "AdamW's squares");
        restore(named_views(optimizer_.muon.momentum, groups_.muon), training.momentum, "Muon's momentum");
        step_ = saved_step_ = checkpoint.step;
        bad_steps_ = training.bad_steps;
        optimizer_.adamw.steps = step_ - bad_steps_;
        window_ = training.window;
        last_loss_ = training.loss;
        wall_seconds_before_ = wall_seconds;
    }

    int64_t run(const std::function<bool()>& stop) {
        std::optional<SingleThreaded> guard;
        if (device_.is_cpu()) guard.emplace();
        const TrainOptions& train = config_.train;
        const auto due = [&](int64_t every) { return every > 0 && step_ % every == 0; };
        Progress progress("training: step", train.steps, step_);
        if (step_ == 0) save();  // a disk that does not take it is found out now, not after hours
        while (step_ < train.steps && !stop()) {
            take_step();
            const bool last = step_ == train.steps;
            if (due(train.log_every) || due(train.validate_every) || last) log_metrics();
            if (due(train.sample_every) || (last && train.sample_every > 0)) save_samples(progress);
            if (due(train.checkpoint_every) || last) save();
            progress.update(step_, [&] { return status(); });
        }
        save();
        return saved_step_;
    }

private:
    void take_step() {
        if (speed_.steps == 0) speed_ = Speed{};
        const int64_t batch_size = config_.train.batch_size, position = step_ * batch_size;
        const auto order = order_.indices(position, batch_size), indices = to_device(order, device_);
        const Condition condition = condition_of(order, position).to(device_);
        const auto levels = training_levels(seed_, step_, batch_size, schedule_, config_.train.levels);
        const auto [losses, gradient] = replicas_.run([&](Net& network, int64_t first, int64_t count) {
            network.seed_dropout(Random({seed_, Purpose::kDropout, uint64_t(position + first)}).bits());
            const auto examples = examples_.index_select(0, indices.narrow(0, first, count));
            const auto x0 = to_network(config_.dataset.flip ? flipped(examples, seed_, position + first) : examples);
            const auto eps = training_noise(seed_, position + first, count, data_.shape.sizes());
            return objective_(network, {x0,
                                        to_device(eps, device_),
                                        {levels.begin() + first, levels.begin() + first + count},
                                        condition.each([=](const auto& all) { return all.narrow(0, first, count); }),
                                        directions_of(position + first, count)});
        });
        ++step_;
        ++speed_.steps;
        update_weights(losses, gradient, levels);
    }

    /// Of the examples at these positions, where the objective needs them.
    torch::Tensor directions_of(int64_t first, int64_t count) const {
        if (!needs_of(config_.train.objective).directions) return {};
        return to_device(training_directions(seed_, first, count, config_.train.projections, data_.shape.sizes()),
                         device_);
    }

    /// The condition of a batch, the examples `order`, with some of their labels dropped.
    Condition condition_of(const torch::Tensor& order, int64_t position) const {
        Condition condition = condition_.rows(order);
        if (!condition.classes.defined()) return condition;
        condition.classes = training_labels(seed_, position, condition.classes, config_.train.label_dropout,
                                            data_.condition.classes.count);
        return condition;
    }

    void update_weights(const torch::Tensor& losses, const torch::Tensor& gradient,
                        const std::vector<NoiseLevel>& levels) {
        // At once, as a GPU has to be waited for.
        const auto numbers = torch::cat({losses, gradient.norm().unsqueeze(0)}).cpu().to(torch::kFloat64);
        const double* each = numbers.data_ptr<double>();
        const double step_loss = std::accumulate(each, each + levels.size(), 0.0) / double(levels.size());
        const double norm = each[levels.size()];
        if (!std::isfinite(step_loss) || !std::isfinite(norm)) return skip_bad_step();
        bad_in_a_row_ = 0;
        optimizer_.step(gradient, clip_factor(norm, config_.train.gradient_clip), learning_rate_(step_),
                        muon_learning_rate_(step_), ema_decay(config_.train.ema_decay, step_),
                        [&](int64_t count, const auto& work) { replicas_.for_each(count, work); });
        for (size_t i = 0; i < levels.size(); ++i) {
            const double part = (levels[i].t - 1) / double(schedule_.steps());
            const size_t bin = std::min(kLevelBins - 1, size_t(part * double(kLevelBins)));
            window_.level_loss[bin] += each[i];
            ++window_.level_count[bin];
        }
        window_.loss += step_loss;
        window_.grad_norm += norm;
        ++window_.steps;
    }

    /// Leaves the weights as they are. The next step draws other images, times and noise, and may be good again.
    void skip_bad_step() {
        ++bad_steps_;
        if (bad_in_a_row_ == 0) log::warn(fmt::format("step {}: loss or gradient is not finite; skipped", step_));
        if (++bad_in_a_row_ < config_.train.max_bad_steps && step_ < config_.train.steps) return;
        throw Error(
            fmt::format(
                "neither loss nor gradient was finite in the last {} steps, up to step {}; the "
                "checkpoint of step {} is kept; resume it with a lower learning rate: diffuse train --resume {} "
                "--set train.learning_rate={}",
                bad_in_a_row_, step_, saved_step_, shell_word(display_path(folder_.path())),
                config_.train.learning_rate / 10),
            kRunFailed);
    }

    double mean_loss() const { return window_.loss / double(window_.steps); }
    double images_per_second() const {
        return double(speed_.steps * config_.train.batch_size) / speed_.watch.seconds();
    }

    /// The mean loss of each part of the levels; null where the window has none of it.
    nlohmann::ordered_json level_losses() const {
        nlohmann::ordered_json losses;
        for (size_t i = 0; i < kLevelBins; ++i) {
            const double count = window_.level_count[i];
            losses.push_back(count > 0 ? nlohmann::ordered_json(window_.level_loss[i] / count) : nullptr);
        }
        return losses;
    }

    /// The mean loss of the averaged network on held-out images, always at the same levels and noise.
    double validate() const {
        const torch::NoGradGuard no_grad;
        const int64_t count = validation_->size();
        const auto levels = training_levels(seed_, /*step=*/0, count, schedule_, config_.train.levels);
        auto losses = torch::empty({count});
        for_each_group(count, kValidationGroup, device_, threads_, [&](int64_t first, int64_t size) {
            const torch::NoGradGuard on_this_thread;
            const auto eps =
                normal_images(seed_, Purpose::kValidationNoise, first, size, data_.shape.sizes(), /*draw=*/0);
            const Dataset some = validation_->part(first, size);
            const Batch batch{to_device(to_network(some.examples), device_),
                              to_device(eps, device_),
                              {levels.begin() + first, levels.begin() + first + size},
                              some.condition.to(device_),
                              directions_of(first, size)};
            losses.narrow(0, first, size)
                .copy_(objective_([this](const NetworkInput& input) { return average_(input); }, batch));
        });
        return losses.mean().item<double>();
    }

    std::string status() const {
        if (window_.steps == 0 || speed_.steps == 0) return last_status_;
        return fmt::format("loss {:.4f}  {:.0f} images/s", mean_loss(), images_per_second());
    }

    void log_metrics() {
        const double seconds = wall_seconds_before_ + watch_.seconds();
        last_loss_ = window_.steps > 0 ? std::optional(mean_loss()) : std::nullopt;
        nlohmann::ordered_json line;
        line["step"] = step_;
        line["images"] = step_ * config_.train.batch_size;
        line["loss"] = mean_loss();
        line["level_loss"] = level_losses();
        if (validation_ && step_ % config_.train.validate_every == 0) line["validation_loss"] = validate();
        line["grad_norm"] = window_.grad_norm / double(window_.steps);
        line["learning_rate"] = learning_rate_(step_);
        line["bad_steps"] = bad_steps_;
        line["images_per_second"] = images_per_second();
        line["wall_seconds"] = seconds;
        metrics_.append(to_text(line));
        log::debug(to_text(line));
        last_status_ = status();
        window_ = {};
        speed_ = {};
    }

    void save_samples(Progress& progress) {
        SampleOptions options{.solver = "ddim", .steps = std::min(kPreviewSteps, grid_start(schedule_))};
        const ExampleShape& shape = data_.shape;
        const int64_t columns = preview_columns(data_.condition.classes.count);
        const int64_t count = shape.points ? kPreviewPoints : kMaxPreviewImages / columns * columns;
        Sampler sampler = make_sampler(options, model_of(average_, parameterization_, schedule_, data_, device_));
        sampler.condition = condition_.numbers.defined()
                                ? condition_.rows(torch::arange(count).remainder(condition_.size()))
                                : data_.condition.of_classes(options.classes, count);
        sampler.threads = threads_;
        sampler.progress = [&](int64_t, int64_t) { progress.update(step_, [] { return "drawing samples"; }); };
        const auto start = sampling_noise(seed_, 0, count, shape.sizes(), 0);
        const auto samples = diffuse::run(sampler, start).x;
        const auto path = folder_.path() / kSamplesName / step_name(step_, shape.points ? ".csv" : ".png");
        const auto values = data_.codec.decode(samples);
        if (shape.points) {
            write_csv(path, {names(data_.codec.columns), values}, /*as_float32=*/true);
        } else {
            write_png(path, sheet(values, columns, sheet_scale({}, shape.height, shape.width)), preview_texts(options));
        }
        log::debug(fmt::format("saved {}", display_path(path)));
    }

    /// Nothing of the command line, so that a run that was resumed has the same files.
    PngTexts preview_texts(const SampleOptions& options) const {
        PngTexts texts = origin_of(options, *options.steps, data_.shape, identity(checkpoint(), options.weights));
        texts.emplace_back("seed", std::to_string(seed_));
        return texts;
    }

    Checkpoint checkpoint() const {
        const TrainingState training{bad_steps_,
                                     last_loss_,
                                     window_,
                                     fingerprint_,
                                     machine_,
                                     named_views(optimizer_.adamw.mean, groups_.adamw),
                                     named_views(optimizer_.adamw.square, groups_.adamw),
                                     named_views(optimizer_.muon.momentum, groups_.muon)};
        return {config_, data_, step_, named_views(weights_, groups_.all()), named_views(ema_, groups_.all()),
                training};
    }

    /// Nothing is saved amid bad steps: the weights that led to them may be beyond repair.
    void save() {
        if (bad_in_a_row_ > 0 || saved_step_ == step_) return;
        try {
            metrics_.flush_to_disk();  // first, so that the lines up to a checkpoint are there whenever it is
            folder_.save(checkpoint(), config_.train.keep_checkpoints);
        } catch (const Error& error) {
            if (saved_step_ < 0) throw;
            throw Error(
                fmt::format("{}; step {} is the last that is saved; when that is mended, diffuse train --resume "
                            "goes on from there",
                            error.what(), saved_step_),
                error.exit_code);
        }
        saved_step_ = step_;
        log::debug(fmt::format("saved {} of step {}", display_path(folder_.path() / kCheckpointName), step_));
    }

    const Config config_;
    const DataSpec data_;
    const torch::Device device_;
    const RunFolder& folder_;
    const std::string fingerprint_, machine_;
    const uint64_t seed_;
    const int64_t threads_;
    const torch::Tensor examples_;
    const Condition condition_;
    const std::optional<Dataset> validation_;  // test examples
    DataOrder order_;
    const Schedule schedule_;
    const Parameterization parameterization_;
    const Objective objective_;
    Net average_;
    const WeightGroups groups_;  // of average_
    torch::Tensor ema_, weights_;
    Replicas replicas_;
    Optimizer optimizer_;
    const LearningRate learning_rate_, muon_learning_rate_;
    int64_t step_ = 0, saved_step_ = -1, bad_steps_ = 0, bad_in_a_row_ = 0;
    MetricsWindow window_;
    std::optional<double> last_loss_;
    Speed speed_;
    std::string last_status_;
    double wall_seconds_before_ = 0;
    Stopwatch watch_;
    LineFile metrics_;
};

void require_same_data(const Checkpoint& checkpoint, const std::string& found) {
    if (checkpoint.training.fingerprint == found) return;
    throw Error(fmt::format("the data set is not the one this run was trained on: it is {}, it was {}", found,
                            checkpoint.training.fingerprint));
}

}  // namespace

void require_data_of(const Checkpoint& checkpoint, const Dataset& dataset) {
    require_same_data(checkpoint, fingerprint(dataset, checkpoint.config.net.classes.value_or(0) > 0));
}

int64_t train(const Config& asked, const Dataset& dataset, torch::Device device, const RunFolder& folder,
              const std::optional<Checkpoint>& start, const std::function<bool()>& stop) {
    const Config config = with_classes(asked, dataset);
    const std::string data = fingerprint(dataset, *config.net.classes > 0);
    if (start) require_same_data(*start, data);
    const double wall_seconds = folder.trim_metrics(start ? start->step : 0);
    // First of all files, so that whatever is killed from here on can be resumed.
    write_file(folder.path() / kConfigName, to_text(to_json(config), 2) + "\n");
    Trainer trainer(config, dataset, data, device, folder);
    if (start) trainer.resume_from(*start, wall_seconds);
    return trainer.run(stop);
}

}  // namespace diffuse
