#include "tests/random_networks/drawing.h"

#include <algorithm>

#include "core/exec/executor.h"
#include "core/support/error.h"

namespace espq::random_networks {
namespace {

constexpr size_t kBatches = 4;
constexpr int64_t kMostElements = 6000;
constexpr double kLargest = 3000, kSmallest = 1e-4;

std::string serialized(onnx_file::Model model, const std::vector<Value>& wanted) {
  model.outputs.clear();
  for (const Value& value : wanted) model.outputs.push_back(test::OnnxModelBuilder::value(value.name, {}, value.dtype));
  return onnx_file::serialize_model(model);
}

bool is_read(const onnx_file::Model& model, const std::string& name) {
  return std::any_of(model.nodes.begin(), model.nodes.end(), [&](const onnx_file::Node& node) {
    return std::find(node.inputs.begin(), node.inputs.end(), name) != node.inputs.end();
  });
}

}  // namespace

Drawing::Drawing(uint64_t seed) : random(seed) {
  state_.model.ir_version = 8;
  state_.model.graph_name = "random";
  state_.model.opsets[""] = 18;
  // Opset 17 gives the axes of most reductions as attributes.
  if (random.chance(0.15)) state_.fixed_opset = state_.model.opsets[""] = 17;
  state_.batches.resize(kBatches);
}

// ---------------------------------------------------------------------------------------------------- operands
Shape Drawing::shape(int64_t rank) {
  if (rank == 0) return {};
  if (rank == 1) return {random.integer(1, 32)};
  Shape result{random.chance(0.9) ? 1 : 2, random.pick<int64_t>({1, 2, 3, 4, 5, 6, 8, 8, 12, 16, 16, 17, 24})};
  for (int64_t i = 2; i < rank; ++i) result.push_back(rank < 5 ? random.integer(1, 9) : random.integer(1, 4));
  return result;
}

at::Tensor Drawing::input_values(const Shape& shape, int64_t kind) {
  if (kind == 0) return random.normal(shape);
  if (kind == 1) return random.uniform(shape, 0, 1);
  if (kind == 2) return random.normal(shape, 3, 1);
  return random.uniform(shape, -0.25, 0.25);
}

Value Drawing::graph_input(const Shape& shape) {
  Value value{.name = fmt::format("x{}", state_.model.inputs.size()), .shape = shape};
  state_.model.inputs.push_back(test::OnnxModelBuilder::value(value.name, shape));
  const int64_t kind = random.pick<int64_t>({0, 0, 0, 1, 2, 3});
  for (Dataset::Batch& batch : state_.batches) batch[value.name] = input_values(shape, kind);
  state_.values.push_back(value);
  return value;
}

std::optional<Value> Drawing::operand(const std::vector<int64_t>& ranks) {
  std::vector<Value> suitable;
  for (const Value& value : state_.values)
    if (value.dtype == at::kFloat && value.elements() > 0 &&
        (ranks.empty() || std::find(ranks.begin(), ranks.end(), value.rank()) != ranks.end()))
      suitable.push_back(value);
  const bool first = state_.values.empty();
  if (first || (state_.model.inputs.size() < 3 && random.chance(suitable.empty() ? 0.2 : 0.07))) {
    const std::vector<int64_t> usual{1, 2, 2, 3, 3, 4, 4, 4, 4, 5};
    return graph_input(shape(random.pick(ranks.empty() ? usual : ranks)));
  }
  if (suitable.empty()) return std::nullopt;
  return random.chance(0.75) ? suitable.back() : random.pick(suitable);
}

std::optional<Value> Drawing::existing(at::ScalarType dtype) {
  std::vector<Value> suitable;
  for (const Value& value : state_.values)
    if (value.dtype == dtype) suitable.push_back(value);
  return suitable.empty() ? std::nullopt : std::optional(random.pick(suitable));
}

std::optional<Value> Drawing::existing_for(const Shape& shape) {
  std::vector<Value> suitable;
  for (const Value& value : state_.values) {
    bool fits = value.dtype == at::kFloat && value.shape.size() <= shape.size();
    for (size_t i = 0; fits && i < value.shape.size(); ++i) {
      const int64_t size = value.shape[value.shape.size() - 1 - i];
      fits = size == 1 || size == shape[shape.size() - 1 - i];
    }
    if (fits) suitable.push_back(value);
  }
  return suitable.empty() ? std::nullopt : std::optional(random.pick(suitable));
}

// ---------------------------------------------------------------------------------------------------- constants
std::string Drawing::constant(const at::Tensor& value) {
  state_.model.initializers.push_back(onnx_file::from_tensor(value));
  return state_.model.initializers.back().name = fmt::format("n{}_c{}", nodes() + 1, ++state_.constants);
}

std::string Drawing::integers(const std::vector<int64_t>& values) { return constant(at::tensor(values, at::kLong)); }

at::Tensor Drawing::weights(const Shape& shape, int64_t fan_in) {
  const double deviation =
      random.pick({0.5, 1.0, 1.0, 2.0}) / std::sqrt(static_cast<double>(std::max<int64_t>(fan_in, 1)));
  at::Tensor values = random.normal(shape, deviation);
  if (!shape.empty() && random.chance(0.2)) {
    Shape rows(shape.size(), 1);
    rows[0] = shape[0];
    values = values * at::exp2(random.uniform(rows, -2, 2));
  }
  return values;
}

// ---------------------------------------------------------------------------------------------------- nodes
void Drawing::node(const std::string& type, std::vector<std::string> inputs, Attributes attributes, int64_t outputs) {
  node_with(type, std::move(inputs), std::move(attributes), std::vector<bool>(static_cast<size_t>(outputs), true));
}

void Drawing::node_with(const std::string& type, std::vector<std::string> inputs, Attributes attributes,
                        const std::vector<bool>& wanted) {
  onnx_file::Node node;
  node.type = type;
  node.name = fmt::format("n{}_{}", nodes() + 1, type);
  while (!inputs.empty() && inputs.back().empty()) inputs.pop_back();
  node.inputs = std::move(inputs);
  node.attributes = std::move(attributes);
  for (size_t i = 0; i < wanted.size(); ++i)
    node.outputs.push_back(!wanted[i]           ? ""
                           : wanted.size() == 1 ? node.name + "_y"
                                                : fmt::format("{}_y{}", node.name, i));
  while (!node.outputs.empty() && node.outputs.back().empty()) node.outputs.pop_back();
  state_.model.nodes.push_back(std::move(node));
}

bool Drawing::needs_opset(int64_t opset) {
  if (state_.fixed_opset) return *state_.fixed_opset >= opset;
  int64_t& now = state_.model.opsets[""];
  now = std::max(now, opset);
  state_.model.ir_version = now <= 18 ? 8 : now <= 20 ? 9 : now <= 22 ? 10 : now <= 23 ? 11 : 12;
  return true;
}

// ---------------------------------------------------------------------------------------------------- progress
Drawing::Result Drawing::evaluate() {
  std::vector<Value> made;
  for (const onnx_file::Node& node : state_.model.nodes)
    for (const std::string& name : node.outputs)
      if (!name.empty() && std::none_of(state_.values.begin(), state_.values.end(),
                                        [&](const Value& value) { return value.name == name; }))
        made.push_back({.name = name});
  Graph graph;
  try {
    graph = import_onnx_bytes(serialized(state_.model, made), "random.onnx", ".");
  } catch (const UserError&) {
    return Result::Refused;
  } catch (const std::exception&) {
    return Result::Broken;
  }
  try {
    Executor executor(graph, Precision::Float);
    const Dataset data(state_.batches);
    for (size_t batch = 0; batch < data.size(); ++batch) {
      const Tensors results = executor.run(data.inputs(graph, batch));
      for (size_t i = 0; i < made.size(); ++i) {
        const at::Tensor values = results[i].to(at::kDouble);
        if (values.numel() == 0 || values.numel() > kMostElements) return Result::Useless;
        const double low = values.min().item<double>(), high = values.max().item<double>();
        const double size = std::max(-low, high);
        if (!std::isfinite(low) || !std::isfinite(high) || size > kLargest) return Result::Useless;
        if (size > 0 && size < kSmallest) return Result::Useless;
        made[i].shape = results[i].sizes().vec();
        made[i].dtype = results[i].scalar_type();
        made[i].lowest = batch ? std::min(made[i].lowest, low) : low;
        made[i].highest = batch ? std::max(made[i].highest, high) : high;
      }
    }
  } catch (const UserError&) {
    return Result::Useless;
  } catch (const std::exception&) {
    return Result::Broken;
  }
  state_.values.insert(state_.values.end(), made.begin(), made.end());
  return Result::Good;
}

void Drawing::finish() {
  onnx_file::Model& model = state_.model;
  // Inputs that nothing reads were for nodes that were taken back.
  std::erase_if(model.inputs, [&](const onnx_file::Value& input) { return !is_read(model, input.name); });
  for (Dataset::Batch& batch : state_.batches)
    std::erase_if(batch, [&](const auto& entry) { return !is_read(model, entry.first); });
  for (const onnx_file::Node& node : model.nodes)
    for (const std::string& name : node.outputs) {
      const auto value = std::find_if(state_.values.begin(), state_.values.end(),
                                      [&](const Value& each) { return each.name == name; });
      if (name.empty() || (is_read(model, name) && !random.chance(0.1))) continue;
      const bool known = value != state_.values.end();
      model.outputs.push_back(
          test::OnnxModelBuilder::value(name, known ? value->shape : Shape{}, known ? value->dtype : at::kFloat));
      if (!known) model.outputs.back().shape.reset();
    }
}

}  // namespace espq::random_networks
