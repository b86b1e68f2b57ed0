#include "nets/program.hpp"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "diffuse/ops/conv3x3.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int64_t kUnit = 16;  ///< numbers in a line of the cache

int64_t in_lines(int64_t size) { return (size + kUnit - 1) / kUnit * kUnit; }

std::unique_ptr<float, decltype(&std::free)> room_for(int64_t size) {
    auto* const data =
        static_cast<float*>(std::aligned_alloc(64, size_t(std::max(in_lines(size), kUnit)) * sizeof(float)));
    if (!data) throw std::bad_alloc();
    return {data, &std::free};
}

/// What autograd keeps of a walk.
struct HeldRun : torch::CustomClassHolder {
    explicit HeldRun(std::shared_ptr<Run> held) : run(std::move(held)) {}
    std::shared_ptr<Run> run;
};

/// A walk as one function of autograd. `weight` is one that requires a gradient, if any does: the gradients of all are
/// added where they belong, as they would be on their own.
struct Walk : torch::autograd::Function<Walk> {
    static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& weight,
                          const std::shared_ptr<Run>& run) {
        context->saved_data["run"] = c10::IValue::make_capsule(c10::make_intrusive<HeldRun>(run));
        context->saved_data["weights"] = weight.requires_grad();
        context->saved_data["x"] = x.requires_grad();
        return run->output();
    }
    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   torch::autograd::variable_list gradients) {
        refuse_second_derivative();
        const auto held = c10::static_intrusive_pointer_cast<HeldRun>(context->saved_data["run"].toCapsule());
        const bool of_x = context->saved_data["x"].toBool();
        held->run->backward(gradients[0], of_x, context->saved_data["weights"].toBool());
        return {of_x ? held->run->input_gradient() : Tensor(), {}, {}};
    }
};

}  // namespace

Value Program::value(int64_t size) {
    slots_.push_back({in_lines(size), std::ssize(steps_), std::ssize(steps_), 0, 0});
    return {std::ssize(slots_) - 1, size};
}

void Program::record(const std::vector<Value>& used, Work forward, Work backward) {
    for (const auto& value : used) {
        if (value.defined()) slots_[size_t(value.id)].last_step = std::ssize(steps_);
    }
    steps_.push_back({std::move(forward), std::move(backward)});
}

int64_t Program::packed(int64_t forward_size, int64_t backward_size, Pack pack) {
    packed_.push_back({forward_size_, backward_size_, std::move(pack)});
    forward_size_ += in_lines(forward_size);
    backward_size_ += in_lines(backward_size);
    return std::ssize(packed_) - 1;
}

void Program::finish(Value input, Value output, std::vector<Tensor> weights) {
    input_ = input, output_ = output;
    weights_ = std::move(weights);
    slots_[size_t(output.id)].last_step = std::ssize(steps_);
    lay_out();
}

/// Each value lies at the first place that no other one has while it is in use. Gradients are in use during the same
/// steps, backwards.
void Program::lay_out() {
    std::vector<const Slot*> placed;  // by where they lie
    for (auto& slot : slots_) {
        slot.own = own_size_;
        own_size_ += slot.size;
        int64_t at = 0;
        for (const Slot* other : placed) {
            const bool meets = other->first_step <= slot.last_step && slot.first_step <= other->last_step;
            if (!meets) continue;
            if (other->shared - at >= slot.size) break;
            at = std::max(at, other->shared + other->size);
        }
        slot.shared = at;
        shared_size_ = std::max(shared_size_, at + slot.size);
        const auto behind = [](const Slot* one, const Slot* other) { return one->shared < other->shared; };
        placed.insert(std::upper_bound(placed.begin(), placed.end(), &slot, behind), &slot);
    }
}

Packs Program::pack(bool forward, bool backward, const ForEach& for_each) const {
    const Packs packs{forward ? torch::empty({forward_size_}) : Tensor(),
                      backward ? torch::empty({backward_size_}) : Tensor()};
    for_each(std::ssize(packed_), [&](int64_t i) {
        const auto& weights = packed_[size_t(i)];
        if (forward) weights.pack(false, packs.forward.data_ptr<float>() + weights.forward);
        if (backward) weights.pack(true, packs.backward.data_ptr<float>() + weights.backward);
    });
    return packs;
}

