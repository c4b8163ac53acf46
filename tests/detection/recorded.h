#pragma once
#include <ATen/ATen.h>

#include "core/data/dataset.h"
#include "qat/detection/loss.h"

namespace espq::detection::test {

using Arrays = std::map<std::string, at::Tensor>;

/// A file of tests/data/detection, written by tests/data/make_detection_fixtures.py.
inline Arrays recorded(const std::string& name) {
  return read_npz(std::filesystem::path(ESPQ_TEST_DATA) / "detection" / name);
}

/// The head's maps in the order of the published networks.
inline std::vector<at::Tensor> recorded_maps(const Arrays& arrays) {
  std::vector<at::Tensor> maps;
  for (int level = 0; level < 3; ++level) {
    for (const char* kind : {"box", "class"}) maps.push_back(arrays.at(fmt::format("{}_{}", kind, level)));
  }
  for (int level = 0; level < 3; ++level) {
    if (const auto found = arrays.find(fmt::format("keypoint_{}", level)); found != arrays.end()) {
      maps.push_back(found->second);
    }
  }
  return maps;
}

/// size = [height, width, classes, bins, keypoints, values per keypoint].
inline HeadLayout recorded_layout(const Arrays& arrays) {
  std::vector<std::vector<int64_t>> shapes;
  for (const at::Tensor& map : recorded_maps(arrays)) shapes.push_back(map.sizes().vec());
  const auto size = [&](int64_t index) { return arrays.at("size")[index].item<int64_t>(); };
  return head_layout(shapes, size(1), size(0), size(4) > 0, std::max<int64_t>(size(5), 2));
}

inline Targets recorded_targets(const Arrays& arrays) {
  return {arrays.at("target_image"), arrays.at("target_label"), arrays.at("target_box"), arrays.at("target_keypoints")};
}

}  // namespace espq::detection::test
