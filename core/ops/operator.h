#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

using Tensors = std::vector<at::Tensor>;

// ---------------------------------------------------------------------------------------------------- operands
/// What an operand is to the quantizer.
enum class OperandRole {
  Data,     ///< may be quantized
  Index,    ///< shape-like (axes, pads, indices, scales ...): never quantized
  Follows,  ///< a value on the grid of input 0 (Clip bounds, Pad value)
};

struct OperandSpec {
  std::string_view name;
  OperandRole role = OperandRole::Data;
  bool optional = false;
  bool variadic = false;  ///< last operand only: any number of them
};

/// Expected type of an attribute and, where the standard gives one, its default.
struct AttributeSpec {
  std::string_view name;
  enum class Type { Int, Float, String, Ints, Floats, Strings, Tensor } type;
  std::optional<Attribute> fallback = std::nullopt;
  bool required = false;
};

// ---------------------------------------------------------------------------------------------------- arithmetic
/// Float semantics, NCHW, differentiable. Omitted operands are undefined tensors. `chip` asks for the chip library's
/// reading where it differs from ONNX in shape-preserving ways (AveragePool divides by the whole kernel area,
/// Resize coordinates); it is set in Simulated and Board precision and during calibration.
/// `lowered` tells that the operation belongs to a chip graph, where Gemm's operand 1 is always [N, K].
/// A fused `activation` attribute is not the kernel's business: the executor applies it.
struct ForwardContext {
  const Operation& operation;
  bool chip = false;
  bool lowered = false;
  const Target* target = nullptr;  ///< chip of a lowered graph (the blocks of a packed MatMul operand depend on it)
};
using ForwardFunction = Tensors (*)(const ForwardContext&, const Tensors& inputs);

/// Grid of one operand in a chip graph.
struct Grid {
  int bits = 0;  ///< 8, 16 (activations, weights), wider for biases; 0 = not quantized (float, int64, bool)
  std::vector<int> exponents;  ///< one, or one per output channel
  int exponent() const { return exponents.at(0); }
  bool quantized() const { return bits != 0; }
};

/// Grid of a slot of a quantized graph, whether it rounds to it or what reaches it is there already.
inline Grid slot_grid(const Graph& graph, const SlotQuant& slot) { return {slot.bits, slot_exponents(graph, slot)}; }

/// Everything an exact kernel may depend on. Codes are integers held in float32 tensors (float64 for operands wider
/// than 16 bits); tensors that are not quantized come as they are (float32, int64, bool). Channels-last operators get
/// NCHW views and give NCHW results: the executor permutes.
struct BoardContext {
  const Operation& operation;
  const Target& target;
  std::vector<Grid> inputs, outputs;
  Tensors parameters;  ///< per input slot: codes of a constant operand, undefined for activations and omitted operands
  at::Tensor table;    ///< codes of the table that attribute `lut` names; undefined without one
};
/// Called once when a plan is compiled; returns the kernel that a step runs.
using BoardKernel = std::function<Tensors(const Tensors& inputs)>;
using BoardFactory = BoardKernel (*)(const BoardContext&);

/// Runs `forward` on raw codes: right for operators that only move values (equal exponents on both sides).
BoardKernel board_on_codes(const BoardContext& context);
/// Runs `forward` on dequantized float32 values and rounds the result to the output grid.
BoardKernel board_on_values(const BoardContext& context);

// ---------------------------------------------------------------------------------------------------- quantization
/// Which scale ties the alignment pass makes (spec: pipeline 8.7).
enum class AlignmentClass { None, Elementwise, Concat, Pooling, Resize, Comparison, Recurrent };

struct QuantizationRule {
  bool quantizable = false;   ///< false: stays float unless dispatched explicitly
  bool computing = false;     ///< multiplies by weights: the unit of error analysis and block building
  bool passive = false;       ///< no arithmetic: output shares the scale of input 0
  bool converts = false;      ///< only brings a tensor to another exponent or width (the three ...QuantizeLinear types)
  bool float_output = false;  ///< result is not quantized (Softmax, comparisons)
  bool product = false;       ///< integer product of operands 0 and 1 and one right shift: Conv, Gemm, MatMul, Mul
  bool bias = false;          ///< operand 2 is a bias with exponent e_input + e_weight
  /// Axis of the output channels of operand 1 for per-channel targets; nullptr = weights always per tensor.
  int (*weight_channel_axis)(const Operation&) = nullptr;
  bool fused_activation = false;  ///< Relu, Clip: shares its scale with the operation in front of it
  AlignmentClass alignment = AlignmentClass::None;
  /// Operands that stay float although their role is Data (RMSNormalization scale, Attention mask).
  std::vector<int> float_operands = {};
  /// Operands and outputs that live on the recurrent cells' internal grid: 16 bit, exponent -9 (bias, cell state).
  std::vector<int> gate_operands = {}, gate_outputs = {};
  /// Operands whose infinite constants reach the output (Add, Where): readers of such an output stay float there.
  std::vector<int> mask_operands = {};
  /// True where the chip's kernel gives (some) codes on as they are, although the exponent changes: input and output
  /// then need one exponent. nullptr = nowhere.
  bool (*passes_codes)(const Target&, int bits) = nullptr;
  bool table_int8 = false;   ///< one-in one-out at 8 bit: exported as a table (which also serves what has no kernel)
  bool table_int16 = false;  ///< retyped to LUT at 16 bit (default list of the LUT pass)
};

