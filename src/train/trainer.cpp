#include "diffuse/train/trainer.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <map>

#include "diffuse/base/device.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/diffusion/loss.hpp"
#include "diffuse/plot/image.hpp"
#include "diffuse/solve/sampler.hpp"
#include "diffuse/train/batch.hpp"
#include "diffuse/train/optimizer.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kFewestImagesPerReplica = 8;
constexpr const char *kMetricsName = "metrics.jsonl", *kCopiesName = "checkpoints";
constexpr uintmax_t kLargestMetrics = uintmax_t{1} << 32;
constexpr int64_t kPreviewImages = 64, kPreviewColumns = 8, kPreviewSteps = 25;

/// One of several networks that share the weights and work on different parts of a batch at the same time, each on a
/// core of its own: faster than sharing out every layer, and a busy neighbour does not stall the others.
struct Replica {
    UNet network;
    torch::Tensor gradient, loss;
};

/// Keeps LibTorch's own threads asleep: they would spin beside the replicas, which keep the cores busy.
class SingleThreaded {
public:
    SingleThreaded() { at::set_num_threads(1); }
    ~SingleThreaded() { at::set_num_threads(before_); }
    SingleThreaded(const SingleThreaded&) = delete;
    SingleThreaded& operator=(const SingleThreaded&) = delete;

private:
    const int before_ = at::get_num_threads();
};

/// Images a second since the last line of metrics, without the time that samples and checkpoints take.
struct Speed {
    int64_t steps = 0;
    Stopwatch watch;
};

class Trainer {
public:
    Trainer(const Config& config, const Dataset& dataset, const std::string& data, torch::Device device,
            const RunFolder& folder)
        : config_(config),
          shape_(dataset.shape()),
          device_(device),
          folder_(folder.path()),
          data_(data),
          machine_(describe(device)),
          seed_(uint64_t(config.seed)),
          threads_(at::get_num_threads()),
          images_(dataset.images.to(device)),
          order_(seed_, dataset.size()),
          schedule_(make_schedule(config.schedule)),
          parameterization_(parameterization(config.model.prediction)),
          levels_(schedule_, device, parameterization_, config.train.weighting),
          average_(config.model, shape_, seed_, device),
          ema_(flatten_parameters(average_.parameters())),
          weights_(ema_.clone()),
          optimizer_(weights_, ema_, config.train.beta2, config.train.weight_decay),
          metrics_(folder_ / kMetricsName) {
        average_.set_training(false);
        const int64_t most = std::max<int64_t>(1, config.train.batch_size / kFewestImagesPerReplica);
        const int64_t replicas = device.is_cpu() ? std::min(threads_, most) : 1;
        if (device.is_cpu()) workers_.emplace(replicas);
        for (int64_t i = 0; i < replicas; ++i) {
            UNet network(config.model, shape_, seed_, device);
            view_parameters(network.parameters(), weights_);
            replicas_.push_back({network, flatten_gradients(network.parameters())});
        }
    }

    void go_on_from(const Checkpoint& checkpoint, double wall_seconds) {
        const TrainingState& training = checkpoint.training;
        if (training.machine != machine_) {
            log::warn(
                fmt::format("so far trained by {}, now by {}: the last digits may differ", training.machine, machine_));
        }
        restore(named(weights_), checkpoint.model, "the weights");
        restore(named(ema_), checkpoint.ema, "the averaged weights");
        restore(named(optimizer_.mean), training.mean, "the optimizer's means");
        restore(named(optimizer_.square), training.square, "the optimizer's squares");
        step_ = saved_step_ = checkpoint.step;
        bad_steps_ = training.bad_steps;
        optimizer_.steps = step_ - bad_steps_;
        window_ = training.window;
        last_loss_ = training.loss;
        wall_seconds_before_ = wall_seconds;
    }