std::shared_ptr<Run> Program::take_run(int64_t images, bool keeps) const {
    std::unique_ptr<Run> run;
    {
        const std::lock_guard lock(mutex_);
        const auto fits = [&](const auto& one) { return one->images_ == images && one->keeps_ == keeps; };
        const auto found = std::ranges::find_if(idle_, fits);
        if (found != idle_.end()) {
            run = std::move(*found);
            idle_.erase(found);
        }
    }
    if (!run) run = std::make_unique<Run>(*this, images, keeps);
    return {run.release(), [this, self = shared_from_this()](Run* used) {
                constexpr size_t kMostIdle = 16;
                used->input_ = {}, used->packs_.reset();
                const std::lock_guard lock(mutex_);
                idle_.emplace_back(used);
                if (idle_.size() > kMostIdle) idle_.erase(idle_.begin());
            }};
}

Tensor Program::operator()(const Input& input, const std::shared_ptr<const Packs>& packs) const {
    const auto trained = std::ranges::find_if(weights_, [](const Tensor& weight) { return weight.requires_grad(); });
    const bool keeps = at::GradMode::is_enabled() && (input.x.requires_grad() || trained != weights_.end());
    const auto run = take_run(input.x.size(0), keeps);
    const auto ready = packs ? packs : std::make_shared<const Packs>(pack(true, keeps, one_by_one));
    {
        const torch::NoGradGuard no_grad;
        run->forward(input, ready);
    }
    if (!keeps) return run->output();
    return Walk::apply(input.x, trained != weights_.end() ? *trained : weights_.front(), run);
}

Run::Run(const Program& program, int64_t images, bool keeps)
    : program_(&program),
      images_(images),
      keeps_(keeps),
      values_(room_for((keeps ? program.own_size_ : program.shared_size_) * images)),
      gradients_(room_for(keeps ? program.shared_size_ * images : 0)) {}

void Run::forward(const Program::Input& input, const std::shared_ptr<const Packs>& packs) {
    input_ = input;
    packs_ = packs;
    rows_ = std::max(input.time.size(0), input.classes.defined() ? input.classes.size(0) : 1);
    std::memcpy((*this)[program_->input_], input.x.data_ptr<float>(), input.x.nbytes());
    for (const auto& step : program_->steps_) step.forward(*this);
}

void Run::backward(const Tensor& gradient, bool of_input, bool of_weights) {
    of_input_ = of_input, of_weights_ = of_weights;
    if (!packs_->backward.defined()) {
        packs_ =
            std::make_shared<const Packs>(Packs{packs_->forward, program_->pack(false, true, one_by_one).backward});
    }
    touched_.assign(program_->slots_.size(), false);
    const auto dy = gradient.contiguous();
    std::memcpy(this->gradient(program_->output_), dy.data_ptr<float>(), dy.nbytes());
    for (auto step = program_->steps_.rbegin(); step != program_->steps_.rend(); ++step) step->backward(*this);
}

Tensor Run::output() const {
    const Value value = program_->output_;
    return torch::from_blob((*this)[value], {images_, value.size}).clone();
}

Tensor Run::input_gradient() const {
    const Value value = program_->input_;
    return torch::from_blob(gradient(value), {images_, value.size}).clone().view(input_.x.sizes());
}

int64_t Run::class_of(int64_t row) const {
    if (!input_.classes.defined()) return -1;
    return input_.classes.data_ptr<int64_t>()[input_.classes.size(0) > 1 ? row : 0];
}

float* Run::operator[](Value value) const {
    const auto& slot = program_->slots_[size_t(value.id)];
    return values_.get() + (keeps_ ? slot.own : slot.shared) * images_;
}

float* Run::gradient(Value value) const {
    return gradients_.get() + program_->slots_[size_t(value.id)].shared * images_;
}

Into Run::into(Value value) {
    if (!value.defined() || (value.id == program_->input_.id && !of_input_)) return {};
    const bool add = touched_[size_t(value.id)];
    touched_[size_t(value.id)] = true;
    return {gradient(value), add};
}

const float* Run::packed(int64_t number, bool backward) const {
    const auto& weights = program_->packed_[size_t(number)];
    return backward ? packs_->backward.data_ptr<float>() + weights.backward
                    : packs_->forward.data_ptr<float>() + weights.forward;
}

float* Run::gradient_of(const Tensor& weight) const {
    if (!of_weights_ || !weight.requires_grad()) return nullptr;
    auto& gradient = weight.mutable_grad();
    if (!gradient.defined()) gradient = torch::zeros_like(weight, weight.options().requires_grad(false));
    return gradient.data_ptr<float>();
}

float* Run::scratch(int64_t size) {
    if (std::ssize(scratch_) < size) scratch_.resize(size_t(size));
    return scratch_.data();
}

}  // namespace diffuse
