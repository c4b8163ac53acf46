#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/graph/graph.h"
#include "core/quant/grid.h"
#include "core/quant/target.h"

namespace espq {

using Tensors = std::vector<at::Tensor>;

// ---------------------------------------------------------------------------------------------------- operands
/// What an operand or an output is to the quantizer and to training.
enum class OperandRole {
  Data,        ///< a tensor of the network: may be quantized
  Weight,      ///< multiplied with the data, usually a constant: the operation is a layer
  Bias,        ///< added to the products: its exponent is that of operand 0 plus that of the weight
  Gate,        ///< on the recurrent cells' internal grid: 16 bit, exponent -9 (bias, cell state)
  Mask,        ///< data whose infinite constants reach the output (Add, Where): readers of the output stay float there
  Float,       ///< trained and read in float (RMSNormalization scale): never quantized
  Statistics,  ///< measured, not trained (mean and variance of BatchNormalization)
  Follows,     ///< a value on the grid of operand 0 (Clip bounds, Pad value)
  Index,       ///< shape-like (axes, pads, indices, scales ...): never quantized
};

/// A tensor of numbers that are computed with; false for Follows and Index.
inline bool is_operand_of_arithmetic(OperandRole role) {
  return role != OperandRole::Follows && role != OperandRole::Index;
}

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
  bool stated = false;  ///< the chip library assumes no default, or another one: files always have the attribute
};

// ---------------------------------------------------------------------------------------------------- arithmetic
/// Float semantics, NCHW, differentiable. Omitted operands are undefined tensors. `chip` asks for the chip library's
/// reading where it differs from ONNX in shape-preserving ways (AveragePool divides by the whole kernel area,
/// Resize coordinates); it is set in Simulated and Board precision and during calibration.
/// `lowered` tells that the operation belongs to a chip graph, where Gemm's operand 1 is always [N, K].
/// A fused Relu is not the kernel's business: the executor applies it.
struct ForwardContext {
  const Operation& operation;
  bool chip = false;
  bool lowered = false;
  const Target* target = nullptr;  ///< chip of a lowered graph (the blocks of a packed MatMul operand depend on it)
};
using ForwardFunction = Tensors (*)(const ForwardContext&, const Tensors& inputs);

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
  at::Tensor table;    ///< codes of the operation's look-up table; undefined without one
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
  bool passive = false;       ///< no arithmetic: output shares the scale of input 0
  bool converts = false;      ///< only brings a tensor to another exponent or width (the three ...QuantizeLinear types)
  bool float_output = false;  ///< result is not quantized (Softmax, comparisons)
  bool product = false;       ///< integer product of operands 0 and 1 and one right shift, as in linear operators: Mul
  bool fused_activation = false;  ///< Relu, Clip: shares its scale with the operation in front of it
  AlignmentClass alignment = AlignmentClass::None;
  /// True where the chip's kernel gives (some) codes on as they are, although the exponent changes: input and output
  /// then need one exponent. nullptr = nowhere.
  bool (*passes_codes)(const Target&, int bits) = nullptr;
  bool table_int8 = false;   ///< one-in one-out at 8 bit: exported as a table (which also serves what has no kernel)
  bool table_int16 = false;  ///< retyped to LUT at 16 bit (default list of the LUT pass)
};

// ---------------------------------------------------------------------------------------------------- linear
/// How the chip library wants a constant weight: in which order it lies in memory and which dims it declares. A Graph
/// holds the plain order, the .espdl writer packs and its reader unpacks.
enum class WeightPacking {
  None,
  Filter,  ///< [N, C / group, H, W] or [N, C / group, W]; attribute `group`
  Linear,  ///< [N, K], declared as [1, 1, K, N]
  Matrix,  ///< [.., K, N], every matrix by itself, declared as it is
};

