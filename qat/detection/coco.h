#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace espq::detection {

/// Left, top, width, height in pixels, as COCO writes boxes.
using CocoBox = std::array<double, 4>;

struct CocoImage {
  int64_t id = 0;
  std::filesystem::path file;  ///< where the image lies
  int64_t width = 0, height = 0;
};

struct CocoCategory {
  int64_t id = 0;
  std::string name;
  std::vector<std::string> keypoints = {};  ///< their names; empty without poses
};

/// One object of one image.
struct CocoAnnotation {
  size_t image = 0;     ///< index in CocoDataset::images
  size_t category = 0;  ///< index in CocoDataset::categories
  CocoBox box = {};
  double area = 0;                     ///< in square pixels, of the object's outline where the file has it
  bool crowd = false;                  ///< a group of objects: never trained on, and no error when it is found
  std::vector<double> keypoints = {};  ///< x, y, visibility (0 = not labelled) of each; may be empty
  size_t labelled_keypoints() const;
};

/// Images and annotations. Images and categories are in the order of their ids.
struct CocoDataset {
  std::vector<CocoImage> images;
  std::vector<CocoCategory> categories;
  std::vector<CocoAnnotation> annotations;
  /// Names of the keypoints that objects have; empty without poses.
  std::vector<std::string> keypoint_names() const;
};

/// Reads annotations in COCO's JSON format (instances or person_keypoints). Images are looked for in `image_folder`
/// under their "file_name"; they are opened only when they are used.
/// Throws UserError naming the file and the entry: no JSON, missing or wrong fields, ids that do not exist or come
/// twice.
CocoDataset read_coco(const std::filesystem::path& annotations, const std::filesystem::path& image_folder);

/// Writes the annotations as COCO JSON. File names are those of the images without their folder.
void write_coco(const std::filesystem::path& annotations, const CocoDataset& data);

}  // namespace espq::detection
