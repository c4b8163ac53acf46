#include "samples/yolo.h"

#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>

#include "core/quant/fake_quantize.h"
#include "core/support/error.h"
#include "export/conversion/recipe.h"
#include "export/conversion/test_values.h"
#include "export/conversion/verify.h"
#include "export/export.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline.h"
#include "passes/simplify/remove_dead_code.h"
#include "qat/detection/batches.h"
#include "qat/detection/shapes.h"
#include "qat/distillation.h"
#include "qat/trainable_graph.h"
#include "qat/training.h"
#include "qat/worker_group.h"
#include "torch_frontend/torch_frontend.h"

namespace espq::samples {
namespace {

using namespace detection;

/// A COCO data set: an annotation file and the folder of its images.
struct DataFolder {
  std::filesystem::path annotations, images;
  bool given() const { return !annotations.empty(); }
};

struct Options {
  std::filesystem::path network, recipe, output;
  std::string input = "images";
  std::vector<std::string> outputs;
  DataFolder train, validation;
  std::string chip = "esp32s3";
  int64_t size = 0, keypoint_values = 3;
  int64_t drawn_images = 1200, calibration_images = 64;
  int64_t epochs = 6, batch_size = 16, accumulate = 1;
  double rate = 1e-3, momentum = 0.9, weight_decay = 5e-4;
  double distill = 0, average = 0;
  int64_t checkpoint_every = 500, stop_after = 0;
  LossOptions loss = {};
  bool augment = false, draw_only = false, pose = false, resume = false, board = true;
  uint64_t seed = 1234;
  int threads = 0, processes = 1;
};

// ------------------------------------------------------------------------------------------------ network

Graph read_network(const Options& options) {
  const std::string ending = options.network.extension().string();
  const Shape shape{1, 3, options.size, options.size};
  Graph graph;
  if (ending == ".onnx") {
    OnnxImportOptions import;
    if (options.size > 0) import.input_shapes[options.input] = shape;
    graph = import_onnx(options.network, import);
  } else {
    user_check(ending == ".pt" || ending == ".pt2", "{}: expected an .onnx, .pt or .pt2 file",
               options.network.string());
    TorchImportOptions import;
    if (options.size > 0) import.input_shapes[options.input] = shape;
    graph = import_torch(options.network, import);
  }
  if (!options.outputs.empty()) {
    graph.outputs.clear();
    for (const std::string& name : options.outputs) {
      Variable* variable = graph.find_variable(name);
      user_check(variable != nullptr, "{}: has no tensor '{}'", options.network.string(), name);
      graph.outputs.push_back(variable);
    }
    remove_dead_code(graph);
  }
  const std::optional<Shape> input = graph.inputs.size() == 1 ? graph.inputs[0]->shape : std::nullopt;
  user_check(input && input->size() == 4 && (*input)[1] == 3,
             "{}: expected a network with one input [1, 3, height, width]", options.network.string());
  infer_shapes(graph, zero_inputs(graph));
  return graph;
}

HeadLayout layout_of(const Graph& graph, const Options& options, const CocoDataset& data) {
  std::vector<std::vector<int64_t>> shapes;
  for (const Variable* map : graph.outputs) shapes.push_back(*map->shape);
  const Shape& input = *graph.inputs[0]->shape;
  const HeadLayout layout = head_layout(shapes, input[3], input[2], options.pose, options.keypoint_values);
  user_check(layout.classes == std::ssize(data.categories), "{}: has {} classes, the annotations have {} categories",
             options.network.string(), layout.classes, data.categories.size());
  user_check(!options.pose || layout.keypoints == std::ssize(data.keypoint_names()),
             "{}: has {} keypoints, the annotations have {}", options.network.string(), layout.keypoints,
             data.keypoint_names().size());
  return layout;
}

// ------------------------------------------------------------------------------------------------ evaluation

using Network = std::function<Tensors(const at::Tensor& images)>;

/// mAP50-95 of boxes and, for poses, of keypoints.
struct Quality {
  double boxes = 0, keypoints = 0;
  bool pose = false;
  double main() const { return pose ? keypoints : boxes; }
  std::string text() const {
    return pose ? fmt::format("keypoints {:.4f}, boxes {:.4f}", keypoints, boxes) : fmt::format("{:.4f}", boxes);
  }
};

Quality measure(const Network& network, const Batches& batches, const CocoDataset& data, const HeadLayout& layout) {
  torch::NoGradGuard no_gradients;
  std::vector<CocoDetection> found;
  for (size_t index = 0; index < batches.size(); ++index) {
    const Batch batch = batches.get(0, index);
    for (CocoDetection& detection : to_original(detect(network(batch.images), layout), batch, data)) {
      found.push_back(std::move(detection));
    }
  }
  Quality quality;
  quality.pose = layout.keypoints > 0;
  quality.boxes = box_precision(data, found).map;
  if (quality.pose) quality.keypoints = keypoint_precision(data, found, default_sigmas(layout.keypoints)).map;
  return quality;
}

/// The chip's answers as maps [N, channels, height, width] of real numbers; one image at a time, as the chip works.
Tensors run_on_board(Executor& executor, const Graph& chip, const at::Tensor& images) {
  std::vector<Tensors> maps(chip.outputs.size());
  for (int64_t image = 0; image < images.size(0); ++image) {
    const Tensors codes = executor.run({to_chip_layout(*chip.inputs[0], images.slice(0, image, image + 1))});
    for (size_t i = 0; i < codes.size(); ++i) {
      const Variable& output = *chip.outputs[i];
      at::Tensor map = dequantize(codes[i].to(at::kFloat), output.storage->exponents, -1);
      if (!output.permutation.empty()) {  // back to the order of the float network
        std::vector<int64_t> back(output.permutation.size());
        for (size_t dim = 0; dim < back.size(); ++dim) back[size_t(output.permutation[dim])] = int64_t(dim);
        map = map.permute(back);
      }
      maps[i].push_back(map);
    }
  }
  Tensors result;
  for (const Tensors& parts : maps) result.push_back(at::cat(parts));
  return result;
}

// ------------------------------------------------------------------------------------------------ files

void write_espdl(const Graph& chip, const Graph& quantized, const at::Tensor& image, const Recipe& recipe,
                 const std::filesystem::path& file) {
  ExportOptions options;
  options.recipe_text = recipe_text(recipe);
  export_espdl(chip, record_test_values(chip, {{quantized.inputs[0]->name(), image}}), file, options);
  require_verified(file, find_target(recipe.quantize.target));
}

CocoDataset open_data(const DataFolder& folder, const Options& options, const char* name, int64_t images,
                      uint64_t seed) {
  if (folder.given()) return read_coco(folder.annotations, folder.images);
  ShapesOptions shapes;
  shapes.kind = options.pose ? ShapeKind::Figures : ShapeKind::Shapes;
  shapes.images = images;
  shapes.seed = seed;
  return write_shapes(options.output / name, shapes);
}

Dataset make_calibration(const Batches& batches, int64_t images) {
  std::vector<Dataset::Batch> result;
  for (size_t index = 0; index < batches.size() && images > 0; ++index) {
    const at::Tensor batch = batches.get(0, index).images.slice(0, 0, images);
    images -= batch.size(0);
    result.push_back({{"", batch}});
  }
  return Dataset(std::move(result));
}

// ------------------------------------------------------------------------------------------------ training

class Clock {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Everything around the loop: data, float network, quantized network, what was found out so far.
class Session {
 public:
  explicit Session(const Options& options)
      : options_(options), group_(WorkerGroup::join(std::chrono::hours(2))) {}  // evaluations may take long
  /// Returns the exit code.
  int run();

