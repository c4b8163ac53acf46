#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

// What the user asked for, one struct per verb. Plain data: the start-up program fills it without LibTorch.
namespace espq::cli {

struct NamedShape {
  std::string name;
  std::vector<int64_t> dims;
};

struct NamedFile {
  std::string name;
  std::filesystem::path file;
};

/// How to open an .espdl file.
struct EspdlAccess {
  std::string key;    ///< of an encrypted model, as text
  std::string entry;  ///< of a package: name or position
};

struct QuantizeCommand {
  std::filesystem::path model, out;
  std::string target;
  std::optional<int> bits;  ///< absent = what the recipe says
  std::vector<std::filesystem::path> calibration;
  std::optional<int64_t> steps;  ///< calibration batches to use; all when absent
  std::vector<NamedShape> input_shapes;
  std::filesystem::path recipe;        ///< empty = espq's own defaults
  std::vector<NamedFile> test_inputs;  ///< recorded in the file with their results
  bool random_test_values = false;     ///< the same with random inputs
  uint64_t seed = 0;
  bool allow_missing_kernels = false;
  bool encrypt = false;
  std::string key;     ///< for `encrypt`; empty = a random one
  bool quiet = false;  ///< no report, no progress
};

struct RunCommand {
  std::filesystem::path model, out_dir;
  std::vector<NamedFile> inputs;
  std::string precision;  ///< empty = board for .espdl, float for .onnx
  std::string target;     ///< empty = found out
  std::vector<NamedShape> input_shapes;
  EspdlAccess access;
};

struct InspectCommand {
  std::filesystem::path model;
  EspdlAccess access;
  bool json = false;
};

struct DiffCommand {
  std::filesystem::path first, second;
  std::vector<std::string> keys, entries;  ///< one for both files, or one each
  bool json = false;
};

struct VerifyCommand {
  std::filesystem::path model;
  EspdlAccess access;
  std::string target;  ///< empty = found out
};

struct OpsCommand {
  std::string target;  ///< empty = all
  bool json = false;
};

using Command = std::variant<QuantizeCommand, RunCommand, InspectCommand, DiffCommand, VerifyCommand, OpsCommand>;

/// Exit codes: done (and equal, verified), a UserError or a difference, wrong use of the command line.
inline constexpr int kSuccess = 0, kFailure = 1, kUsage = 2;

}  // namespace espq::cli
