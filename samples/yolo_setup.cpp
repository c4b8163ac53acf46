#include "samples/yolo_setup.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <CLI/CLI.hpp>

#include "core/support/error.h"
#include "export/conversion/verify.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/write.h"
#include "passes/simplify/remove_dead_code.h"
#include "qat/detection/shapes.h"
#include "torch_frontend/torch_frontend.h"

namespace espq::samples {

using namespace detection;

// ------------------------------------------------------------------------------------------------ options
namespace {

void add_options(CLI::App& app, YoloOptions& options) {
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
  app.add_option("--test-annotations", options.test.annotations,
                 "COCO JSON of images that decide nothing: the final numbers are theirs");
  app.add_option("--test-images", options.test.images, "Folder of the test images");
  app.add_option("--drawn-images", options.drawn_images,
                 "Training images of the drawn data set; a third as many validate (at most 400), twice these test")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--draw-only", options.draw_only, "Write the drawn data set and stop");
  app.add_option("--target", options.chip, "The chip")->capture_default_str();
  app.add_option("--recipe", options.recipe, "Quantization recipe: a name or a JSON file");
  app.add_option("--calibration-images", options.calibration_images, "Images to calibrate with")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--epochs", options.epochs, "Passes over the training images")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--batch", options.batch_size, "Images per batch")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--accumulate", options.accumulate, "Batches per step of the optimizer")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--rate", options.rate, "Learning rate at the start")->capture_default_str();
  app.add_option("--optimizer", options.optimizer, "sgd (with Nesterov momentum) or adam (AdamW)")
      ->capture_default_str()
      ->check(CLI::IsMember({"sgd", "adam"}));
  app.add_option("--momentum", options.momentum, "Of sgd")->capture_default_str();
  app.add_option("--weight-decay", options.weight_decay)->capture_default_str();
  app.add_option("--distill", options.distill, "Weight of the difference to the float network's maps in the loss")
      ->capture_default_str();
  app.add_option("--average", options.average, "Decay of the weights' moving average; 0 = none")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.99999));
  app.add_flag("--resume", options.resume, "Go on from the checkpoint in --out, if there is one");
  app.add_option("--checkpoint-every", options.checkpoint_every,
                 "Steps between checkpoints; every epoch writes one, too")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--stop-after", options.stop_after, "Leave with a checkpoint after so many steps");
  app.add_flag("--board,!--no-board", options.board, "Judge the written file in Board precision, too (the default)");
  app.add_flag("--augment", options.augment, "Mirror, move, scale and color training images at random");
  app.add_option("--augment-scale", options.augment_scale, "Largest relative change of their size by --augment")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.9));
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--nproc", options.processes, "Processes that share the batches of every step (--accumulate)")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--device", options.device,
                 "Where to train: cpu, cuda (each process on a device of its own, as far as there are), cuda:1 ...")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads of LibTorch; 0 = all cores");
  app.add_option("--out", options.output, "Folder for what is written")->capture_default_str();
}

}  // namespace

std::optional<int> parse_options(YoloOptions& options, int argc, char** argv) {
  CLI::App app{
      "Quantization-aware fine-tuning of a YOLO11 network: prints mAP50-95 of float, PTQ and QAT, writes .espdl"};
  add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  options.accumulate = std::max<int64_t>(options.accumulate, options.processes);
  return std::nullopt;
}

void check_options(const YoloOptions& options) {
  user_check(options.train.given() == options.validation.given(),
             "give annotations to train on and to validate with, or neither");
  user_check(options.train.given() || !options.test.given(),
             "--test-annotations needs --train-annotations and --val-annotations: a drawn data set has test images");
}

GroupOptions group_options(const YoloOptions& options) {
  GroupOptions group{.timeout = std::chrono::hours(2)};  // evaluations may take long
  try {
    group.device = at::Device(options.device);
  } catch (const c10::Error&) {
    user_error("--device {}: give cpu, cuda or cuda:NUMBER", options.device);
  }
  return group;
}

// ------------------------------------------------------------------------------------------------ network
Graph read_network(const YoloOptions& options) {
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
    graph.set_outputs({});
    for (const std::string& name : options.outputs) {
      Variable* variable = graph.find_variable(name);
      user_check(variable != nullptr, "{}: has no tensor '{}'", options.network.string(), name);
      graph.add_output(*variable);
    }
    remove_dead_code(graph);
  }
  const std::optional<Shape> input = graph.inputs().size() == 1 ? graph.inputs()[0]->shape() : std::nullopt;
  user_check(input && input->size() == 4 && (*input)[1] == 3,
             "{}: expected a network with one input [1, 3, height, width]", options.network.string());
  infer_shapes(graph, zero_inputs(graph));
  return graph;
}

HeadLayout layout_of(const Graph& graph, const YoloOptions& options, const CocoDataset& data) {
  std::vector<std::vector<int64_t>> shapes;
  for (const Variable* map : graph.outputs()) shapes.push_back(*map->shape());
  const Shape& input = *graph.inputs()[0]->shape();
  HeadLayout layout = head_layout(shapes, input[3], input[2], options.pose, options.keypoint_values);
  user_check(layout.classes == std::ssize(data.categories), "{}: has {} classes, the annotations have {} categories",
             options.network.string(), layout.classes, data.categories.size());
  user_check(!options.pose || layout.keypoints == std::ssize(data.keypoint_names()),
             "{}: has {} keypoints, the annotations have {}", options.network.string(), layout.keypoints,
             data.keypoint_names().size());
  return layout;
}

// ------------------------------------------------------------------------------------------------ data
namespace {

CocoDataset draw(const YoloOptions& options, const std::filesystem::path& folder, int64_t images, uint64_t seed) {
  ShapesOptions shapes;
  shapes.kind = options.pose ? ShapeKind::Figures : ShapeKind::Shapes;
  shapes.images = images;
  shapes.seed = seed;
  return write_shapes(folder, shapes);
}

}  // namespace

YoloData open_data(const YoloOptions& options, bool drawn) {
  if (options.train.given()) {
    const auto read = [](const DataFolder& folder) { return read_coco(folder.annotations, folder.images); };
    return {read(options.train), read(options.validation), options.test.given() ? read(options.test) : CocoDataset()};
  }
  const auto open = [&](const char* name, int64_t images, uint64_t seed) {
    const std::filesystem::path folder = options.output / name;
    return drawn ? read_coco(folder / "annotations.json", folder / "images") : draw(options, folder, images, seed);
  };
  const int64_t images = options.drawn_images, third = std::clamp<int64_t>(images / 3, 1, 400);
  return {open("train", images, 1), open("validation", third, 2), open("test", 2 * third, 3)};
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

// ------------------------------------------------------------------------------------------------ numbers
std::string Quality::text() const {
  return pose ? fmt::format("keypoints {:.4f}, boxes {:.4f}", keypoints, boxes) : fmt::format("{:.4f}", boxes);
}

Quality measure(const MapNetwork& network, const CocoDataset& data, const Batches& batches, const HeadLayout& layout) {
  const c10::AutoGradMode no_gradients(false);
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

// ------------------------------------------------------------------------------------------------ files
void write_verified(const Conversion& made, const at::Tensor& image, const std::filesystem::path& file) {
  export_espdl(made, {{made.chip.inputs()[0]->name(), image}}, file);
  require_verified(file, *made.chip.target());
}

}  // namespace espq::samples