/// How an operator with a weight is seen as a matrix: result = W x + bias, one row of W per output channel.
/// core/ops/linear.h reads and edits operations by it.
struct LinearRule {
  /// Axis of the weight along which output channels lie; input channels lie along the other one of its first two. (In
  /// chip graphs a weight that is packed as Filter or Linear has its output channels first.)
  int (*row_axis)(const Operation&) = nullptr;
  int channel_axis = 1;       ///< of the channels in data and result; -1 = the last axis
  bool row_exponents = true;  ///< every row may have an exponent of its own where the chip can do that
  WeightPacking packing = WeightPacking::None;
};

/// Operands with one number per channel of the last axis, which multiply the result and are added to it last: whoever
/// scales both scales the channels of the result. They may have other shapes, too, which are none of this rule's.
struct GainRule {
  size_t gain;
  std::optional<size_t> offset = std::nullopt;
};

// ---------------------------------------------------------------------------------------------------- layout
/// How the NHWC layout pass treats the operator (spec: espdl_format 5.6).
enum class LayoutRule {
  ChannelsLast,  ///< wants and gives channels-last (Conv, pools, DepthToSpace, InsertZeros ...)
  Elementwise,   ///< one operand: output takes the layout of input 0
  Broadcast,     ///< element-wise, two operands: brought to one layout
  Axis,          ///< has an `axis` attribute or axes operand that is mapped through the layout
  Reduce,        ///< as Axis, and drops axes when keepdims = 0
  Concat,
  Resize,
  Slice,
  Restores,  ///< needs the ONNX order: transposes are inserted in front
};

// ---------------------------------------------------------------------------------------------------- chip
/// Where a file is to run.
struct Deployment {
  const Target& target;
  RuntimeLevel runtime_level = RuntimeLevel::V3_3_9;
};

/// Why the chip cannot run an operation as it is.
struct Refusal {
  enum class Kind {
    Kernel,      ///< the chip library has none: the file loads only where the application registers one
    Form,        ///< there is a kernel, which computes something else, reads outside its buffers or aborts
    Unwritable,  ///< a file cannot say it
  } kind;
  std::string why, remedy;
};

/// Something that the kernels of an operator cannot do, in words and as code.
struct Limit {
  std::string_view what;  ///< "dilation", "more than two spatial axes": completes "the chip library does not take ..."
  std::string_view remedy;
  /// True for an operation that asks for it. Before lowering tensors have no grids yet: limits of exponents show in
  /// chip graphs only.
  bool (*asked)(const Operation&, const Deployment&, Width);
  /// Chips and libraries with the limit; nullptr = all.
  bool (*holds)(const Deployment&) = nullptr;
  Refusal::Kind kind = Refusal::Kind::Form;
};

/// Widths for which the chip library has a kernel.
struct KernelWidths {
  bool int8 = false, int16 = false, float32 = false;
};
inline constexpr KernelWidths kAllWidths{.int8 = true, .int16 = true, .float32 = true};
inline constexpr KernelWidths kIntegerWidths{.int8 = true, .int16 = true};

/// What the chip library computes and what it accepts.
struct ChipSupport {
  BoardFactory board = nullptr;    ///< nullptr: no exact kernel, Board precision refuses the operator
  KernelWidths kernels = {};       ///< none = not registered
  bool fused_relu = false;         ///< its kernel can apply a Relu to the result: Conv, Gemm, MatMul
  bool reads_int16_table = false;  ///< at 16 bit its kernel needs a look-up table: LUT, Gelu
  bool needs_all_outputs = false;  ///< its kernel looks for outputs that nobody reads, too: GRU, LSTM
  std::vector<Limit> limits = {};
  std::string_view note = {};  ///< what is worth knowing and no limit

  bool registered() const { return kernels.int8 || kernels.int16 || kernels.float32; }
};

// ---------------------------------------------------------------------------------------------------- training
struct TrainingContext;  // core/ops/training/training.h
/// An operation of a training step as one node of the gradient graph: takes operands as they come, gives the result as
/// its readers see it.
using TrainingNode = std::function<at::Tensor(const Tensors& inputs)>;
/// nullptr where `forward` between its slots' roundings does as well.
using TrainingFactory = TrainingNode (*)(const TrainingContext&);

