// The program behind yolo_qat and yolo_pose_qat: the training loop and what it decides. Everything else is in
// yolo_setup.cpp.
#include "samples/yolo.h"

#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <chrono>
#include <iostream>
#include <numbers>

#include "core/exec/device.h"
#include "core/exec/float_layout.h"
#include "core/support/error.h"
#include "qat/distillation.h"
#include "qat/training.h"
#include "qat/worker_group.h"
#include "samples/yolo_setup.h"

namespace espq::samples {
namespace {

using namespace detection;

constexpr int kStopped = 3;  // exit code of a run that was interrupted and can go on

class Clock {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// A data set together with its batches.
struct Examples {
  const CocoDataset& data;
  Batches batches;
};

class Session {
 public:
  explicit Session(const YoloOptions& options) : options_(options), group_(WorkerGroup::join(group_options(options))) {}
  /// Returns the exit code.
  int run();

 private:
  void say(const std::string& text) const {
    if (group_.is_first()) std::cout << fmt::format("[{:6.1f} s] {}", clock_.seconds(), text) << std::endl;
  }
  std::filesystem::path best_file() const { return options_.output / "best.state"; }
  std::filesystem::path checkpoint_file() const { return options_.output / "checkpoint.state"; }
  int64_t steps_per_epoch() const;

  void read_data();
  void open();
  Quality float_quality(const Examples& examples);
  Quality simulated_quality(TrainableGraph& network, const Examples& examples);

  bool train(TrainableGraph& network);
  std::unique_ptr<torch::optim::Optimizer> make_optimizer(const std::vector<at::Tensor>& parameters) const;
  void start_or_resume(TrainableGraph& network, TrainingState& state);
  double rate_of(int64_t step) const;
  void add_gradients(TrainableGraph& network, int64_t step);
  at::Tensor loss_of(TrainableGraph& network, const Batch& batch);
  void end_epoch(TrainableGraph& network, MovingAverage* average, int64_t epoch);

  void finish(TrainableGraph& network);
  TrainOptions train_options() const { return {.device = group_.device(), .quirks = recipe_.quirks}; }
  void print_table(TrainableGraph& network, const Graph& chip);

