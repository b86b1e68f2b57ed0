#include "diffuse/trainer.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cmath>
#include <fstream>

#include "diffuse/batch.hpp"
#include "diffuse/error.hpp"
#include "diffuse/file.hpp"
#include "diffuse/image.hpp"
#include "diffuse/loss.hpp"
#include "diffuse/optimizer.hpp"
#include "diffuse/parallel.hpp"
#include "diffuse/progress.hpp"
#include "diffuse/random.hpp"
#include "diffuse/sampler.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kFewestImagesPerReplica = 8;
constexpr int64_t kPreviewImages = 64, kPreviewColumns = 8, kPreviewSteps = 25;

/// Loss and gradient norm since the last line of metrics; kept as tensors so that no step waits for a number.
struct Window {
    torch::Tensor loss, norm;
    int64_t steps = 0;
    Stopwatch watch;
};

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

class Trainer {
public:
    Trainer(const Config& config, const Dataset& dataset, torch::Device device, const RunFolder& folder)
        : config_(config),
          shape_(dataset.shape()),
          device_(device),
          folder_(folder.path),
          seed_(uint64_t(config.seed)),
          threads_(at::get_num_threads()),
          images_(dataset.images.to(device)),
          order_(seed_, dataset.size()),
          schedule_(make_schedule(config.schedule)),
          levels_(schedule_, device),
          to_eps_(to_eps(config.model.prediction)),
          average_(config.model, shape_, seed_, device),
          ema_(flatten_parameters(average_.parameters())),
          weights_(ema_.clone()),
          optimizer_(weights_, config.train.beta2, config.train.weight_decay),
          metrics_(folder_ / "metrics.jsonl", std::ios::app),
          progress_("training: step", config.train.steps) {
        average_.set_training(false);
        const int64_t most = std::max<int64_t>(1, config.train.batch_size / kFewestImagesPerReplica);
        const int64_t replicas = device.is_cpu() ? std::min(threads_, most) : 1;
        for (int64_t i = 0; i < replicas; ++i) {
            UNet network(config.model, shape_, seed_, device);
            view_parameters(network.parameters(), weights_);
            replicas_.push_back({network, flatten_gradients(network.parameters()), {}});
        }
    }

    int64_t run(const std::function<bool()>& stop) {
        const SingleThreaded guard;
        const TrainConfig& train = config_.train;
        const auto due = [&](int64_t every) { return every > 0 && step_ % every == 0; };
        while (step_ < train.steps && !stop()) {
            take_step();
            const bool last = step_ == train.steps;
            if (due(train.log_every) || last) log_metrics();
            if (due(train.sample_every) || (last && train.sample_every > 0)) save_samples();
            if (due(train.checkpoint_every) || last) save();
            progress_.update(step_, [&] { return status(); });
        }
        if (step_ < train.steps && step_ > 0) save();
        return step_;
    }

private:
    void take_step() {
        if (window_.steps == 0) window_ = Window{};  // its clock leaves out the time of samples and checkpoints
        const int64_t replicas = int64_t(replicas_.size()), batch = config_.train.batch_size;
        indices_ = order_.indices(step_ * batch, batch).to(device_);
        times_ = training_times(seed_, step_, batch, schedule_.steps()).to(device_);
        parallel_for_each(replicas, replicas, [&](int64_t i) { backward(replicas_[size_t(i)], i); });
        ++step_;

        const torch::NoGradGuard no_grad;
        auto& [network, gradient, loss] = replicas_.front();
        for (size_t i = 1; i < replicas_.size(); ++i) {
            gradient.add_(replicas_[i].gradient);
            loss.add_(replicas_[i].loss);
        }
        const auto norm = clip_norm_(gradient, config_.train.gradient_clip);
        optimizer_.step(gradient, learning_rate(config_.train, step_));
        update_ema_(ema_, weights_, config_.train.ema_decay, step_);
        window_.loss = window_.steps == 0 ? loss : window_.loss + loss;
        window_.norm = window_.steps == 0 ? norm : window_.norm + norm;
        ++window_.steps;
    }

    /// Loss and gradient of replica i's share of the batch: images `first` and on of this step.
    void backward(Replica& replica, int64_t i) {
        const int64_t batch = config_.train.batch_size, replicas = int64_t(replicas_.size());
        const int64_t first = batch * i / replicas, count = batch * (i + 1) / replicas - first;
        const int64_t position = step_ * batch + first;
        const auto x0 = to_signed(images_.index_select(0, indices_.narrow(0, first, count)));
        const auto eps = training_noise(seed_, position, count, x0.sizes().slice(1)).to(device_);
        replica.network.seed_dropout(Random({seed_, Purpose::kDropout, uint64_t(position)}).bits());
        const auto loss = eps_loss(replica.network, to_eps_, levels_, x0, times_.narrow(0, first, count), eps) *
                          (double(count) / double(batch));
        replica.gradient.zero_();
        loss.backward();
        replica.loss = loss.detach();
    }