/// What training knows of the operator beside `forward`. Rows without it train through forward and rounding.
struct TrainingRule {
  TrainingFactory node = nullptr;
  bool rectifies = false;  ///< max(x, 0), which the rounding of its result can do on the way
};

/// Everything about one operator.
struct OperatorDefinition {
  std::string_view name;
  std::vector<OperandSpec> inputs = {};
  std::vector<OperandSpec> outputs = {};
  std::vector<AttributeSpec> attributes = {};
  ForwardFunction forward = nullptr;
  QuantizationRule quantization = {};
  std::optional<LinearRule> linear = std::nullopt;  ///< of operators that multiply by a weight
  std::optional<GainRule> gain = std::nullopt;      ///< of normalizations
  /// Of an operator that only clamps its operand 0 (Relu, Clip): where, by the operands as they are used.
  ClipBounds (*bounds)(const Tensors& operands) = nullptr;
  bool ignores_shift = false;  ///< one number added to all of operand 0 does not change the result (Softmax)
  LayoutRule layout = LayoutRule::Restores;
  Stage first_stage = Stage::Float;  ///< graphs of earlier stages do not contain it
  ChipSupport chip = {};
  TrainingRule training = {};

  /// A function for which the chip has no kernel, but which a table can hold.
  bool only_as_table() const { return !chip.registered() && quantization.table_int8; }
  const OperandSpec& input_spec(size_t slot) const;  ///< the last variadic operand stands for all that follow
  const OperandSpec& output_spec(size_t slot) const;
  std::optional<size_t> input_slot(OperandRole role) const;  ///< the first operand of that role
  /// Multiplies by weights: the unit of error analysis and block building.
  bool has_weights() const { return input_slot(OperandRole::Weight).has_value(); }
  /// Integer product of operands 0 and 1 and one right shift.
  bool shifts_products() const { return linear.has_value() || quantization.product; }
};

/// The operators that espq knows, one definition per name.
class Registry {
 public:
  /// Throws InternalError when two have one name.
  explicit Registry(std::vector<OperatorDefinition> definitions);
  const OperatorDefinition* find(std::string_view name) const;
  const std::vector<OperatorDefinition>& all() const { return definitions_; }

 private:
  std::vector<OperatorDefinition> definitions_;
  std::unordered_map<std::string_view, size_t> index_;
};

/// Built once from the families (core/ops/families.h).
const Registry& operators();
/// Definition of the operation's type. Throws UserError naming the operation when the type is unknown.
const OperatorDefinition& definition_of(const Operation& operation);

/// As messages say it: "chip library 3.3.9".
std::string_view library_name(RuntimeLevel level);
/// Whether a chip library of that level has a kernel of that width for the operator.
bool has_kernel(const OperatorDefinition& definition, RuntimeLevel level, Width width);
/// A layer with constant weights of one group, whose weights may have 8 bits where its activations have 16.
bool takes_8bit_weights(const Operation& operation);
/// Why `deployment` cannot run the operation with kernels of that width; nullopt when it can, as far as is known.
std::optional<Refusal> refuses(const Operation& operation, const Deployment& deployment, Width width);

/// Writes defaults of omitted attributes and checks names, types and required ones against the definition; frontends
/// call it on every operation. Integers are accepted (and converted) where a float is expected. Throws UserError naming
/// the operation.
void normalize_attributes(Operation& operation);
/// Checks names, types and required attributes without writing any. Throws UserError naming the operation.
void check_attributes(const Operation& operation);
/// Attributes as an exporter writes them: without those that normalize_attributes added and that still hold the
/// default.
AttributeMap explicit_attributes(const Operation& operation);
/// Checks that the graph holds what its stage may contain and nothing else: links, arity, attributes, shapes, slots
/// with their scales, storage formats, facts of the chip. Throws InternalError naming the place. The cost is that of a
/// walk.
void verify(const Graph& graph);

}  // namespace espq
