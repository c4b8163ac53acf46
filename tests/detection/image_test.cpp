#include "core/data/image.h"

#include <gmock/gmock.h>

#include "core/support/file.h"
#include "tests/detection/recorded.h"
#include "tests/temporary_folder.h"
#include "tests/user_error.h"

namespace espq::detection {
namespace {

using espq::test::TemporaryFolder;
using espq::test::user_error_of;
using ::testing::HasSubstr;

const std::filesystem::path kFolder = std::filesystem::path(ESPQ_TEST_DATA) / "detection";

int64_t largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kInt) - b.to(at::kInt)).abs().max().item<int64_t>();
}

class ImageFile : public ::testing::TestWithParam<const char*> {};

TEST_P(ImageFile, HasThePixelsThatPillowReads) {
  const at::Tensor expected = test::recorded("images.npz").at(GetParam());
  const at::Tensor actual = read_image(kFolder / GetParam());
  ASSERT_EQ(actual.sizes(), expected.sizes());
  // JPEG leaves the last bits to the decoder; PNG does not.
  EXPECT_LE(largest_difference(actual, expected), std::string(GetParam()).ends_with(".jpg") ? 3 : 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ImageFile,
                         ::testing::Values("color.jpg", "full_chroma.jpg", "progressive.jpg", "grey.jpg", "inks.jpg",
                                           "color.png", "grey.png", "palette.png", "transparent.png"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST(Image, IsWrittenAsPng) {
  const TemporaryFolder folder;
  const at::Tensor image = at::randint(0, 256, {7, 5, 3}, at::kByte);
  write_png(folder / "a.png", image);
  EXPECT_TRUE(read_image(folder / "a.png").equal(image));
}

TEST(Image, NamesTheFileThatCannotBeRead) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& bytes) {
    write_file(folder / "x.jpg", bytes);
    return user_error_of([&] { read_image(folder / "x.jpg"); });
  };
  EXPECT_THAT(user_error_of([&] { read_image(folder / "absent.jpg"); }), HasSubstr("absent.jpg"));
  EXPECT_THAT(message("GIF89a"), HasSubstr("x.jpg: is neither a JPEG nor a PNG file"));
  EXPECT_THAT(message(""), HasSubstr("neither"));
  for (const char* name : {"color.jpg", "color.png"}) {
    const std::string whole = read_file(kFolder / name);
    for (size_t part : {whole.size() / 20, whole.size() / 2, whole.size() - 200}) {
      EXPECT_THAT(message(whole.substr(0, part)), HasSubstr("x.jpg: ")) << name << " cut off at " << part;
    }
  }
  std::string flipped = read_file(kFolder / "color.png");
  flipped[flipped.size() / 2] ^= 0x55;  // the checksum tells
  EXPECT_THAT(message(flipped), HasSubstr("x.jpg: damaged PNG"));
}

class Letterbox : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(Letterbox, EqualsUltralytics) {
  const auto [width, height] = GetParam();
  const test::Arrays arrays = test::recorded("images.npz");
  const at::Tensor expected = arrays.at(fmt::format("letterbox_{}x{}", width, height));
  const at::Tensor actual = (letterbox(arrays.at("color.png"), width, height) * 255).round().permute({1, 2, 0});
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_LE(largest_difference(actual, expected), 1);  // OpenCV weighs pixels with 11 bits
}

INSTANTIATE_TEST_SUITE_P(Sizes, Letterbox,
                         ::testing::Values(std::pair<int64_t, int64_t>{64, 64}, std::pair<int64_t, int64_t>{32, 48},
                                           std::pair<int64_t, int64_t>{42, 30}, std::pair<int64_t, int64_t>{21, 21}));

}  // namespace
}  // namespace espq::detection
