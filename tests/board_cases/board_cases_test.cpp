// Runs every case of board_cases/ in Board precision and compares code by code with what the chip library answered.
// Prints one table with the counts per target and operator; exit status 0 only if every case that counts is equal.
//   board_cases_test [--verbose] [NAME_PART]
#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "export/espdl/convert.h"
#include "export/espdl/reader.h"
#include "tests/reference_data.h"

using namespace espq;
using Json = nlohmann::json;

namespace {

/// Float outputs come from the C library's expf and friends: the vendor's own comparison allows this much.
constexpr double kFloatTolerance = 2e-5;

at::Tensor read_raw(const std::filesystem::path& file, const std::string& dtype, const Shape& shape) {
  static const std::map<std::string, at::ScalarType> types = {{"int8", at::kChar},     {"int16", at::kShort},
                                                              {"int32", at::kInt},     {"int64", at::kLong},
                                                              {"float32", at::kFloat}, {"bool", at::kBool}};
  std::string bytes = read_file(file);
  const at::ScalarType type = types.at(dtype);
  at::Tensor tensor = at::from_blob(bytes.data(), shape, at::TensorOptions().dtype(type)).clone();
  user_check(bytes.size() == static_cast<size_t>(tensor.nbytes()), "'{}' has {} bytes, {} are expected", file.string(),
             bytes.size(), tensor.nbytes());
  return tensor;
}

struct Difference {
  int64_t elements = 0;  ///< that differ by more than the tolerance
  double largest = 0;
};

/// The chip library has no tensors without dimensions: its scalars have shape [1].
Difference compare(at::Tensor got, const at::Tensor& want, double tolerance) {
  if (got.dim() == 0) got = got.reshape({1});
  user_check(got.sizes() == want.sizes(), "shape [{}] instead of [{}]", fmt::join(got.sizes(), ", "),
             fmt::join(want.sizes(), ", "));
  user_check(got.scalar_type() == want.scalar_type(), "dtype {} instead of {}", c10::toString(got.scalar_type()),
             c10::toString(want.scalar_type()));
  const at::Tensor a = got.to(at::kDouble), b = want.to(at::kDouble);
  const at::Tensor same = (a == b).logical_or(at::isnan(a).logical_and(at::isnan(b)));
  const at::Tensor distance = (a - b).abs().masked_fill(same, 0).nan_to_num(1e30, 1e30, 1e30);
  return {(distance > tolerance).sum().item<int64_t>(), distance.numel() ? distance.max().item<double>() : 0.0};
}

struct Outcome {
  enum Kind { Equal, Differs, Refused, NotCounted } kind = Equal;
  std::string detail;
};

/// Equal when some accepted answer matches as a whole.
Outcome judge(const std::vector<std::vector<at::Tensor>>& accepted, const Tensors& got,
              const std::vector<double>& tolerances) {
  Outcome outcome;
  for (const auto& answer : accepted) {
    outcome = {};
    for (size_t i = 0; i < answer.size(); ++i) {
      const Difference difference = compare(got[i], answer[i], tolerances[i]);
      if (difference.elements == 0) continue;
      outcome.kind = Outcome::Differs;
      outcome.detail += fmt::format("output {}: {} of {} elements differ, at most by {:g}; ", i, difference.elements,
                                    answer[i].numel(), difference.largest);
    }
    if (outcome.kind == Outcome::Equal) break;
  }
  return outcome;
}

Outcome run_case(const std::filesystem::path& folder, const Json& entry) {
  const Graph graph =
      from_model(read_espdl_file(folder / "model.espdl"), find_target(entry["target"].get<std::string>()));
  NamedTensors inputs;
  for (const Json& input : entry["inputs"])
    inputs.emplace(input["name"].get<std::string>(),
                   read_raw(folder / input["file"], input["dtype"], input["shape"].get<Shape>()));
  std::vector<std::string> names;
  std::vector<std::vector<at::Tensor>> accepted(1);
  std::vector<double> tolerances;
  const bool either = entry["counts"] == "either";
  if (either) accepted.emplace_back();
  for (const Json& output : entry["outputs"]) {
    names.push_back(output["name"]);
    const auto read = [&](const std::string& file) {
      return read_raw(folder / file, output["dtype"], output["shape"].get<Shape>());
    };
    accepted[0].push_back(read(output["file"]));
    if (either) accepted[1].push_back(read(output.value("plain_file", output["file"].get<std::string>())));
    tolerances.push_back(output.value("tolerance", output["dtype"] == "float32" ? kFloatTolerance : 0.0));
  }
  const NamedTensors results = Executor(graph, Precision::Board).run(inputs, names);
  Tensors got;
  for (const std::string& name : names) got.push_back(results.at(name));
  Outcome outcome = judge(accepted, got, tolerances);
  if (entry["counts"] == "none") outcome.kind = Outcome::NotCounted;
  return outcome;
}

Outcome run_published(const std::filesystem::path& file, const std::string& target) {
  const EspdlModel model = read_espdl_file(file);
  const Graph graph = from_model(model, find_target(target));
  const TestValues values = test_values(model);
  user_check(!values.outputs.empty(), "the file carries no test values");
  std::vector<std::string> names;
  std::vector<at::Tensor> expected;
  for (const auto& [name, value] : values.outputs) {
    names.push_back(name);
    expected.push_back(value);
  }
  const NamedTensors results =
      Executor(graph, Precision::Board).run(NamedTensors(values.inputs.begin(), values.inputs.end()), names);
  Tensors got;
  for (const std::string& name : names) got.push_back(results.at(name));
  return judge({expected}, got, std::vector<double>(names.size(), 0.0));
}

/// Counts per target, width and operator.
class Table {
 public:
  explicit Table(bool verbose) : verbose_(verbose) {}

