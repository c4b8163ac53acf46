#pragma once
#include "core/data/dataset.h"

namespace espq {

/// Calibration data in two parts: what a pass learns from, and what decides whether it is kept.
struct DividedData {
  Dataset training, held_out;
  /// There was a single sample: both parts are the same one, and "better" says little.
  bool same = false;
};

/// Every fourth batch is held out, of two or three the last one. A single batch is divided by samples in the same way
/// (the rows of its tensors, which all have as many). A function of the data alone. Throws UserError when there are
/// none.
DividedData hold_out(const Dataset& data);

/// The data and, behind them, their mirror images: pictures flipped along `width_axis` (counted from the end: -1, or -2
/// where channels come last). More to learn from where left and right mean the same. A picture and its mirror image are
/// on the same side of hold_out(); for that the first ones, three at most, have none. Throws UserError where batches
/// have several tensors or too few dimensions, and where there are fewer than four pictures.
Dataset with_mirror_images(const Dataset& data, int64_t width_axis);

/// At most so many batches from the beginning.
Dataset first_batches(const Dataset& data, int64_t count);

}  // namespace espq