 private:
  void say(const std::string& text) const {
    if (group_.is_first()) std::cout << fmt::format("[{:6.1f} s] {}", clock_.seconds(), text) << std::endl;
  }
  Quality quality_of(const Network& network) const { return measure(network, *validation_, validation_data_, layout_); }
  Quality simulated_quality(TrainableGraph& network) const {
    network.eval();
    const Quality quality = quality_of([&](const at::Tensor& images) { return network.forward({images}); });
    network.train();
    return quality;
  }
  void open();
  bool train(TrainableGraph& network);
  at::Tensor loss_of(TrainableGraph& network, const Batch& batch);
  void keep_if_best(TrainableGraph& network, int64_t epoch, double loss);
  void finish(TrainableGraph& network);
  std::filesystem::path best_file() const { return options_.output / "best.state"; }

  void read_data();
  Options options_;
  WorkerGroup group_;
  Clock clock_;
  Recipe recipe_;
  CocoDataset train_data_, validation_data_;
  Graph graph_, float_graph_;
  HeadLayout layout_;
  std::unique_ptr<Batches> training_, validation_;
  std::unique_ptr<Executor> float_network_;
  Quality float_, ptq_, best_;
};

void Session::open() {
  recipe_ = options_.recipe.empty() ? Recipe() : read_recipe(options_.recipe);
  recipe_.quantize.target = options_.chip;
  graph_ = read_network(options_);
  layout_ = layout_of(graph_, options_, validation_data_);
  float_graph_ = graph_.clone();
  float_network_ = std::make_unique<Executor>(float_graph_, Precision::Float);

  BatchOptions batches;
  batches.width = layout_.width;
  batches.height = layout_.height;
  batches.batch_size = options_.batch_size;
  batches.keep_images = !options_.train.given();
  validation_ = std::make_unique<Batches>(validation_data_, batches);
  if (group_.is_first()) {
    float_ = quality_of([&](const at::Tensor& images) { return float_network_->run({images}); });
    say(fmt::format("float: mAP50-95 {}", float_.text()));
  }

  quantize(graph_, make_calibration(Batches(train_data_, batches), options_.calibration_images), recipe_.quantize);
  batches.shuffle = true;
  batches.augment = options_.augment;
  batches.seed = options_.seed;
  training_ = std::make_unique<Batches>(train_data_, batches);
}

at::Tensor Session::loss_of(TrainableGraph& network, const Batch& batch) {
  const Tensors maps = network.forward({batch.images});
  at::Tensor loss =
      detection_loss(gather_maps(maps, layout_), batch.targets, layout_, options_.loss).total() / batch.images.size(0);
  if (options_.distill > 0) {
    loss = loss + options_.distill * relative_error_loss(maps, float_network_->run({batch.images}));
  }
  return loss;
}

void Session::keep_if_best(TrainableGraph& network, int64_t epoch, double loss) {
  const Quality quality = simulated_quality(network);
  say(fmt::format("epoch {}: loss {:.4f}, mAP50-95 {}", epoch, loss, quality.text()));
  if (quality.main() <= best_.main()) return;
  best_ = quality;
  network.save(best_file());
}

/// An ordinary LibTorch loop. Interrupted, it leaves a checkpoint that --resume goes on from, with the same result, and
/// returns false. Several processes share the batches of a step.
bool Session::train(TrainableGraph& network) {
  torch::optim::SGD optimizer(network.parameters(), torch::optim::SGDOptions(options_.rate)
                                                        .momentum(options_.momentum)
                                                        .weight_decay(options_.weight_decay)
                                                        .nesterov(true));
  std::optional<MovingAverage> average;
  if (options_.average > 0) average.emplace(network, options_.average);
  TrainingState state{network, &optimizer, average ? &*average : nullptr};
  const std::filesystem::path checkpoint = options_.output / "checkpoint.state";
  best_ = ptq_;
  if (options_.resume && std::filesystem::exists(checkpoint)) {
    if (group_.is_first()) {
      network.load(best_file());
      best_ = simulated_quality(network);
    }
    load_checkpoint(checkpoint, state);
    say(fmt::format("resumed after {} steps", state.step));
  } else if (group_.is_first()) {
    network.save(best_file());
  }
  group_.broadcast(network.parameters());

  const StopSignal stop;
  const auto accumulate = options_.accumulate;
  const int64_t per_epoch = (static_cast<int64_t>(training_->size()) + accumulate - 1) / accumulate;
  const int64_t steps = options_.epochs * per_epoch;
  double loss_sum = 0;
  int64_t losses = 0;
  while (state.step < steps) {
    // Half a cosine from the full rate to a hundredth of it.
    const double done = static_cast<double>(state.step) / static_cast<double>(steps);
    const double rate = options_.rate * (0.01 + 0.99 * 0.5 * (1 + std::cos(std::numbers::pi * done)));
    static_cast<torch::optim::SGDOptions&>(optimizer.param_groups()[0].options()).lr(rate);
    const int64_t epoch = state.step / per_epoch, first = state.step % per_epoch * accumulate;
    const int64_t last = std::min(first + accumulate, static_cast<int64_t>(training_->size()));
    for (int64_t index = first + group_.rank(); index < last; index += group_.size()) {
      const Batch batch = training_->get(static_cast<size_t>(epoch), static_cast<size_t>(index));
      const at::Tensor loss = loss_of(network, batch);
      (loss * group_.size() / (last - first)).backward();  // the group takes the mean
      loss_sum += loss.item<double>();
      ++losses;
    }
    group_.average_gradients(network.parameters());
    torch::nn::utils::clip_grad_norm_(network.parameters(), 10);
    optimizer.step();
    optimizer.zero_grad();
    if (average) average->update();
    ++state.step;
    const bool leave = group_.any(StopSignal::received() != 0) || state.step == options_.stop_after;
    const bool epoch_ends = state.step % per_epoch == 0;
    const double mean_loss = epoch_ends ? group_.sum(loss_sum) / group_.sum(static_cast<double>(losses)) : 0;
    if (epoch_ends && group_.is_first()) {
      if (average) average->exchange();
      keep_if_best(network, epoch + 1, mean_loss);
      if (average) average->exchange();
    }
    if (epoch_ends) loss_sum = 0, losses = 0;
    const bool save = leave || epoch_ends || state.step % options_.checkpoint_every == 0;
    if (save && group_.is_first()) save_checkpoint(checkpoint, state);
    if (leave && state.step < steps) {
      say(fmt::format("stopped after {} of {} steps; --resume goes on from {}", state.step, steps,
                      checkpoint.string()));
      return false;
    }
  }
  return true;
}

void Session::finish(TrainableGraph& network) {
  network.load(best_file());
  const Graph trained = network.graph();
  const Graph chip = lower(trained, recipe_.lowering);
  const std::filesystem::path file = options_.output / (options_.network.stem().string() + ".espdl");
  write_espdl(chip, trained, validation_->get(0, 0).images.slice(0, 0, 1), recipe_, file);
  say(fmt::format("{}: {} bytes, verified", file.string(), std::filesystem::file_size(file)));
  std::cout << fmt::format("\nmAP50-95 on {} images\n  float {}\n  PTQ   {}\n  QAT   {}\n",
                           validation_data_.images.size(), float_.text(), ptq_.text(), best_.text());
  if (options_.board) {
    Executor board(chip, Precision::Board);
    const Quality quality = quality_of([&](const at::Tensor& images) { return run_on_board(board, chip, images); });
    std::cout << fmt::format("  board {} (the written file)\n", quality.text());
  }
  const double lost = float_.main() - ptq_.main();
  if (lost <= 0) return;
  std::cout << fmt::format("QAT recovers {:.0f} % of the {:.4f} that PTQ lost\n",
                           100 * (best_.main() - ptq_.main()) / lost, lost);
}

/// One process draws, the others read what it drew.
void Session::read_data() {
  const bool waits = !group_.is_first() && !options_.train.given();
  if (waits) group_.sum(0);
  const auto open_one = [&](const DataFolder& folder, const char* name, int64_t images, uint64_t seed) {
    const std::filesystem::path drawn = options_.output / name;
    if (waits) return read_coco(drawn / "annotations.json", drawn / "images");
    return open_data(folder, options_, name, images, seed);
  };
  train_data_ = open_one(options_.train, "train", options_.drawn_images, 1);
  validation_data_ = open_one(options_.validation, "validation", std::max<int64_t>(options_.drawn_images / 3, 1), 2);
  if (group_.is_first() && !options_.train.given()) group_.sum(0);
}

int Session::run() {
  constexpr int kStopped = 3;
  read_data();
  say(fmt::format("{} images to train on, {} to judge with", train_data_.images.size(),
                  validation_data_.images.size()));
  if (options_.draw_only) return 0;
  open();
  std::filesystem::create_directories(options_.output);
  TrainableGraph network(graph_);
  if (group_.is_first()) ptq_ = simulated_quality(network);
  say(fmt::format("PTQ for {}: mAP50-95 {}", options_.chip, ptq_.text()));
  if (!train(network)) return kStopped;
  if (!group_.is_first()) return 0;
  network.save(options_.output / "last.state");
  finish(network);
  return 0;
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--network", options.network,
                 "Float network (.onnx, .pt, .pt2): raw maps of its head, or see --outputs")
      ->check(CLI::ExistingFile);
  app.add_option("--outputs", options.outputs,
                 "Cut the network at these tensors: box0 class0 box1 class1 ... [keypoints0 ...]");
  app.add_option("--size", options.size, "Width and height of the input, where the file leaves them open");
  app.add_option("--input", options.input, "Name of the input that --size is for")->capture_default_str();
  app.add_option("--keypoint-values", options.keypoint_values, "Values per keypoint: 2, or 3 with visibility")
      ->check(CLI::IsMember({2, 3}));
  app.add_option("--train-annotations", options.train.annotations, "COCO JSON; without it a data set is drawn");
  app.add_option("--train-images", options.train.images, "Folder of the training images");
  app.add_option("--val-annotations", options.validation.annotations, "COCO JSON of the validation images");
  app.add_option("--val-images", options.validation.images, "Folder of the validation images");
  app.add_option("--drawn-images", options.drawn_images, "Training images of the drawn data set; a third more to judge")
      ->capture_default_str();
  app.add_flag("--draw-only", options.draw_only, "Write the drawn data set and stop");
  app.add_option("--target", options.chip, "The chip")->capture_default_str();
  app.add_option("--recipe", options.recipe, "Quantization recipe (JSON)");
  app.add_option("--calibration-images", options.calibration_images, "Images to calibrate with")->capture_default_str();
  app.add_option("--epochs", options.epochs, "Passes over the training images")->capture_default_str();
  app.add_option("--batch", options.batch_size, "Images per batch")->capture_default_str();
  app.add_option("--accumulate", options.accumulate, "Batches per step of the optimizer")->capture_default_str();
  app.add_option("--rate", options.rate, "Learning rate at the start")->capture_default_str();
  app.add_option("--momentum", options.momentum)->capture_default_str();
  app.add_option("--weight-decay", options.weight_decay)->capture_default_str();
  app.add_option("--distill", options.distill, "Weight of the difference to the float network's maps in the loss");
  app.add_option("--average", options.average, "Decay of the weights' moving average, e.g. 0.999; 0 = none")
      ->check(CLI::Range(0.0, 1.0));
  app.add_flag("--resume", options.resume, "Go on from the checkpoint in --out, if there is one");
  app.add_option("--checkpoint-every", options.checkpoint_every,
                 "Steps between checkpoints; every epoch writes one, too")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--stop-after", options.stop_after, "Leave with a checkpoint after so many steps");
  app.add_flag("--board,!--no-board", options.board, "Judge the written file in Board precision, too (the default)");
  app.add_flag("--augment", options.augment, "Mirror, move, scale and color training images at random");
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--nproc", options.processes, "Processes that share the batches of every step (--accumulate)")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads, "Threads of LibTorch; 0 = all cores");
  app.add_option("--out", options.output, "Folder for what is written")->capture_default_str();
}

}  // namespace

int run_yolo_qat(int argc, char** argv, bool pose) {
  const std::string name = pose ? "yolo_pose_qat" : "yolo_qat";
  Options options;
  options.pose = pose;
  options.network = pose ? ESPQ_YOLO_POSE_NETWORK : ESPQ_YOLO_NETWORK;
  options.output = "out/" + name;
  CLI::App app{
      "Quantization-aware fine-tuning of a YOLO11 network: prints mAP50-95 of float, PTQ and QAT, writes .espdl"};
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::warn);
  if (options.threads > 0) at::set_num_threads(options.threads);
  torch::manual_seed(static_cast<int64_t>(options.seed));
  try {
    user_check(options.train.given() == options.validation.given(),
               "give annotations to train on and to validate with, or neither");
    options.accumulate = std::max<int64_t>(options.accumulate, options.processes);
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
