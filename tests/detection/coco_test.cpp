#include "qat/detection/coco.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/support/file.h"
#include "tests/temporary_folder.h"
#include "tests/user_error.h"

namespace espq::detection {
namespace {

using espq::test::TemporaryFolder;
using espq::test::user_error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kFile = R"({"info": {}, "images": [
  {"id": 9, "file_name": "b.jpg", "width": 64, "height": 48}, {"id": 3, "file_name": "a.jpg", "width": 10, "height": 20}],
  "categories": [{"id": 90, "name": "last", "keypoints": ["nose", "left_eye"]}, {"id": 2, "name": "first"}],
  "annotations": [
    {"id": 1, "image_id": 9, "category_id": 90, "bbox": [1, 2, 3.5, 4], "area": 7, "iscrowd": 1},
    {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 5, 6], "keypoints": [1, 2, 2, 0, 0, 0]}]})";

TEST(Coco, IsReadInTheOrderOfTheIds) {
  const TemporaryFolder folder;
  write_file(folder / "a.json", kFile);
  const CocoDataset data = read_coco(folder / "a.json", "/images");
  ASSERT_EQ(data.images.size(), 2u);
  EXPECT_EQ(data.images[0].file, "/images/a.jpg");
  EXPECT_EQ(data.categories[1].name, "last");
  EXPECT_THAT(data.keypoint_names(), ElementsAre("nose", "left_eye"));
  ASSERT_EQ(data.annotations.size(), 2u);
  EXPECT_EQ(data.annotations[0].image, 1u);
  EXPECT_EQ(data.annotations[0].category, 1u);
  EXPECT_TRUE(data.annotations[0].crowd);
  EXPECT_EQ(data.annotations[0].area, 7);
  EXPECT_EQ(data.annotations[1].area, 30);  // of the box, as the file does not say
  EXPECT_THAT(data.annotations[1].keypoints, ElementsAre(1, 2, 2, 0, 0, 0));
}

TEST(Coco, IsWrittenAndReadAgain) {
  const TemporaryFolder folder;
  write_file(folder / "a.json", kFile);
  write_coco(folder / "b.json", read_coco(folder / "a.json", "/images"));
  write_coco(folder / "c.json", read_coco(folder / "b.json", "/images"));
  EXPECT_EQ(read_file(folder / "b.json"), read_file(folder / "c.json"));
  EXPECT_EQ(read_coco(folder / "b.json", "/images").annotations[0].box, (CocoBox{1, 2, 3.5, 4}));
}

struct Damage {
  const char *name, *from, *to, *message;
};

class DamagedCoco : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedCoco, IsRefusedByName) {
  const TemporaryFolder folder;
  std::string text = kFile;
  const size_t place = text.find(GetParam().from);
  ASSERT_NE(place, std::string::npos);
  text.replace(place, std::string(GetParam().from).size(), GetParam().to);
  write_file(folder / "a.json", text);
  const std::string message = user_error_of([&] { read_coco(folder / "a.json", "/images"); });
  EXPECT_THAT(message, HasSubstr("a.json: "));
  EXPECT_THAT(message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, DamagedCoco,
    ::testing::Values(Damage{"cut_off", "\"annotations\": [", "", "not valid JSON"},
                      Damage{"no_list", "\"images\"", "\"pictures\"", "has no list 'images'"},
                      Damage{"no_size", "\"width\": 64, ", "", "images[0]: 'width' is missing"},
                      Damage{"zero_size", "\"width\": 64", "\"width\": 0", "'width' is 0; expected a positive number"},
                      Damage{"same_id", "\"id\": 9", "\"id\": 3", "two images have the id 3"},
                      Damage{"unknown_image", "\"image_id\": 9", "\"image_id\": 8",
                             "annotations[0]: 'image_id' is 8, which does not exist"},
                      Damage{"unknown_category", "\"category_id\": 2", "\"category_id\": 1", "'category_id' is 1"},
                      Damage{"short_box", "[1, 2, 3.5, 4]", "[1, 2, 3.5]", "annotations[0]: 'bbox' is [1,2,3.5]"},
                      Damage{"text_in_box", "[1, 2, 3.5, 4]", "[1, \"2\", 3.5, 4]", "expected numbers"},
                      Damage{"missing_keypoint", "[1, 2, 2, 0, 0, 0]", "[1, 2, 2]",
                             "'keypoints' holds 3 numbers; expected x, y and visibility of 2"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace espq::detection
