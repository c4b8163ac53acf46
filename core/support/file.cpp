#include "core/support/file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>

#include "core/support/error.h"

namespace espq {
namespace {

/// The bytes under a temporary name beside `file`; removed unless it is renamed.
class TemporaryFile {
 public:
  TemporaryFile(const std::filesystem::path& file, std::string_view bytes) : file_(file), temporary_(file) {
    std::error_code status;
    user_check(!std::filesystem::is_directory(file, status), "{}: cannot be written: it is a folder", file.string());
    temporary_ += fmt::format(".part{}", ::getpid());
    std::ofstream stream(temporary_, std::ios::binary | std::ios::trunc);
    user_check(stream.good(), "{}: cannot be written: {}", file.string(), std::strerror(errno));
    stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    stream.close();
    if (stream.good()) return;
    std::filesystem::remove(temporary_, status);
    user_error("{}: writing failed (disk full?)", file.string());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    if (!renamed_) std::filesystem::remove(temporary_, ignored);
  }
  void rename() {
    std::error_code status;
    std::filesystem::rename(temporary_, file_, status);
    user_check(!status, "{}: cannot be written: {}", file_.string(), status.message());
    renamed_ = true;
  }

 private:
  std::filesystem::path file_, temporary_;
  bool renamed_ = false;
};

}  // namespace

std::string read_file(const std::filesystem::path& file) {
  std::error_code status;
  user_check(!std::filesystem::is_directory(file, status), "{}: is a folder, a file was expected", file.string());
  std::ifstream stream(file, std::ios::binary);
  user_check(stream.good(), "{}: cannot be opened: {}", file.string(), std::strerror(errno));
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  user_check(!stream.bad(), "{}: reading failed", file.string());
  return std::move(bytes).str();
}

void write_file(const std::filesystem::path& file, std::string_view bytes) {
  TemporaryFile temporary(file, bytes);
  temporary.rename();
}

void write_files(const std::vector<std::pair<std::filesystem::path, std::string>>& files) {
  std::vector<std::unique_ptr<TemporaryFile>> temporaries;
  temporaries.reserve(files.size());
  for (const auto& [file, bytes] : files) temporaries.push_back(std::make_unique<TemporaryFile>(file, bytes));
  for (const auto& temporary : temporaries) temporary->rename();
}

}  // namespace espq
