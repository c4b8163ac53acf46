// In builds with ESPQ_WITH_IMAGES=OFF, instead of image_files.cpp.
#include "core/data/image.h"
#include "core/support/error.h"

namespace espq {
namespace {
constexpr const char* kMissing = "{}: this espq knows no image formats: build it with -DESPQ_WITH_IMAGES=ON";
}

at::Tensor read_image(const std::filesystem::path& file) { user_error(kMissing, file.string()); }

void write_png(const std::filesystem::path& file, const at::Tensor&) { user_error(kMissing, file.string()); }

}  // namespace espq
