#include "diffuse/run/trainer.hpp"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "diffuse/base/device.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/processes.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/diffusion/objective.hpp"
#include "diffuse/run/machine.hpp"
#include "diffuse/run/validation.hpp"
#include "diffuse/train/batch.hpp"
#include "diffuse/train/flat_parameters.hpp"
#include "diffuse/train/learning_rate.hpp"
#include "diffuse/train/optimizer.hpp"
#include "diffuse/train/replicas.hpp"

namespace diffuse {
namespace {

/// Images a second since the last line of metrics, without the time that samples and checkpoints take.
struct Speed {
    int64_t steps = 0;
    Stopwatch watch;
};

/// The weights of a training, and the loop over its steps.
class Trainer {
public:
    Trainer(const Config& config, const Dataset& dataset, torch::Device device,
            const std::vector<TrainingObserver>& observers)
        : config_(config),
          data_(seen_by_network(config, dataset.spec)),
          device_(device),
          observers_(observers),
          fingerprint_(fingerprint(dataset, data_.condition.classes.count > 0)),
          machine_(describe(device)),
          seed_(uint64_t(config.seed)),
          examples_(dataset.examples.to(device)),
          condition_(data_.condition.taken(dataset.condition)),
          order_(seed_, dataset.size()),
          schedule_(make_schedule(config.schedule)),
          parameterization_(make_parameterization(config.parameterization)),
          objective_(make_objective(config.train.objective, parameterization_, schedule_, config.train.weighting)),
          validation_(config.train.validate_every > 0 ? make_validation(config, data_, objective_, schedule_, device)
                                                      : Validation()),
          average_(new_network(config, data_, device)),
          groups_(weight_groups(average_, config.train.optimizer)),
          ema_(flatten_parameters(groups_.parameters())),
          weights_(ema_.clone()),
          replicas_([&] { return new_network(config, data_, device); },
                    [&](const Net& network) { return weight_groups(network, config.train.optimizer).parameters(); },
                    weights_, config.train.batch_size),
          optimizer_(groups_, config.train, weights_, ema_),
          learning_rate_(make_learning_rate(config.train, config.train.learning_rate)),
          muon_learning_rate_(make_learning_rate(config.train, config.train.muon_learning_rate)) {
        average_.set_training(false);
    }

    void resume_from(const Checkpoint& checkpoint) {
        const TrainingState& training = checkpoint.training;
        if (training.machine != machine_) {
            log::warn(
                fmt::format("so far trained by {}, now by {}: the last digits may differ", training.machine, machine_));
        }
        const Checkpoint own = this->checkpoint();  // whose tensors are those that are trained
        restore(own.model, checkpoint.model, "the weights");
        restore(own.ema, checkpoint.ema, "the averaged weights");
        restore(own.training.mean, training.mean, "AdamW's means");
        restore(own.training.square, training.square, "AdamW's squares");
        restore(own.training.momentum, training.momentum, "Muon's momentum");
        step_ = saved_step_ = checkpoint.step;
        bad_steps_ = training.bad_steps;
        optimizer_.adamw.steps = step_ - bad_steps_;
        window_ = training.window;
        last_loss_ = training.loss;
    }

    int64_t run(const std::function<bool()>& stop) {
        std::optional<SingleThreaded> guard;
        if (device_.is_cpu()) guard.emplace();
        take_steps(stop);
        save();
        return saved_step_;
    }

private:
    void take_steps(const std::function<bool()>& stop) {
        const TrainOptions& train = config_.train;
        if (step_ == 0) save();  // a disk that does not take it is found out now, not after hours
        while (step_ < train.steps && took_step(stop)) {
            tell(&TrainingObserver::on_step,
                 TrainingStep{step_, window_.mean_loss(), images_per_second(), noun(data_.shape)});
            const bool last = step_ == train.steps;
            if (due(train.log_every) || due(train.validate_every) || last) report_metrics();
            if (due(train.sample_every) || (last && train.sample_every > 0)) offer_preview();
            if (due(train.checkpoint_every) || last) save();
        }
    }

