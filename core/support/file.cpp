#include "core/support/file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/support/error.h"

namespace espq {

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
  std::filesystem::path temporary = file;
  temporary += fmt::format(".part{}", ::getpid());
  std::error_code status;
  {
    std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
    user_check(stream.good(), "{}: cannot be written: {}", file.string(), std::strerror(errno));
    stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    stream.close();
    if (!stream.good()) {
      std::filesystem::remove(temporary, status);
      user_error("{}: writing failed (disk full?)", file.string());
    }
  }
  std::filesystem::rename(temporary, file, status);
  if (status) {
    const std::string reason = status.message();
    std::filesystem::remove(temporary, status);
    user_error("{}: cannot be written: {}", file.string(), reason);
  }
}

}  // namespace espq
