#pragma once
#include <filesystem>
#include <functional>
#include <optional>

#include "core/exec/executor.h"
#include "passes/pipeline/convert.h"
#include "qat/detection/batches.h"
#include "qat/detection/head.h"
#include "qat/worker_group.h"

// What surrounds the training loop of samples/yolo.cpp: options, network, data, numbers, files.
namespace espq::samples {

/// A COCO data set: an annotation file and the folder of its images.
struct DataFolder {
  std::filesystem::path annotations, images;
  bool given() const { return !annotations.empty(); }
};

struct YoloOptions {
  std::filesystem::path network, recipe, output;
  std::string input = "images", optimizer = "sgd", device = "cpu";
  std::vector<std::string> outputs;
  DataFolder train, validation, test;
  std::string chip = "esp32s3";
  int64_t size = 0, keypoint_values = 3;
  int64_t drawn_images = 4800, calibration_images = 64;
  int64_t epochs = 3, batch_size = 16, accumulate = 1;
  double rate = 2e-3, momentum = 0.9, weight_decay = 5e-4;
  double distill = 1, average = 0.998;
  int64_t checkpoint_every = 500, stop_after = 0;
  double augment_scale = 0.5;
  bool augment = false, draw_only = false, pose = false, resume = false, board = true;
  uint64_t seed = 1234;
  int threads = 0, processes = 1;
};
/// Reads the command line. Returns the exit code when there is nothing else to do (--help, wrong options).
std::optional<int> parse_options(YoloOptions& options, int argc, char** argv);
/// Throws UserError when options contradict each other.
void check_options(const YoloOptions& options);
/// How the processes train together. Throws UserError when --device names none.
GroupOptions group_options(const YoloOptions& options);

/// The float network, cut at --outputs. Throws UserError when it has not one input [1, 3, height, width].
Graph read_network(const YoloOptions& options);
/// The layout of the network's maps. Throws UserError when classes or keypoints are not those of the annotations.
detection::HeadLayout layout_of(const Graph& graph, const YoloOptions& options, const detection::CocoDataset& data);

/// Images to learn from, to choose the best epoch with, and to judge the result with. Without a test set of its own
/// (COCO folders) `test` is empty.
struct YoloData {
  detection::CocoDataset train, validation, test;
};
/// Draws the data sets, or reads them when folders are given or `drawn` says that another process drew them.
YoloData open_data(const YoloOptions& options, bool drawn);

/// The first `images` images.
Dataset make_calibration(const detection::Batches& batches, int64_t images);

/// Images [N, 3, height, width] -> raw maps.
using MapNetwork = std::function<Tensors(const at::Tensor& images)>;

/// mAP50-95 of boxes and, for poses, of keypoints.
struct Quality {
  double boxes = 0, keypoints = 0;
  bool pose = false;
  double main() const { return pose ? keypoints : boxes; }
  std::string text() const;
};
Quality measure(const MapNetwork& network, const detection::CocoDataset& data, const detection::Batches& batches,
                const detection::HeadLayout& layout);

/// Writes what was made and proves that the file computes what is recorded in it for `image`.
void write_verified(const Conversion& made, const at::Tensor& image, const std::filesystem::path& file);

}  // namespace espq::samples
