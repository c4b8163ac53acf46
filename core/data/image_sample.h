#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>

#include "core/data/data_options.h"

namespace espq {

/// JPEG or PNG by its name's ending.
bool is_image_file(const std::filesystem::path& file);

/// The image as one sample, float32 with a batch axis. Resizing is bilinear between pixel centers, to whole gray
/// levels, as for detectors (letterbox()); gray is what ITU-R BT.601 makes of color. Throws UserError naming the file:
/// unreadable, smaller than the crop, mean or scale of another number of channels.
at::Tensor read_image_sample(const std::filesystem::path& file, const ImageOptions& options);

}  // namespace espq
