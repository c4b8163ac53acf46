// The networks of the reference collection: what the incumbent quantizes, and what its simplifier makes of them.
#include <gmock/gmock.h>

#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "onnx_frontend/onnx_frontend.h"
#include "parity/format.h"
#include "passes/simplify/decompose_conv_transpose.h"
#include "passes/simplify/simplify.h"
#include "tests/recorded_kernels.h"
#include "tests/reference_data.h"
#include "tests/simplify/same_function.h"

namespace espq {
namespace {

using namespace test;
using Json = nlohmann::ordered_json;

Json read_json(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return Json::parse(stream);
}

/// The networks whose name fulfils `condition`.
std::vector<std::string> case_names(const std::function<bool(const std::string&)>& condition) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(peer_cases().folder)) {
    const std::string name = entry.path().filename();
    if (entry.is_directory() && condition(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::filesystem::path simplified_file(const std::string& name) {
  const auto folder = peer_cases().folder / name;
  const auto simplified = folder / "simplified.onnx";
  return std::filesystem::exists(simplified) ? simplified : folder / "model.onnx";
}

/// A run's .json, the same names in each; "" = there is none.
std::filesystem::path quantization_file(const std::string& name) {
  for (const char* run : {"esp32p4_w8a8", "esp32s3_w8a8", "c_w8a8"}) {
    auto file = peer_cases().folder / name / run / "peer.json";
    if (std::filesystem::exists(file)) return file;
  }
  return {};
}

using NameCases = testing::TestWithParam<std::string>;
class PeerModels : public NameCases {};
/// Without those that the incumbent cannot quantize.
class IncumbentModels : public NameCases {};
class IncumbentNames : public NameCases {};

constexpr double kLastTwoBits = 0x1p-22;

const auto kName = [](const auto& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(Cases, PeerModels, testing::ValuesIn(case_names([](const auto&) { return true; })), kName);
INSTANTIATE_TEST_SUITE_P(Cases, IncumbentModels, testing::ValuesIn(case_names([](const std::string& name) {
                           return !name.starts_with("fails_");
                         })),
                         kName);
INSTANTIATE_TEST_SUITE_P(Cases, IncumbentNames, testing::ValuesIn(case_names([](const std::string& name) {
                           return !quantization_file(name).empty();
                         })),
                         kName);

// ------------------------------------------------------------------------------------------------ incumbent
/// As tests/data/make_incumbent_graphs.py writes a value: constants by shape, generated names as "*".
Json label(const Graph& reference, const Variable* variable) {
  if (!variable) return "";
  if (variable->is_parameter()) return variable->value().sizes().vec();
  return reference.find_variable(variable->name()) ? Json(variable->name()) : Json("*");
}

Json describe_operation(const Graph& imported, const Operation& operation, const std::set<std::string>& known) {
  Json inputs = Json::array(), outputs = Json::array();
  for (const Variable* input : operation.inputs()) inputs.push_back(label(imported, input));
  for (const Variable* output : operation.outputs()) outputs.push_back(label(imported, output));
  return {operation.type(), known.count(operation.name()) ? operation.name() : "*", inputs, outputs};
}

/// What says nothing is left out on both sides: omitted operands at the end, and the axes of a reduction, which came as
/// an attribute before opset 18 and are an operand after import.
void drop_spelling(Json& operation) {
  Json& inputs = operation[2];
  const auto is_omitted = [](const Json& name) { return name.is_string() && name.get<std::string>().empty(); };
  while (!inputs.empty() && is_omitted(inputs.back())) inputs.erase(inputs.size() - 1);
  if (operation[0].get<std::string>().starts_with("Reduce") && inputs.size() == 2) inputs.erase(1);
}

TEST_P(IncumbentModels, FormatsToWhatTheIncumbentQuantizes) {
  const Json expected_graphs = read_json(std::filesystem::path(ESPQ_TEST_DATA) / "incumbent_graphs.json");
  const Graph imported = import_onnx(simplified_file(GetParam()));
  Graph graph = imported.clone();
  format_like_incumbent(graph);
  decompose_conv_transpose(graph);
  Json expected = expected_graphs.at(GetParam());
  std::set<std::string> names;
  for (const Json& operation : expected) names.insert(operation[1].get<std::string>());
  Json actual = Json::array();
  for (const Operation* operation : graph.operations())
    actual.push_back(describe_operation(imported, *operation, names));
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    drop_spelling(expected[i]);
    drop_spelling(actual[i]);
    EXPECT_EQ(actual[i].dump(), expected[i].dump());
  }
  expect_same_function(imported, graph);
}

/// Every pattern at once, with the incumbent's parameters to the last bit: they decide scales. (Exact equality of
/// float32 is right here: the same sequence of elementary operations, each rounded in the same way on both sides. On
/// another processor LibTorch's roots differ in the last bit, and what is divided by them in the last two.)
TEST(IncumbentPasses, GiveTheSameParameters) {
  const auto data = std::filesystem::path(ESPQ_TEST_DATA);
  Graph graph = import_onnx(data / "incumbent_passes.onnx");
  const Graph imported = graph.clone();
  format_like_incumbent(graph);
  decompose_conv_transpose(graph);
  const Json expected = read_json(data / "incumbent_passes.json");
  const auto operations = graph.operations();
  ASSERT_EQ(operations.size(), expected.size());
  for (size_t i = 0; i < operations.size(); ++i) {
    const Operation& operation = *operations[i];
    const Json& other = expected[i];
    SCOPED_TRACE(other.dump().substr(0, 100));
    EXPECT_EQ(operation.type(), other[0].get<std::string>());
    if (other[1] != "*") {
      EXPECT_EQ(operation.name(), other[1].get<std::string>());
    }
    size_t constants = 0;
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot) {
      const Variable* input = operation.input(slot);
      if (other[2][slot] != "*") {
        EXPECT_EQ(input->name(), other[2][slot].get<std::string>());
      }
      if (!input->is_parameter()) continue;
      const auto values = other[4][constants++].get<std::vector<float>>();
      const at::Tensor actual = input->value().flatten().slice(0, 0, static_cast<int64_t>(values.size()));
      const at::Tensor recorded = at::tensor(values);
      EXPECT_TRUE(at::equal(actual, recorded) ||
                  (!kernels_of_the_recording() && at::allclose(actual, recorded, kLastTwoBits, 0)))
          << "operand " << slot;
    }
    EXPECT_EQ(constants, other[4].size());
    if (other[3][0] != "*") {
      EXPECT_EQ(operation.output()->name(), other[3][0].get<std::string>());
    }
  }
  expect_same_function(imported, graph);
}

/// Names in peer.json that still exist after formatting must come in our insertion order.
TEST_P(IncumbentNames, KeepsTheNamesOfTheQuantizationFile) {
  Graph graph = import_onnx(simplified_file(GetParam()));
  format_like_incumbent(graph);
  decompose_conv_transpose(graph);
  std::vector<std::string> expected, actual;
  std::set<std::string> variables;
  for (const auto& [name, slots] : read_json(quantization_file(GetParam())).at("configs").items()) {
    if (name.starts_with("PPQ_")) continue;
    EXPECT_NE(graph.find_operation(name), nullptr) << name;
    expected.push_back(name);
    for (const auto& [variable, slot] : slots.items())
      EXPECT_TRUE(variable.starts_with("PPQ_") || graph.find_variable(variable)) << variable;
  }
  const std::set<std::string> wanted(expected.begin(), expected.end());
  for (const Operation* operation : graph.operations())
    if (wanted.count(operation->name())) actual.push_back(operation->name());
  EXPECT_EQ(actual, expected);
}

// ------------------------------------------------------------------------------------------------ own simplifier
using Counts = std::map<std::string, int>;

Counts count_types(const Graph& graph) {
  Counts counts;
  for (const Operation* operation : graph.operations()) ++counts[operation->type()];
  return counts;
}

/// Ours minus theirs.
Counts surplus(const Counts& ours, Counts theirs) {
  Counts result;
  for (const auto& [type, count] : ours) theirs[type] -= count;
  for (const auto& [type, count] : theirs)
    if (count != 0) result[type] = -count;
  return result;
}

struct Explained {
  Counts difference;  // operations in our graph more (less) than in onnxsim's
  const char* reason;
};

const std::map<std::string, Explained>& explanations() {
  static const char* const kBias = "an Add joins the bias that is there already; onnxsim only fills a missing one";
  static const char* const kBehind =
      "a factor joins the weights behind it also when it stands behind a Div or reduction";
  static const char* const kUntouched =
      "there is no file of onnxsim's to compare with: zero states are folded and projections become Gemm as everywhere";
  static const char* const kSwish = "x * Sigmoid(x) is one operation";
  static const char* const kTransposed =
      "a Transpose moves in front of the Reshape that follows from a MatMul with vectors, and the next Reshape joins "
      "that one";
  static const std::map<std::string, Explained> table{
      {"cls",
       {{{"Add", -18}, {"Clip", -18}, {"Div", -18}, {"HardSwish", 18}, {"Mul", -18}},
        "x * Clip(x + 3) / 6 is HardSwish"}},
      {"constant_operands", {{{"Add", -1}}, kBias}},
      {"fails_batch_norm_1d",
       {{{"BatchNormalization", -1}, {"Conv", 1}}, "BatchNormalization behind no Conv is a depthwise Conv"}},
      {"fails_bias_then_add", {{{"Add", -1}}, kBias}},
      {"fails_gru_zero_state",
       {{{"Add", -1},
         {"Concat", -1},
         {"Expand", -1},
         {"Gather", -1},
         {"Gemm", 1},
         {"MatMul", -1},
         {"Reshape", 2},
         {"Shape", -1},
         {"Squeeze", -1},
         {"Unsqueeze", -1}},
        kUntouched}},
      {"fails_lstm_zero_state",
       {{{"Add", -1},
         {"Concat", -2},
         {"Expand", -2},
         {"Gather", -2},
         {"Gemm", 1},
         {"MatMul", -1},
         {"Reshape", 2},
         {"Shape", -2},
         {"Squeeze", -1},
         {"Unsqueeze", -2}},
        kUntouched}},
      {"fails_qkv_on_input", {{{"Add", -3}, {"Gemm", 3}, {"MatMul", -3}, {"Reshape", 4}}, kUntouched}},
      {"fails_selu_round", {{{"Div", -1}}, kBehind}},
      {"float_islands",
       {{{"Add", -1}, {"Div", -1}, {"Erf", -1}, {"Gelu", 1}, {"Mul", -1}},
        "the Erf spelling of Gelu is one operation"}},
      {"gru", {{{"Squeeze", -1}}, kTransposed}},
      {"lstm", {{{"Squeeze", -1}}, kTransposed}},
      {"matmul_dynamic",
       {{{"Add", -3}, {"Gemm", 3}, {"MatMul", -1}, {"Reshape", -1}, {"Split", -1}},
        "three projections of one value become three Gemms; onnxsim joins their weights and splits the result, which "
        "gives "
        "them one scale"}},
      {"reduce_others", {{{"Mul", -1}}, kBehind}},
      {"transpose_reshape", {{{"Reshape", -1}}, kTransposed}},
      {"swish", {{{"Mul", -2}, {"Sigmoid", -2}, {"Swish", 2}}, kSwish}},
      {"yolo_head", {{{"Mul", -4}, {"Sigmoid", -4}, {"Swish", 4}}, kSwish}},
  };
  return table;
}

TEST_P(PeerModels, SimplifiesAsOnnxsimDoes) {
  const Graph imported = import_onnx(peer_cases().folder / GetParam() / "model.onnx");
  Graph graph = imported.clone();
  simplify(graph);
  expect_same_function(imported, graph);
  const Graph theirs = import_onnx(simplified_file(GetParam()));
  const auto found = explanations().find(GetParam());
  const bool differs = found != explanations().end();
  EXPECT_EQ(surplus(count_types(graph), count_types(theirs)), differs ? found->second.difference : Counts{})
      << (differs ? found->second.reason : "");
}

}  // namespace
}  // namespace espq