  template <typename Function>
  void add(const std::string& target, const std::string& bits, const std::string& type, const std::string& name,
           Function run) {
    Outcome outcome;
    try {
      outcome = run();
    } catch (const std::exception& error) {
      outcome = {Outcome::Refused, error.what()};
    }
    ++counts_[{target + " " + bits, type}][outcome.kind];
    ++totals_[outcome.kind];
    const bool bad = outcome.kind == Outcome::Differs || outcome.kind == Outcome::Refused;
    failed_ |= bad;
    if (verbose_ || bad)
      fmt::print("{:<11} {}{}{}\n", label(outcome.kind), name, outcome.detail.empty() ? "" : ": ", outcome.detail);
  }

  void print() const {
    fmt::print("\n{:<18} {:<20} {:>6} {:>8} {:>8} {:>12}\n", "target", "operator", "equal", "differs", "refused",
               "not counted");
    for (const auto& [key, count] : counts_) print_row(key.first, key.second, count);
    print_row("all", "", totals_);
  }

  bool failed() const { return failed_ || value(totals_, Outcome::Equal) == 0; }

 private:
  using Counts = std::map<Outcome::Kind, int>;
  static const char* label(Outcome::Kind kind) {
    static constexpr const char* labels[] = {"equal", "DIFFERS", "REFUSED", "not counted"};
    return labels[kind];
  }
  static void print_row(const std::string& target, const std::string& type, const Counts& count) {
    fmt::print("{:<18} {:<20} {:>6} {:>8} {:>8} {:>12}\n", target, type, value(count, Outcome::Equal),
               value(count, Outcome::Differs), value(count, Outcome::Refused), value(count, Outcome::NotCounted));
  }
  static int value(const Counts& counts, Outcome::Kind kind) {
    const auto found = counts.find(kind);
    return found == counts.end() ? 0 : found->second;
  }
  bool verbose_, failed_ = false;
  std::map<std::pair<std::string, std::string>, Counts> counts_;
  Counts totals_;
};

int run_all(const std::string& part, bool verbose) {
  const std::filesystem::path folder = board_cases().folder;
  fmt::print("{}\n", folder.string());
  Table table(verbose);
  for (const Json& entry : Json::parse(read_file(folder / "manifest.json"))) {
    const std::string name = entry["dir"];
    if (name.find(part) == std::string::npos) continue;
    table.add(entry["target"], entry["bits"], entry["op"], name, [&] { return run_case(folder / name, entry); });
  }
  // Files of the chip library's authors, which the subset does not have.
  std::set<std::filesystem::path> published;
  if (std::filesystem::exists(folder / "published"))
    for (const auto& file : std::filesystem::directory_iterator(folder / "published"))
      if (file.path().extension() == ".espdl") published.insert(file.path());
  for (const std::filesystem::path& file : published) {
    const std::string name = file.filename().string(), target = name.substr(0, name.find("__"));
    if (name.find(part) == std::string::npos) continue;
    table.add(target, "published", "(file's own values)", name, [&] { return run_published(file, target); });
  }
  table.print();
  return table.failed() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string part;
  bool verbose = false;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--verbose") {
      verbose = true;
    } else {
      part = argv[i];
    }
  }
  try {
    return run_all(part, verbose);
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    return 2;
  }
}
