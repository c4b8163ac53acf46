#pragma once
#include <ATen/core/Generator.h>

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"

namespace espq::test {

/// Small graphs written down in tests, one line per operation:
///     GraphBuilder net;
///     Variable* c = net.conv("conv", net.input({1, 3, 8, 8}), 4);
///     net.outputs({net.op("Relu", "relu", {c})});
/// The name stands first and may be left out; an operation and its result carry the same one. Shapes and dtypes are
/// recorded as the graph grows, so that it is complete after every line. Random constants come from a generator of the
/// builder's own: the same graph gives the same numbers in every run.
class GraphBuilder {
 public:
  Graph graph;
  int exponent = -4;  ///< of the slots that quantized() makes

  explicit GraphBuilder(uint64_t seed = 7);
  /// For quantized graphs.
  explicit GraphBuilder(std::string_view target, uint64_t seed = 7);

  // --- tensors -------------------------------------------------------------------------------------------------------
  Variable* input(std::string_view name, Shape shape, at::ScalarType dtype = at::kFloat);
  Variable* input(Shape shape, at::ScalarType dtype = at::kFloat) { return input("x", std::move(shape), dtype); }
  Variable* constant(std::string_view name, at::Tensor value);
  Variable* constant(at::Tensor value) { return constant({}, std::move(value)); }
  Variable* scalar(double value);
  Variable* integers(std::string_view name, const std::vector<int64_t>& values);
  Variable* integers(const std::vector<int64_t>& values) { return integers({}, values); }
  /// Normally distributed.
  Variable* random(std::string_view name, const Shape& shape, double deviation = 0.3);
  Variable* random(const Shape& shape, double deviation = 0.3) { return random({}, shape, deviation); }
  Variable* uniform(std::string_view name, const Shape& shape, double low, double high);
  void output(Variable* variable) { graph.add_output(*variable); }
  void outputs(std::vector<Variable*> variables) { graph.set_outputs(std::move(variables)); }

  // --- float operations ----------------------------------------------------------------------------------------------
  Variable* op(std::string_view type, std::string_view name, std::vector<Variable*> operands,
               AttributeMap attributes = {});
  Variable* op(std::string_view type, std::vector<Variable*> operands, AttributeMap attributes = {}) {
    return op(type, {}, std::move(operands), std::move(attributes));
  }
  /// One with several results: `name`, `name.1` ...
  std::vector<Variable*> op_with_results(size_t count, std::string_view type, std::string_view name,
                                         std::vector<Variable*> operands, AttributeMap attributes = {});
  /// A convolution with bias that keeps height and width; parameters `name.weight` and `name.bias`.
  Variable* conv(std::string_view name, Variable* source, int64_t channels, int64_t kernel = 3);
  Variable* conv(Variable* source, int64_t channels, int64_t kernel = 3) { return conv({}, source, channels, kernel); }

  // --- quantized graphs: 8 bit, every tensor at `exponent`
  // ------------------------------------------------------------
  /// Operands that are integers stay as they are.
  Variable* quantized(std::string_view type, std::string_view name, std::vector<Variable*> operands,
                      AttributeMap attributes = {});
  /// An operation that stays float among quantized ones.
  Variable* floating(std::string_view type, std::string_view name, std::vector<Variable*> operands,
                     AttributeMap attributes = {});
  /// A convolution without bias that keeps height and width; weights `name.weight` lie on the grid 2^exponent.
  Variable* quantized_conv(std::string_view name, Variable* source, int64_t channels, int64_t kernel = 1);
  SlotQuant slot(int bits, std::vector<int> exponents, int channel_axis = -1, SlotState state = SlotState::Quantizes);

  // --- what is there -------------------------------------------------------------------------------------------------
  Operation& operation(std::string_view name);
  const SlotQuant& in(std::string_view name, size_t slot = 0) { return operation(name).input_quant().at(slot); }
  const SlotQuant& out(std::string_view name, size_t slot = 0) { return operation(name).output_quant().at(slot); }
  const std::vector<int>& exponents(const SlotQuant& slot) const { return slot_exponents(graph, slot); }
  /// Normally distributed batches for every input, the same ones at each call.
  Dataset data(int64_t batches = 3) const;

 private:
  at::Generator generator_;
  std::unordered_map<const Variable*, at::Tensor> samples_;  ///< what every tensor is when the inputs are zeros
};

/// Types of the operations in the order of the file.
std::vector<std::string> types(const Graph& graph);
/// Names of the operations in the order in which they stand in the graph.
std::vector<std::string> operation_names(const Graph& graph);

}  // namespace espq::test
