#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/data/data_options.h"

// What the user asked for, one struct per verb. Plain data: the start-up program fills it without LibTorch.
namespace espq::cli {

struct NamedShape {
  std::string name;
  std::vector<int64_t> dims;
  std::string type = {};  ///< element type; empty = what the model says, float32 if it says nothing
};

struct NamedFile {
  std::string name;
  std::filesystem::path file;
};

/// The recipe that the user asked for.
struct RecipeChoice {
  std::string recipe;  ///< a file, or the name of a recipe that comes with espq; empty = espq's own defaults
  std::vector<std::string> settings;  ///< "path.to.option=value" each: they overrule it in order
};

/// How to open an .espdl file.
struct EspdlAccess {
  std::string key;    ///< of an encrypted model, as text
  std::string entry;  ///< of a package: name or position
};

/// The same for two files.
struct EspdlAccesses {
  std::vector<std::string> keys, entries;  ///< one for both files, or one each
};

struct QuantizeCommand {
  std::filesystem::path model, out;
  std::string target;
  std::optional<int> bits;  ///< absent = what the recipe says
  std::vector<std::filesystem::path> calibration;
  DataOptions data;
  std::optional<int64_t> mirror_axis;       ///< also calibrate with pictures flipped along it
  std::optional<DrawnInputs> drawn;         ///< instead of data
  std::optional<int64_t> distill;           ///< so many steps bring them to the statistics of BatchNormalizations
  std::filesystem::path load_quantization;  ///< .json file to take exponents and widths from; empty = calibrate
  std::optional<int64_t> steps;             ///< calibration batches to use; all when absent
  std::vector<NamedShape> input_shapes;
  RecipeChoice recipe;
  std::vector<NamedFile> test_inputs;  ///< recorded in the file with their results
  bool random_test_values = false;     ///< the same with random inputs
  uint64_t seed = 0;
  bool allow_missing_kernels = false;
  bool encrypt = false;
  std::string key;                 ///< for `encrypt`; empty = a random one
  std::filesystem::path analysis;  ///< error analysis to write as JSON; empty = none
  int64_t analysis_batches = 8;    ///< calibration batches that every error analysis uses
  bool quiet = false;              ///< no report, no progress
};

struct RunCommand {
  std::filesystem::path model, out_dir;
  std::vector<NamedFile> inputs;
  DataOptions data;
  std::string precision;  ///< empty = board for .espdl, float for float models
  std::string target;     ///< empty = found out
  std::vector<NamedShape> input_shapes;
  EspdlAccess access;
};

struct EvaluateCommand {
  std::filesystem::path model, out_dir;  ///< no folder: only figures are wanted
  std::vector<std::filesystem::path> inputs;
  DataOptions data;
  std::string precision;  ///< empty = board for .espdl, float for float models
  std::string target;     ///< of .espdl files; empty = found out
  std::vector<NamedShape> input_shapes;
  EspdlAccess access;
  bool integers = false;     ///< write the codes of the file, not real numbers
  bool chip_layout = false;  ///< samples and results in the file's order of dimensions
  size_t threads = 0;        ///< 0 = as many as there are cores
  std::filesystem::path labels, reference;
  std::vector<std::string> metrics;  ///< accuracy, agreement, snr or a program
  bool quiet = false;
};

struct ImportCommand {
  std::filesystem::path model;
  std::vector<NamedShape> input_shapes;
  std::vector<NamedFile> inputs;  ///< example inputs
  RecipeChoice recipe;
  bool as_imported = false;  ///< before the float passes of the recipe
  bool check = false;        ///< compare with LibTorch
  bool json = false;
};

struct CheckCommand {
  std::filesystem::path model;  ///< a float model or an .espdl file
  std::string target;           ///< empty = the recipe's, or what the file tells
  std::string runtime_level;    ///< empty = the recipe's, or what the file tells
  std::optional<int> bits;      ///< absent = what the recipe says
  std::vector<NamedShape> input_shapes;
  RecipeChoice recipe;
  EspdlAccess access;
  bool allow_missing_kernels = false;
  bool json = false;
};

struct InspectCommand {
  std::filesystem::path model;
  EspdlAccess access;
  bool json = false;
};

struct DiffCommand {
  std::filesystem::path first, second;
  EspdlAccesses files;
  bool json = false;
};

struct VerifyCommand {
  std::filesystem::path model;
  EspdlAccess access;
  std::string target;  ///< empty = found out
};

struct CompareCommand {
  std::filesystem::path first, second;
  std::vector<std::filesystem::path> inputs;
  DataOptions data;
  std::optional<int64_t> batches;                 ///< all when absent
  std::string first_precision, second_precision;  ///< empty = float for float models, board for .espdl
  std::string target;                             ///< chip of .espdl files; empty = found out
  std::vector<NamedShape> input_shapes;
  RecipeChoice recipe;  ///< whose float passes bring float models into the form of quantized ones
  EspdlAccesses files;
  bool per_layer = false;
  std::filesystem::path json, html;  ///< files to write; empty = none
  bool quiet = false;
};

struct OpsCommand {
  std::string target;                   ///< empty = all
  std::string runtime_level = "3.3.9";  ///< chip library whose kernels are meant
  bool json = false;
  bool markdown = false;  ///< the page docs/operators.md
};

using Command = std::variant<QuantizeCommand, CheckCommand, RunCommand, EvaluateCommand, ImportCommand, InspectCommand,
                             DiffCommand, VerifyCommand, CompareCommand, OpsCommand>;

/// A command line.
struct CommandLine {
  Command command;
  bool verbose = false;  ///< show every pass with its time and what it changed
};

/// Exit codes: done (and equal, verified), a UserError or a difference, wrong use of the command line.
inline constexpr int kSuccess = 0, kFailure = 1, kUsage = 2;

}  // namespace espq::cli