    bool took_step(const std::function<bool()>& stop) {
        try {
            if (stop()) return false;
            take_step();
            return true;
        } catch (const processes::Lost&) {
            save();  // the weights are those of the last whole step; one lost amid a preview would leave that out
            throw;
        }
    }

    template <class Event, class Value>
    void tell(Event TrainingObserver::*event, const Value& value) const {
        for (const auto& observer : observers_) (observer.*event)(value);
    }

    bool due(int64_t every) const { return every > 0 && step_ % every == 0; }

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

    /// Of the examples at these positions.
    torch::Tensor directions_of(int64_t first, int64_t count) const {
        return to_device(training_directions(seed_, first, count, config_.train.directions(), data_.shape.sizes()),
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
            window_.add_example((levels[i].t - 1) / double(schedule_.steps()), each[i]);
        }
        window_.add_step(step_loss, norm);
    }

    /// Leaves the weights as they are. The next step draws other images, times and noise, and may be good again.
    void skip_bad_step() {
        ++bad_steps_;
        if (bad_in_a_row_ == 0) log::warn(fmt::format("step {}: loss or gradient is not finite; skipped", step_));
        if (++bad_in_a_row_ < config_.train.max_bad_steps && step_ < config_.train.steps) return;
        throw Diverged(fmt::format("neither loss nor gradient was finite in the last {} steps, up to step {}",
                                   bad_in_a_row_, step_));
    }

    double images_per_second() const {
        return double(speed_.steps * config_.train.batch_size) / speed_.watch.seconds();
    }

    Metrics metrics() const {
        const double seconds = watch_.seconds();
        return {.step = step_,
                .images = step_ * config_.train.batch_size,
                .loss = window_.mean_loss(),
                .level_loss = window_.mean_level_loss(),
                .validation_loss =
                    due(config_.train.validate_every) ? std::optional(validation_(packed_average())) : std::nullopt,
                .grad_norm = window_.mean_grad_norm(),
                .learning_rate = learning_rate_(step_),
                .bad_steps = bad_steps_,
                .images_per_second = images_per_second(),
                .wall_seconds = seconds};
    }

    /// For many calls before its weights change again.
    Net packed_average() const { return average_.packed(/*backward=*/false); }

    void report_metrics() {
        last_loss_ = window_.steps > 0 ? std::optional(window_.mean_loss()) : std::nullopt;
        tell(&TrainingObserver::on_metrics, metrics());
        window_ = {};
        speed_ = {};
    }

    void offer_preview() const {
        const Model averaged = model_of(packed_average(), parameterization_, schedule_, data_, device_);
        tell(&TrainingObserver::on_preview, Preview{checkpoint(), averaged, condition_});
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
        tell(&TrainingObserver::on_checkpoint, checkpoint());
        saved_step_ = step_;
    }

    const Config config_;
    const DataSpec data_;
    const torch::Device device_;
    const std::vector<TrainingObserver>& observers_;
    const std::string fingerprint_, machine_;
    const uint64_t seed_;
    const torch::Tensor examples_;
    const Condition condition_;
    DataOrder order_;
    const Schedule schedule_;
    const Parameterization parameterization_;
    const Objective objective_;
    const Validation validation_;  // where it is ever due
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
    Stopwatch watch_;
};

}  // namespace

void require_data_of(const Checkpoint& checkpoint, const Dataset& dataset) {
    const std::string found = fingerprint(dataset, checkpoint.config.net.classes.value_or(0) > 0);
    if (checkpoint.training.fingerprint == found) return;
    throw Error(fmt::format("the data set is not the one this run was trained on: it is {}, it was {}", found,
                            checkpoint.training.fingerprint));
}

int64_t train(const Config& config, const Dataset& dataset, torch::Device device,
              const std::vector<TrainingObserver>& observers, const std::optional<Checkpoint>& start,
              const std::function<bool()>& stop) {
    if (start) require_data_of(*start, dataset);
    for (const auto& observer : observers) observer.on_start(config, start);
    Trainer trainer(config, dataset, device, observers);
    if (start) trainer.resume_from(*start);
    return trainer.run(stop);
}

}  // namespace diffuse