// ---------------------------------------------------------------------------------------------------- layout
/// How the NHWC layout pass treats the operator (spec: espdl_format 5.6).
enum class LayoutRule {
  ChannelsLast,  ///< wants and gives channels-last (Conv, pools, DepthToSpace, InsertZeros ...)
  Follows,       ///< element-wise, one operand: output takes the layout of input 0
  Broadcast,     ///< element-wise, two operands: brought to one layout
  Axis,          ///< has an `axis` attribute or axes operand that is mapped through the layout
  Reduce,        ///< as Axis, and drops axes when keepdims = 0
  Concat,
  Resize,
  Slice,
  Restores,  ///< needs the ONNX order: transposes are inserted in front
};

// ---------------------------------------------------------------------------------------------------- chip
/// How the chip library wants the constant operand 1 of an integer operator: in which order it lies in memory and which
/// dims it declares. A Graph holds the plain order, the .espdl writer packs and its reader unpacks.
enum class WeightPacking {
  None,
  Filter,  ///< [N, C / group, H, W] or [N, C / group, W]; attribute `group`
  Linear,  ///< [N, K], declared as [1, 1, K, N]
  Matrix,  ///< [.., K, N], every matrix by itself, declared as it is
};

/// What the chip library (3.3.9) accepts.
struct ChipSupport {
  bool registered = false;
  bool int8 = false, int16 = false, float32 = false;
  int max_rank = 4;
  bool fused_relu = false;         ///< reads attribute `activation` ("Linear" or "Relu"): Conv, Gemm, MatMul
  bool reads_int16_table = false;  ///< at 16 bit its kernel needs the table that attribute `lut` names: LUT, Gelu
  WeightPacking packing = WeightPacking::None;
  std::string_view note = {};

  bool has_kernel(OperationWidth width) const {
    return registered && (width == OperationWidth::Int8 ? int8 : width == OperationWidth::Int16 ? int16 : float32);
  }
};

/// What a training step runs as one node of the gradient graph with the rounding of its result.
enum class TrainingNode : char { None, Convolution, Addition, Relu, Swish };

/// Everything about one operator.
struct OperatorDefinition {
  std::string_view name;
  std::vector<OperandSpec> inputs;
  std::vector<OperandSpec> outputs;
  std::vector<AttributeSpec> attributes;
  ForwardFunction forward = nullptr;
  BoardFactory board = nullptr;  ///< nullptr: no exact kernel, Board precision refuses the operator
  QuantizationRule quantization;
  LayoutRule layout = LayoutRule::Restores;
  TrainingNode training_node = TrainingNode::None;
  ChipSupport chip;

  /// A function for which the chip has no kernel, but which a table can hold.
  bool only_as_table() const { return !chip.registered && quantization.table_int8; }
  const OperandSpec& input_spec(size_t slot) const;  ///< the last variadic operand stands for all that follow
};

class Registry {
 public:
  void add(OperatorDefinition definition);
  const OperatorDefinition* find(std::string_view name) const;
  const std::vector<OperatorDefinition>& all() const { return definitions_; }

 private:
  std::vector<OperatorDefinition> definitions_;
  std::unordered_map<std::string, size_t> index_;
};

/// The table: one line per operator family.
void register_builtin_operators(Registry& registry);
/// The table, built once.
const Registry& operators();
/// Definition of the operation's type. Throws UserError naming the operation when the type is unknown.
const OperatorDefinition& definition_of(const Operation& operation);

/// Writes defaults of omitted attributes and checks names, types and required ones against the table; frontends call
/// it on every operation. Integers are accepted (and converted) where a float is expected. Throws UserError naming the
/// operation.
void normalize_attributes(Operation& operation);
/// Attributes as an exporter writes them: without those that normalize_attributes added and that still hold the
/// default.
AttributeMap explicit_attributes(const Operation& operation);
/// Checks links, arity and attribute types of the whole graph against the table. Throws InternalError.
void verify(const Graph& graph);

}  // namespace espq