    int64_t run(const std::function<bool()>& stop) {
        std::optional<SingleThreaded> guard;
        if (device_.is_cpu()) guard.emplace();
        const TrainConfig& train = config_.train;
        const auto due = [&](int64_t every) { return every > 0 && step_ % every == 0; };
        Progress progress("training: step", train.steps, step_);
        if (step_ == 0) save();  // a disk that does not take it is found out now, not after hours
        while (step_ < train.steps && !stop()) {
            take_step();
            const bool last = step_ == train.steps;
            if (due(train.log_every) || last) log_metrics();
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
        const int64_t replicas = int64_t(replicas_.size()), batch = config_.train.batch_size;
        indices_ = to_device(order_.indices(step_ * batch, batch), device_);
        times_ = to_device(training_times(seed_, step_, batch, schedule_.steps()), device_);
        if (device_.is_cpu()) {
            workers_->for_each(replicas, [&](int64_t i) { backward(replicas_[size_t(i)], i); });
        } else {
            backward(replicas_.front(), 0);
        }
        ++step_;
        ++speed_.steps;

        const torch::NoGradGuard no_grad;
        auto& [network, gradient, loss] = replicas_.front();
        for (size_t i = 1; i < replicas_.size(); ++i) {
            gradient.add_(replicas_[i].gradient);
            loss.add_(replicas_[i].loss);
        }
        // At once, as a GPU has to be waited for.
        const auto loss_and_norm = torch::stack({loss, gradient.norm()}).cpu();
        const double step_loss = loss_and_norm[0].item<double>(), norm = loss_and_norm[1].item<double>();
        if (!std::isfinite(step_loss) || !std::isfinite(norm)) return skip_bad_step();
        bad_in_a_row_ = 0;
        optimizer_.step(gradient, clip_factor(norm, config_.train.gradient_clip), learning_rate(config_.train, step_),
                        ema_decay(config_.train.ema_decay, step_));
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
                "checkpoint of step {} is kept; go on from it with a lower learning rate: diffuse train --resume {} "
                "--set train.learning_rate={}",
                bad_in_a_row_, step_, saved_step_, display_path(folder_), config_.train.learning_rate / 10),
            kRunFailed);
    }

    /// Loss and gradient of replica i's share of the batch: images `first` and on of this step.
    void backward(Replica& replica, int64_t i) {
        const int64_t batch = config_.train.batch_size, replicas = int64_t(replicas_.size());
        const int64_t first = batch * i / replicas, count = batch * (i + 1) / replicas - first;
        const int64_t position = step_ * batch + first;
        const auto x0 = to_signed(images_.index_select(0, indices_.narrow(0, first, count)));
        const auto eps = to_device(training_noise(seed_, position, count, x0.sizes().slice(1)), device_);
        replica.network.seed_dropout(Random({seed_, Purpose::kDropout, uint64_t(position)}).bits());
        const auto times = times_.narrow(0, first, count);
        const auto loss =
            ddpm_loss(replica.network, parameterization_, levels_, x0, times, eps) * (double(count) / double(batch));
        replica.gradient.zero_();
        loss.backward();
        replica.loss = loss.detach();
    }

    double mean_loss() const { return window_.loss / double(window_.steps); }
    double images_per_second() const {
        return double(speed_.steps * config_.train.batch_size) / speed_.watch.seconds();
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
        line["grad_norm"] = window_.grad_norm / double(window_.steps);
        line["learning_rate"] = learning_rate(config_.train, step_);
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
        const Walk walk{
            .solver = [] { return make_ddim(0); },
            .denoiser = [&](auto&) { return network_denoiser(average_, parameterization_, schedule_); },
            .grid = make_grid(schedule_, "uniform", std::min(kPreviewSteps, grid_start(schedule_))),
            .device = device_,
            .threads = threads_,
            .progress = [&](int64_t, int64_t) { progress.update(step_, [] { return "drawing samples"; }); }};
        const auto start = sampling_noise(seed_, 0, kPreviewImages, {shape_.channels, shape_.height, shape_.width}, 0);
        const auto path = folder_ / "samples" / fmt::format("step-{:07}.png", step_);
        write_png(path, tile(to_bytes(walk_images(walk, start).images), kPreviewColumns));
        log::debug(fmt::format("saved {}", display_path(path)));
    }

    /// Nothing is saved amid bad steps: the weights that led to them may be beyond repair.
    void save() {
        if (bad_in_a_row_ > 0 || saved_step_ == step_) return;
        const Checkpoint checkpoint{
            config_,
            shape_,
            step_,
            named(weights_),
            named(ema_),
            {bad_steps_, last_loss_, window_, data_, machine_, named(optimizer_.mean), named(optimizer_.square)}};
        metrics_.flush_to_disk();  // first, so that the lines up to a checkpoint are there whenever it is
        keep_copy(checkpoint);
        save_checkpoint(folder_ / kCheckpointName, checkpoint);
        saved_step_ = step_;
        log::debug(fmt::format("saved {} of step {}", display_path(folder_ / kCheckpointName), step_));
    }

    void keep_copy(const Checkpoint& checkpoint) const {
        if (config_.train.keep_checkpoints == 0 || step_ == 0) return;
        const fs::path copies = folder_ / kCopiesName;
        create_folder(copies);
        save_checkpoint(copies / fmt::format("step-{:07}.safetensors", step_), checkpoint);
        std::error_code error;
        std::map<int64_t, fs::path> by_step;
        for (const auto& entry : fs::directory_iterator(copies, error)) {
            long long step = 0;
            if (std::sscanf(entry.path().filename().c_str(), "step-%lld.safetensors", &step) == 1)
                by_step[step] = entry;
        }
        for (int64_t extra = std::ssize(by_step) - config_.train.keep_checkpoints; extra > 0; --extra) {
            fs::remove(by_step.begin()->second, error);
            by_step.erase(by_step.begin());
        }
    }

    /// The parts of a flat vector under the names of the weights.
    NamedTensors named(const torch::Tensor& flat) const {
        NamedTensors result = average_.named_parameters();
        const auto views = views_of(flat, average_.parameters());
        for (size_t i = 0; i < views.size(); ++i) result[i].second = views[i];
        return result;
    }

    const Config config_;
    const ImageShape shape_;
    const torch::Device device_;
    const fs::path folder_;
    const std::string data_, machine_;
    const uint64_t seed_;
    const int64_t threads_;
    torch::Tensor images_, indices_, times_;
    DataOrder order_;
    Schedule schedule_;
    Parameterization parameterization_;
    LevelTable levels_;
    UNet average_;
    torch::Tensor ema_, weights_;
    std::vector<Replica> replicas_;
    std::optional<Workers> workers_;  // on the CPU, a thread for each
    AdamW optimizer_;
    int64_t step_ = 0, saved_step_ = -1, bad_steps_ = 0, bad_in_a_row_ = 0;
    MetricsWindow window_;
    std::optional<double> last_loss_;
    Speed speed_;
    std::string last_status_;
    double wall_seconds_before_ = 0;
    Stopwatch watch_;
    LineFile metrics_;
};

