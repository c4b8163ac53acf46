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
#include "export/espdl/reader.h"
#include "export/export.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline.h"
#include "passes/simplify/remove_dead_code.h"
#include "qat/detection/batches.h"
#include "qat/detection/shapes.h"
#include "qat/trainable_graph.h"
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
  std::vector<std::string> outputs;
  DataFolder train, validation;
  std::string chip = "esp32s3";
  int64_t size = 0, keypoint_values = 3;
  int64_t drawn_images = 1200, calibration_images = 64;
  int64_t epochs = 6, batch_size = 16, accumulate = 1;
  double rate = 1e-3, momentum = 0.9, weight_decay = 5e-4;
  bool augment = false, draw_only = false, pose = false;
  uint64_t seed = 1234;
  int threads = 0;
};

// ------------------------------------------------------------------------------------------------ network

Graph read_network(const Options& options) {
  const std::string ending = options.network.extension().string();
  const Shape shape{1, 3, options.size, options.size};
  Graph graph;
  if (ending == ".onnx") {
    OnnxImportOptions import;
    if (options.size > 0) import.input_shapes["images"] = shape;
    graph = import_onnx(options.network, import);
  } else {
    user_check(ending == ".pt" || ending == ".pt2", "{}: expected an .onnx, .pt or .pt2 file",
               options.network.string());
    TorchImportOptions import;
    if (options.size > 0) import.input_shapes["images"] = shape;
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
  return graph;
}

/// Exported networks write the batch of 1 into the shapes of their Reshapes. A 0 there means "as the input", so that
/// batches of any size pass; `from` 0 `to` 1 brings back what was exported.
void set_batch_of_reshapes(Graph& graph, int64_t from, int64_t to) {
  for (Operation* operation : graph.operations()) {
    if (operation->type != "Reshape" || !operation->input(1)->is_parameter()) continue;
    at::Tensor& shape = operation->input(1)->value;
    if (shape.numel() == 0 || shape[0].item<int64_t>() != from) continue;
    shape = shape.clone();
    shape[0] = to;
  }
}

HeadLayout layout_of(const Graph& graph, const Options& options, const CocoDataset& data) {
  std::vector<std::vector<int64_t>> shapes;
  for (const at::Tensor& map : Executor(graph, Precision::Float).run(zero_inputs(graph))) {
    shapes.push_back(map.sizes().vec());
  }
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
  for (const OutputCheck& check : verify_model(read_espdl_file(file), find_target(recipe.quantize.target))) {
    user_check(check.equal(), "{}: the recorded output '{}' is not what Board precision computes", file.string(),
               check.name);
  }
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

/// One pass over the training images: an ordinary LibTorch loop. Returns the mean loss per image.
double train_epoch(TrainableGraph& network, torch::optim::SGD& optimizer, const Batches& batches, size_t epoch,
                   const HeadLayout& layout, const Options& options) {
  double sum = 0, images = 0;
  int64_t collected = 0;  // batches since the last step
  for (size_t index = 0; index < batches.size(); ++index) {
    // Half a cosine from the full rate to a hundredth of it.
    const double done = (double(epoch) + double(index) / double(batches.size())) / double(options.epochs);
    const double rate = options.rate * (0.01 + 0.99 * 0.5 * (1 + std::cos(std::numbers::pi * done)));
    static_cast<torch::optim::SGDOptions&>(optimizer.param_groups()[0].options()).lr(rate);
    const Batch batch = batches.get(epoch, index);
    const Tensors maps = network.forward({batch.images});
    const at::Tensor loss = detection_loss(gather_maps(maps, layout), batch.targets, layout).total();
    const double count = double(batch.images.size(0));
    (loss / (count * double(options.accumulate))).backward();
    sum += loss.item<double>();
    images += count;
    if (++collected == options.accumulate || index + 1 == batches.size()) {
      torch::nn::utils::clip_grad_norm_(network.parameters(), 10);
      optimizer.step();
      optimizer.zero_grad();
      collected = 0;
    }
  }
  return sum / images;
}

class Clock {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void run(const Options& options) {
  const Clock clock;
  const auto say = [&](const std::string& text) {
    std::cout << fmt::format("[{:6.1f} s] {}", clock.seconds(), text) << std::endl;
  };
  const CocoDataset train_data = open_data(options.train, options, "train", options.drawn_images, 1);
  const CocoDataset validation_data =
      open_data(options.validation, options, "validation", std::max<int64_t>(options.drawn_images / 3, 1), 2);
  say(fmt::format("{} images to train on, {} to judge with", train_data.images.size(), validation_data.images.size()));
  if (options.draw_only) return;

  Recipe recipe = options.recipe.empty() ? Recipe() : read_recipe(options.recipe);
  recipe.quantize.target = options.chip;
  Graph graph = read_network(options);
  const HeadLayout layout = layout_of(graph, options, validation_data);
  BatchOptions batch_options;
  batch_options.width = layout.width;
  batch_options.height = layout.height;
  batch_options.batch_size = options.batch_size;
  batch_options.keep_images = !options.train.given();
  const Batches validation(validation_data, batch_options), calibration(train_data, batch_options);
  batch_options.shuffle = true;
  batch_options.augment = options.augment;
  batch_options.seed = options.seed;
  const Batches training(train_data, batch_options);
  const auto quality_of = [&](const Network& network) { return measure(network, validation, validation_data, layout); };

  set_batch_of_reshapes(graph, 1, 0);
  Executor float_network(graph, Precision::Float);
  const Quality float_quality = quality_of([&](const at::Tensor& images) { return float_network.run({images}); });
  say(fmt::format("float: mAP50-95 {}", float_quality.text()));

  quantize(graph, make_calibration(calibration, options.calibration_images), recipe.quantize);
  TrainableGraph network(graph);
  const auto simulate = [&](const at::Tensor& images) { return network.forward({images}); };
  network.eval();
  const Quality ptq = quality_of(simulate);
  say(fmt::format("PTQ for {}: mAP50-95 {}", options.chip, ptq.text()));

  torch::optim::SGD optimizer(network.parameters(), torch::optim::SGDOptions(options.rate)
                                                        .momentum(options.momentum)
                                                        .weight_decay(options.weight_decay)
                                                        .nesterov(true));
  Quality best = ptq;
  NamedTensors best_state = network.state();
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    network.train();
    const double loss = train_epoch(network, optimizer, training, size_t(epoch), layout, options);
    network.eval();
    const Quality quality = quality_of(simulate);
    say(fmt::format("epoch {}: loss {:.4f}, mAP50-95 {}", epoch + 1, loss, quality.text()));
    if (quality.main() <= best.main()) continue;
    best = quality;
    best_state = network.state();
  }

  network.load_state(best_state);
  Graph trained = network.graph();
  set_batch_of_reshapes(trained, 0, 1);
  const Graph chip = lower(trained, recipe.lowering);
  const std::filesystem::path file = options.output / (options.network.stem().string() + ".espdl");
  write_espdl(chip, trained, validation.get(0, 0).images.slice(0, 0, 1), recipe, file);
  say(fmt::format("{}: {} bytes, verified", file.string(), std::filesystem::file_size(file)));
  Executor board(chip, Precision::Board);
  const Quality board_quality = quality_of([&](const at::Tensor& images) { return run_on_board(board, chip, images); });

  std::cout << fmt::format(
      "\nmAP50-95 on {} images\n  float {}\n  PTQ   {}\n  QAT   {}\n  board {} (the written file)\n",
      validation_data.images.size(), float_quality.text(), ptq.text(), best.text(), board_quality.text());
  const double lost = float_quality.main() - ptq.main();
  if (lost > 0)
    std::cout << fmt::format("QAT recovers {:.0f} % of the {:.4f} that PTQ lost\n",
                             100 * (best.main() - ptq.main()) / lost, lost);
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--network", options.network,
                 "Float network (.onnx, .pt, .pt2): raw maps of its head, or see --outputs")
      ->check(CLI::ExistingFile);
  app.add_option("--outputs", options.outputs,
                 "Cut the network at these tensors: box0 class0 box1 class1 ... [keypoints0 ...]");
  app.add_option("--size", options.size, "Width and height of the input, where the file leaves them open");
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
  app.add_flag("--augment", options.augment, "Mirror, move, scale and color training images at random");
  app.add_option("--seed", options.seed)->capture_default_str();
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
    run(options);
  } catch (const UserError& error) {
    std::cerr << name << ": error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace espq::samples
