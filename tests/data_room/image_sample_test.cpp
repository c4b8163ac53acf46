#include "core/data/image_sample.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/data/image.h"
#include "core/data/sample_files.h"
#include "tests/temporary_folder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::TemporaryFolder;
using test::user_error_of;
using ::testing::HasSubstr;

/// 6 x 4 pixels; no two have the same color.
at::Tensor picture() {
  at::Tensor image = at::empty({4, 6, 3}, at::kByte);
  auto pixel = image.accessor<uint8_t, 3>();
  for (int64_t y = 0; y < 4; ++y)
    for (int64_t x = 0; x < 6; ++x) {
      pixel[y][x][0] = static_cast<uint8_t>(40 * x);
      pixel[y][x][1] = static_cast<uint8_t>(60 * y);
      pixel[y][x][2] = static_cast<uint8_t>(10 * x + 20 * y);
    }
  return image;
}

class ImageSample : public ::testing::Test {
 protected:
  void SetUp() override { write_png(file(), picture()); }
  std::filesystem::path file() const { return folder_ / "a.png"; }
  at::Tensor read(const ImageOptions& options) const { return read_image_sample(file(), options); }
  TemporaryFolder folder_;
};

TEST_F(ImageSample, IsThePixelsUnlessAskedForMore) {
  const at::Tensor sample = read({});
  EXPECT_EQ(sample.sizes(), (Shape{1, 3, 4, 6}));
  EXPECT_EQ(sample.scalar_type(), at::kFloat);
  EXPECT_TRUE(sample[0].permute({1, 2, 0}).equal(picture().to(at::kFloat)));
  EXPECT_TRUE(read({.channels_last = true})[0].equal(picture().to(at::kFloat)));
  EXPECT_TRUE(read({.color = ImageOptions::Color::Bgr})[0].equal(sample[0].flip(0)));
}

TEST_F(ImageSample, NumbersAreScaledDifferencesOfPixels) {
  const at::Tensor sample = read({.mean = {100, 50, 25}, .scale = {0.5, 2, 0.1}, .color = ImageOptions::Color::Bgr});
  const at::Tensor pixels = picture();
  const auto from = pixels.accessor<uint8_t, 3>();
  const auto got = sample.accessor<float, 4>();
  const double mean[] = {100, 50, 25}, scale[] = {0.5, 2, 0.1};
  for (int64_t c = 0; c < 3; ++c)
    for (int64_t y = 0; y < 4; ++y)
      for (int64_t x = 0; x < 6; ++x)
        EXPECT_EQ(got[0][c][y][x], static_cast<float>((from[y][x][2 - c] - mean[c]) * scale[c]));
  EXPECT_EQ(read({.scale = {1.0 / 255}})[0][0][0][5].item<float>(), static_cast<float>(200.0 * (1.0 / 255)));
  const at::Tensor gray = read({.color = ImageOptions::Color::Gray});
  EXPECT_EQ(gray.sizes(), (Shape{1, 1, 4, 6}));
  EXPECT_EQ(gray[0][0][2][3].item<float>(), std::nearbyint(0.299 * 120 + 0.587 * 120 + 0.114 * 70));
}

TEST_F(ImageSample, HasTheSizeAskedFor) {
  // Half the size: every new pixel lies between four old ones.
  const at::Tensor half = read({.resize = PixelSize{3, 2}});
  ASSERT_EQ(half.sizes(), (Shape{1, 3, 2, 3}));
  EXPECT_EQ(half[0][0][0][1].item<float>(), 100);  // (80 + 120) / 2
  EXPECT_EQ(half[0][1][1][0].item<float>(), 150);  // (120 + 180) / 2
  EXPECT_TRUE(read({.resize_shorter = 2}).equal(half));
  EXPECT_EQ(read({.resize_shorter = 8}).sizes(), (Shape{1, 3, 8, 12}));
  // From the middle.
  EXPECT_TRUE(read({.crop = PixelSize{2, 4}}).equal(read({}).slice(3, 2, 4)));
  EXPECT_TRUE(read({.crop = PixelSize{6, 1}}).equal(read({}).slice(2, 1, 2)));
  EXPECT_TRUE(read({.resize_shorter = 2, .crop = PixelSize{1, 1}}).equal(half.slice(2, 0, 1).slice(3, 1, 2)));
  // As wide as it fits: two rows of gray above and below.
  const at::Tensor framed = read({.letterbox = PixelSize{6, 8}});
  ASSERT_EQ(framed.sizes(), (Shape{1, 3, 8, 6}));
  EXPECT_TRUE(framed.slice(2, 2, 6).equal(read({})));
  EXPECT_TRUE(framed.slice(2, 0, 2).eq(114).all().item<bool>() && framed.slice(2, 6).eq(114).all().item<bool>());
}

TEST_F(ImageSample, SaysWhatDoesNotFit) {
  EXPECT_THAT(user_error_of([&] { read({.crop = PixelSize{7, 4}}); }), HasSubstr("6x4 pixels, from which 7x4"));
  EXPECT_THAT(user_error_of([&] { read({.mean = {1, 2}}); }), HasSubstr("the mean has 2 numbers"));
  EXPECT_THAT(user_error_of([&] {
                read({.scale = {1, 2, 3}, .color = ImageOptions::Color::Gray});
              }),
              HasSubstr("the scale has 3 numbers, the image has 1 channels"));
  const auto refused = [&](const ImageOptions& options) {
    return user_error_of([&] { SampleFiles::open({file()}, options); });
  };
  EXPECT_THAT(refused({.resize = PixelSize{2, 2}, .letterbox = PixelSize{2, 2}}), HasSubstr("exclude"));
  EXPECT_THAT(refused({.letterbox = PixelSize{2, 2}, .crop = PixelSize{2, 2}}), HasSubstr("exclude"));
}

TEST_F(ImageSample, FoldersOfImagesAreData) {
  const std::filesystem::path& folder = folder_.path();
  write_png(folder / "b.PNG", picture().flip(1));
  const Dataset data = open_dataset({folder}, {.image = {.channels_last = true}});
  ASSERT_EQ(data.size(), 2u);
  EXPECT_TRUE(data[1].at("")[0].equal(picture().flip(1).to(at::kFloat)));
  const SampleFiles files = SampleFiles::open({folder});
  EXPECT_EQ(files.stem(1), "b");
  EXPECT_TRUE(files.read(0).at("").equal(read({})));
  write_npy(folder / "c.npy", at::ones({1}));
  EXPECT_THAT(user_error_of([&] { SampleFiles::open({folder}); }), HasSubstr("holds arrays (c.npy) and images ("));
  EXPECT_THAT(user_error_of([&] { SampleFiles::open({folder / "c.npy"}, {.mean = {1}}); }),
              HasSubstr("options for images were given, but no image"));
}

}  // namespace
}  // namespace espq