/// Cuts metrics.jsonl before the first line after `step`: what a run that was killed wrote after its last checkpoint
/// will be written again. A line cut short by the end goes too. Returns the wall_seconds of the last line that stays.
double trim_metrics(const fs::path& path, int64_t step) {
    if (!is_there(path)) return 0;
    const std::string text = read_file(path, kLargestMetrics);
    double seconds = 0;
    size_t kept = 0;
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', kept)) {
        const auto line = nlohmann::json::parse(std::string_view(text).substr(kept, end - kept), nullptr, false);
        const auto number = [&](const char* key) {
            return line.is_object() && line.contains(key) && line[key].is_number() ? line[key].get<double>() : 0;
        };
        if (number("step") > double(step)) break;
        seconds = number("wall_seconds");
        kept = end + 1;
    }
    std::error_code error;
    if (kept < text.size()) fs::resize_file(path, kept, error);
    if (error) throw Error(fmt::format("cannot cut {}: {}", display_path(path), error.message()), kRunFailed);
    return seconds;
}

/// Images, times and noise of a step are functions of these (batch.hpp), and so are the shapes of the weights.
bool must_not_change(const std::string& key) {
    return (!key.starts_with("train.") && key != "dataset.dir") || key == "train.batch_size";
}

}  // namespace

RunFolder RunFolder::create(const fs::path& path, bool replace) {
    std::vector<fs::path> files = {path / kConfigName, path / kMetricsName, path / kCheckpointName};
    const bool taken = std::any_of(files.begin(), files.end(), [](const fs::path& file) { return is_there(file); });
    if (taken && !replace) {
        throw Error(
            fmt::format("{0} already holds a run; go on with it by diffuse train --resume {0}, give another "
                        "folder with --out, or --force to replace it",
                        display_path(path)));
    }
    create_folder(path);
    RunFolder folder(path);
    std::error_code error;
    if (replace) files.insert(files.end(), {path / kLogName, path / "samples", path / kCopiesName});
    for (const auto& file : files) fs::remove_all(file, error);
    create_folder(path / "samples");
    return folder;
}

RunFolder RunFolder::open(const fs::path& path) {
    if (!is_there(path / kConfigName)) {
        throw Error(fmt::format("{} holds no run: there is no {}", display_path(path), kConfigName));
    }
    RunFolder folder(path);
    create_folder(path / "samples");
    for (const auto& place : {path, path / "samples", path / kCopiesName}) remove_temporaries(place);
    return folder;
}

std::vector<ConfigChange> allowed_changes(const Config& before, const Config& after) {
    const auto all = changes(before, after);
    for (const auto& [key, old_value, new_value] : all) {
        if (must_not_change(key)) {
            throw Error(fmt::format("{} is {} in this run and cannot become {}; start another run for that", key,
                                    old_value, new_value));
        }
    }
    return all;
}

int64_t train(const Config& config, const Dataset& dataset, torch::Device device, const RunFolder& folder,
              const std::optional<Checkpoint>& start, const std::function<bool()>& stop) {
    const std::string data = fingerprint(dataset);
    if (start && start->training.data != data) {
        throw Error(fmt::format("the data set is not the one this run was trained on: it is {}, it was {}", data,
                                start->training.data));
    }
    const double wall_seconds = trim_metrics(folder.path() / kMetricsName, start ? start->step : 0);
    // First of all files, so that whatever is killed from here on can be resumed.
    write_file(folder.path() / kConfigName, to_text(to_json(config), 2) + "\n");
    Trainer trainer(config, dataset, data, device, folder);
    if (start) trainer.go_on_from(*start, wall_seconds);
    return trainer.run(stop);
}

}  // namespace diffuse