    double mean_loss() const { return window_.loss.item<double>() / double(window_.steps); }
    double mean_norm() const { return window_.norm.item<double>() / double(window_.steps); }
    double images_per_second() const {
        return double(window_.steps * config_.train.batch_size) / window_.watch.seconds();
    }

    std::string status() const {
        if (window_.steps == 0) return last_status_;
        return fmt::format("loss {:.4f}  {:.0f} images/s", mean_loss(), images_per_second());
    }

    void log_metrics() {
        require_finite();
        nlohmann::ordered_json line;
        line["step"] = step_;
        line["images"] = step_ * config_.train.batch_size;
        line["loss"] = mean_loss();
        line["grad_norm"] = mean_norm();
        line["learning_rate"] = learning_rate(config_.train, step_);
        line["images_per_second"] = images_per_second();
        line["wall_seconds"] = watch_.seconds();
        metrics_ << line.dump() << std::endl;
        if (!metrics_)
            throw Error(fmt::format("cannot write {}; is the disk full?", display_path(folder_ / "metrics.jsonl")),
                        kRunFailed);
        last_status_ = status();
        window_ = Window{};
    }

    void require_finite() const {
        if (window_.steps == 0 || (std::isfinite(mean_loss()) && std::isfinite(mean_norm()))) return;
        throw Error(fmt::format("loss or gradient is no longer finite at step {}; lower train.learning_rate. The last "
                                "checkpoint is kept",
                                step_),
                    kRunFailed);
    }

    void save_samples() {
        require_finite();
        const Walk walk{
            .solver = [] { return make_ddim(0); },
            .denoiser = network_denoiser(average_, to_eps_, schedule_.at(1)),
            .grid = make_grid(schedule_, "uniform", std::min(kPreviewSteps, schedule_.steps())),
            .device = device_,
            .threads = threads_,
            .progress = [&](int64_t, int64_t) { progress_.update(step_, [] { return "drawing samples"; }); }};
        const auto start = sampling_noise(seed_, 0, kPreviewImages, {shape_.channels, shape_.height, shape_.width}, 0);
        const auto path = folder_ / "samples" / fmt::format("step-{:07}.png", step_);
        write_png(path, tile(to_bytes(walk_images(walk, start).images), kPreviewColumns));
    }

    void save() {
        require_finite();
        save_checkpoint(folder_ / kCheckpointName,
                        {config_, shape_, step_, weights_of(replicas_.front().network), weights_of(average_)});
    }

    const Config config_;
    const ImageShape shape_;
    const torch::Device device_;
    const fs::path folder_;
    const uint64_t seed_;
    const int64_t threads_;
    torch::Tensor images_, indices_, times_;
    DataOrder order_;
    Schedule schedule_;
    LevelTable levels_;
    ToEps to_eps_;
    UNet average_;
    torch::Tensor ema_, weights_;
    std::vector<Replica> replicas_;
    AdamW optimizer_;
    int64_t step_ = 0;
    Window window_;
    std::string last_status_;
    Stopwatch watch_;
    std::ofstream metrics_;
    Progress progress_;
};

}  // namespace

RunFolder RunFolder::create(const fs::path& path, bool replace) {
    const std::vector<fs::path> files = {path / "config.json", path / "metrics.jsonl", path / kCheckpointName,
                                         path / "samples"};
    const bool taken = std::any_of(files.begin(), files.end(), [](const fs::path& file) { return is_there(file); });
    if (taken && !replace) {
        throw Error(fmt::format("{} already holds a run; give another folder with --out, or --force to replace it",
                                display_path(path)));
    }
    create_folder(path);
    std::error_code error;
    for (const auto& file : files) fs::remove_all(file, error);
    create_folder(path / "samples");
    require_writable(path / "config.json");
    return {path};
}

int64_t train(const Config& config, const Dataset& dataset, torch::Device device, const RunFolder& folder,
              const std::function<bool()>& stop) {
    write_file(folder.path / "config.json",
               to_json(config).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return Trainer(config, dataset, device, folder).run(stop);
}

}  // namespace diffuse
