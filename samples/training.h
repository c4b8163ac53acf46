#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>

#include "core/data/dataset.h"
#include "core/graph/graph.h"

namespace espq::samples {

/// A network that LibTorch trained, as a float graph, with the data to quantize and judge it.
struct TrainedNetwork {
  Graph graph;              ///< one input, one output, batch 1
  Dataset calibration;      ///< from the training set
  at::Tensor test_inputs;   ///< one sample per row, never seen in training
  at::Tensor test_targets;  ///< sine: values [N, 1]; digits: labels [N]
  at::Tensor test_outputs;  ///< what LibTorch's own network answers
};

/// The handwritten digits data set (samples/data): 8x8 images [N, 1, 8, 8] with values from 0 to 1, labels [N].
struct Digits {
  at::Tensor train_images, train_labels, test_images, test_labels;
};

/// `digits` is the gzipped CSV file; the rows are shuffled with a fixed seed. Throws UserError when it cannot be read.
Digits load_digits(const std::filesystem::path& digits);

/// A multi-layer perceptron (1-32-32-1) that learns sin(x) for x in [0, 2 pi].
TrainedNetwork train_sine();

/// A convolutional network on the handwritten digits data set (samples/data): 8x8 images, 10 classes.
/// `digits` is the gzipped CSV file. Throws UserError when it cannot be read.
TrainedNetwork train_digits(const std::filesystem::path& digits);

/// A small network of depthwise convolutions whose channels differ in size by a factor of 64, so that it feels 8-bit
/// rounding. `epochs` of training, batch 32.
TrainedNetwork train_small_digits(const Digits& digits, int64_t epochs);

}  // namespace espq::samples
