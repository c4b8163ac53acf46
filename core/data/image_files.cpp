#include <ATen/ATen.h>
#include <png.h>
#include <turbojpeg.h>

#include <memory>
#include <string>
#include <string_view>

#include "core/data/image.h"
#include "core/support/error.h"
#include "core/support/file.h"

namespace espq {
namespace {

constexpr std::string_view kPngSignature("\x89PNG\r\n\x1a\n", 8);
constexpr std::string_view kJpegSignature("\xff\xd8", 2);
constexpr int64_t kLargestImage = 1 << 28;  // pixels: more than any camera's, few enough to allocate

void check_size(int64_t width, int64_t height, const std::string& name) {
  user_check(width > 0 && height > 0 && width * height <= kLargestImage, "{}: has {}x{} pixels, which is not possible",
             name, width, height);
}

using TurboJpeg = std::unique_ptr<void, int (*)(tjhandle)>;

at::Tensor read_jpeg(const std::string& bytes, const std::string& name) {
  const TurboJpeg decoder(tjInitDecompress(), tjDestroy);
  internal_check(decoder != nullptr, "libjpeg-turbo cannot start");
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto check = [&](int status) {
    user_check(status == 0, "{}: damaged JPEG file ({})", name, tjGetErrorStr2(decoder.get()));
  };
  int width = 0, height = 0, subsampling = 0, color_space = 0;
  check(tjDecompressHeader3(decoder.get(), data, bytes.size(), &width, &height, &subsampling, &color_space));
  check_size(width, height, name);
  const bool four_inks = color_space == TJCS_CMYK || color_space == TJCS_YCCK;
  at::Tensor pixels = at::empty({height, width, four_inks ? 4 : 3}, at::kByte);
  check(tjDecompress2(decoder.get(), data, bytes.size(), pixels.data_ptr<uint8_t>(), width, 0, height,
                      four_inks ? TJPF_CMYK : TJPF_RGB, 0));
  if (!four_inks) return pixels;
  // Such files store 255 - ink, so color is the product of what ink and black leave over.
  const at::Tensor left = pixels.to(at::kFloat);
  return (left.slice(2, 0, 3) * left.slice(2, 3) / 255).round().to(at::kByte);
}

at::Tensor read_png(const std::string& bytes, const std::string& name) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_image*)> release(&image, png_image_free);
  const bool begun = png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()) != 0;
  user_check(begun, "{}: damaged PNG file ({})", name, image.message);
  check_size(image.width, image.height, name);
  image.format = PNG_FORMAT_RGB;
  at::Tensor pixels = at::empty({int64_t{image.height}, int64_t{image.width}, 3}, at::kByte);
  const png_color black{0, 0, 0};
  const bool read = png_image_finish_read(&image, &black, pixels.data_ptr<uint8_t>(), 0, nullptr) != 0;
  user_check(read, "{}: damaged PNG file ({})", name, image.message);
  return pixels;
}

}  // namespace

at::Tensor read_image(const std::filesystem::path& file) {
  const std::string bytes = read_file(file);
  if (bytes.starts_with(kPngSignature)) return read_png(bytes, file.string());
  user_check(bytes.starts_with(kJpegSignature), "{}: is neither a JPEG nor a PNG file", file.string());
  return read_jpeg(bytes, file.string());
}

void write_png(const std::filesystem::path& file, const at::Tensor& image) {
  internal_check(image.dim() == 3 && image.size(2) == 3 && image.scalar_type() == at::kByte, "no RGB bytes");
  const at::Tensor pixels = image.contiguous();
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.size(1));
  header.height = static_cast<png_uint_32>(image.size(0));
  header.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::string bytes(size, '\0');
  const auto* data = pixels.data_ptr<uint8_t>();
  const bool written = png_image_write_to_memory(&header, bytes.data(), &size, 0, data, 0, nullptr) != 0;
  user_check(written, "{}: cannot be written as PNG ({})", file.string(), header.message);
  bytes.resize(size);
  write_file(file, bytes);
}

}  // namespace espq