  YoloOptions options_;
  WorkerGroup group_;
  Clock clock_;
  Recipe recipe_;
  YoloData data_;
  Graph quantized_, float_graph_;
  Dataset calibration_;
  HeadLayout layout_;
  std::unique_ptr<Examples> training_, validation_, test_;  ///< test_ is empty without a test set
  std::unique_ptr<Executor> float_network_;
  Quality best_;  ///< on the validation images
  double loss_sum_ = 0, losses_ = 0;
};

// ------------------------------------------------------------------------------------------------ training

/// An ordinary LibTorch loop. Interrupted, it leaves a checkpoint that --resume goes on from, with the same result, and
/// returns false. Several processes share the batches of a step.
bool Session::train(TrainableGraph& network) {
  const std::unique_ptr<torch::optim::Optimizer> optimizer = make_optimizer(network.parameters());
  std::optional<MovingAverage> average;
  if (options_.average > 0) average.emplace(network, options_.average);
  TrainingState state{network, optimizer.get(), average ? &*average : nullptr};
  const StopSignal stop;
  start_or_resume(network, state);

  const int64_t steps = options_.epochs * steps_per_epoch();
  while (state.step < steps) {
    optimizer->param_groups()[0].options().set_lr(rate_of(state.step));
    add_gradients(network, state.step);
    group_.average_gradients(network.parameters());
    torch::nn::utils::clip_grad_norm_(network.parameters(), 10);
    optimizer->step();
    optimizer->zero_grad();
    if (average) average->update();
    ++state.step;

    const bool epoch_ends = state.step % steps_per_epoch() == 0;
    if (epoch_ends) end_epoch(network, state.average, state.step / steps_per_epoch());
    const bool leave = group_.any(StopSignal::received() != 0) || state.step == options_.stop_after;
    const bool save = leave || epoch_ends || state.step % options_.checkpoint_every == 0;
    if (save && group_.is_first()) save_checkpoint(checkpoint_file(), state);
    if (leave && state.step < steps) {
      say(fmt::format("stopped after {} of {} steps; --resume goes on from {}", state.step, steps,
                      checkpoint_file().string()));
      return false;
    }
  }
  return true;
}

std::unique_ptr<torch::optim::Optimizer> Session::make_optimizer(const std::vector<at::Tensor>& parameters) const {
  using namespace torch::optim;
  if (options_.optimizer == "adam") {
    return std::make_unique<AdamW>(parameters, AdamWOptions(options_.rate).weight_decay(options_.weight_decay));
  }
  return std::make_unique<SGD>(
      parameters,
      SGDOptions(options_.rate).momentum(options_.momentum).weight_decay(options_.weight_decay).nesterov(true));
}

void Session::start_or_resume(TrainableGraph& network, TrainingState& state) {
  const bool resumes = options_.resume && std::filesystem::exists(checkpoint_file());
  if (group_.is_first()) {
    if (resumes) {
      network.load(best_file());
    } else {
      network.save(best_file());
    }
    best_ = simulated_quality(network, *validation_);
    say(fmt::format("{}: mAP50-95 {}", resumes ? "best so far" : "PTQ for " + options_.chip, best_.text()));
  }
  if (resumes) {
    load_checkpoint(checkpoint_file(), state);
    say(fmt::format("resumed after {} steps", state.step));
  }
  group_.broadcast(network.parameters());
}

int64_t Session::steps_per_epoch() const {
  return (static_cast<int64_t>(training_->batches.size()) + options_.accumulate - 1) / options_.accumulate;
}

/// Half a cosine from the full rate to a hundredth of it.
double Session::rate_of(int64_t step) const {
  const double done = static_cast<double>(step) / static_cast<double>(options_.epochs * steps_per_epoch());
  return options_.rate * (0.01 + 0.99 * 0.5 * (1 + std::cos(std::numbers::pi * done)));
}

/// This process's share of the batches of a step; the group takes the mean.
void Session::add_gradients(TrainableGraph& network, int64_t step) {
  const int64_t epoch = step / steps_per_epoch(), first = step % steps_per_epoch() * options_.accumulate;
  const int64_t last = std::min(first + options_.accumulate, static_cast<int64_t>(training_->batches.size()));
  for (int64_t index = first + group_.rank(); index < last; index += group_.size()) {
    const Batch batch = training_->batches.get(static_cast<size_t>(epoch), static_cast<size_t>(index));
    const at::Tensor loss = loss_of(network, batch);
    (loss * group_.size() / (last - first)).backward();
    loss_sum_ += loss.item<double>();
    ++losses_;
  }
}

at::Tensor Session::loss_of(TrainableGraph& network, const Batch& batch) {
  const at::Tensor images = batch.images.to(group_.device());
  const Tensors maps = network.forward({images});
  const Targets targets = batch.targets.to(group_.device());
  at::Tensor loss = detection_loss(gather_maps(maps, layout_), targets, layout_).total() / images.size(0);
  if (options_.distill > 0) {
    loss = loss + options_.distill * relative_error_loss(maps, float_network_->run(Tensors{images}));
  }
  return loss;
}

/// Keeps the state if it is the best so far on the validation images.
void Session::end_epoch(TrainableGraph& network, MovingAverage* average, int64_t epoch) {
  const double loss = group_.sum(loss_sum_) / group_.sum(losses_);
  loss_sum_ = losses_ = 0;
  if (!group_.is_first()) return;
  if (average) average->exchange();
  const Quality quality = simulated_quality(network, *validation_);
  say(fmt::format("epoch {}: loss {:.4f}, mAP50-95 {}", epoch, loss, quality.text()));
  if (quality.main() > best_.main()) {
    best_ = quality;
    network.save(best_file());
  }
  if (average) average->exchange();
}

// ------------------------------------------------------------------------------------------------ before and after

Quality Session::float_quality(const Examples& examples) {
  const auto run = [&](const at::Tensor& images) { return float_network_->run(Tensors{images.to(group_.device())}); };
  return measure(run, examples.data, examples.batches, layout_);
}

Quality Session::simulated_quality(TrainableGraph& network, const Examples& examples) {
  network.eval();
  const auto run = [&](const at::Tensor& images) { return network.forward({images.to(group_.device())}); };
  const Quality quality = measure(run, examples.data, examples.batches, layout_);
  network.train();
  return quality;
}

/// One process draws, the others read what it drew.
void Session::read_data() {
  const bool drawn = !group_.is_first() && !options_.train.given();
  if (drawn) group_.sum(0);
  data_ = open_data(options_, drawn);
  if (group_.is_first() && !options_.train.given()) group_.sum(0);
  say(fmt::format("{} images to train on, {} to choose the best epoch with, {}", data_.train.images.size(),
                  data_.validation.images.size(),
                  data_.test.images.empty() ? "none of their own to judge it with"
                                            : fmt::format("{} to judge it with", data_.test.images.size())));
}

void Session::open() {
  recipe_ = options_.recipe.empty() ? Recipe() : find_recipe(options_.recipe);
  recipe_.target = options_.chip;
  const Graph network = read_network(options_);
  layout_ = layout_of(network, options_, data_.validation);
  float_graph_ = network.clone();
  move_parameters(float_graph_, group_.device());
  float_network_ = std::make_unique<Executor>(float_graph_, Precision::Float);

  BatchOptions batches;
  batches.width = layout_.width;
  batches.height = layout_.height;
  batches.batch_size = options_.batch_size;
  batches.keep_images = !options_.train.given();
  const auto examples = [&](const CocoDataset& data) {
    return std::unique_ptr<Examples>(new Examples{data, Batches(data, batches)});
  };
  validation_ = examples(data_.validation);
  if (!data_.test.images.empty()) test_ = examples(data_.test);
  if (group_.is_first()) say(fmt::format("float: mAP50-95 {}", float_quality(*validation_).text()));
  calibration_ = make_calibration(Batches(data_.train, batches), options_.calibration_images);
  quantized_ = convert(network, calibration_, recipe_).quantized;
  batches.shuffle = true;
  batches.augment = options_.augment;
  batches.augmentation.scale = options_.augment_scale;
  batches.seed = options_.seed;
  training_ = examples(data_.train);
}

void Session::finish(TrainableGraph& network) {
  network.load(best_file());
  const Conversion made = espq::finish(network.graph(), calibration_, recipe_);
  const std::filesystem::path file = options_.output / (options_.network.stem().string() + ".espdl");
  write_verified(made, validation_->batches.get(0, 0).images.slice(0, 0, 1), file);
  say(fmt::format("{}: {} bytes, verified", file.string(), std::filesystem::file_size(file)));
  print_table(network, made.chip);
}

/// The numbers that count: of images that decided nothing, if there are such.
void Session::print_table(TrainableGraph& network, const Graph& chip) {
  const Examples& examples = test_ ? *test_ : *validation_;
  std::cout << fmt::format("\nmAP50-95 on {} {}\n", examples.data.images.size(),
                           test_ ? "test images, which decided nothing"
                                 : "validation images; they also chose the epoch, which flatters QAT");
  const auto row = [](const char* name, const Quality& quality, const char* note = "") {
    std::cout << fmt::format("  {:<6}{}{}", name, quality.text(), note) << std::endl;
    return quality.main();
  };
  TrainableGraph untrained(quantized_, train_options());
  const double in_float = row("float", float_quality(examples));
  const double before = row("PTQ", simulated_quality(untrained, examples));
  const double after = row("QAT", simulated_quality(network, examples));
  if (options_.board) {
    Executor board(chip, Precision::Board);
    row("board",
        measure([&](const at::Tensor& images) { return run_in_float_layout(board, chip, {images}); }, examples.data,
                examples.batches, layout_),
        " (the written file)");
  }
  if (in_float > before) {
    std::cout << fmt::format("QAT recovers {:.0f} % of the {:.4f} that PTQ lost\n",
                             100 * (after - before) / (in_float - before), in_float - before);
  }
  say("done");
}

int Session::run() {
  std::filesystem::create_directories(options_.output);
  read_data();
  if (options_.draw_only) return 0;
  open();
  TrainableGraph network(quantized_, train_options());
  if (!train(network)) return kStopped;
  if (!group_.is_first()) return 0;
  network.save(options_.output / "last.state");
  finish(network);
  return 0;
}

}  // namespace

int run_yolo_qat(int argc, char** argv, bool pose) {
  const std::string name = pose ? "yolo_pose_qat" : "yolo_qat";
  YoloOptions options;
  options.pose = pose;
  options.network = pose ? ESPQ_YOLO_POSE_NETWORK : ESPQ_YOLO_NETWORK;
  options.output = "out/" + name;
  if (const std::optional<int> code = parse_options(options, argc, argv)) return *code;
  spdlog::set_level(spdlog::level::warn);
  if (options.threads > 0) at::set_num_threads(options.threads);
  torch::manual_seed(static_cast<int64_t>(options.seed));
  try {
    check_options(options);
    if (options.processes > 1 && !is_worker()) return run_workers(options.processes, argv);
    return Session(options).run();
  } catch (const std::filesystem::filesystem_error& error) {
    std::cerr << name << ": error: " << error.what() << "\n";
    return 1;
  } catch (const UserError& error) {
    std::cerr << name << ": error: " << error.what() << "\n";
    return 1;
  }
}

}  // namespace espq::samples
