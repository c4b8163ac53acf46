#pragma once
#include <string_view>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "core/support/enum_names.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

/// Which slots of an operation share one scale, because the chip computes on raw integers.
enum class AlignMethod {
  None,    ///< every slot keeps its own
  Output,  ///< operands take the scale of output 0
  Input,   ///< outputs take the scale of operand 0
  Large,   ///< all operands take the widest of their scales
  Best,    ///< operands and result take the scale with the smallest squared error on the calibration data
};

template <>
struct EnumNames<AlignMethod> {
  static const std::vector<std::pair<AlignMethod, std::string_view>> values;
};

struct AlignOptions {
  AlignMethod elementwise = AlignMethod::Best;  ///< Add, Sub, Sum: None, Output, Large or Best
  AlignMethod concat = AlignMethod::Best;       ///< Concat, ScatterND: None, Output, Large or Best
  AlignMethod pooling = AlignMethod::None;      ///< AveragePool, GlobalAveragePool: None, Output or Input
  AlignMethod resize = AlignMethod::Output;     ///< None, Output or Input
  AlignMethod comparison = AlignMethod::Large;  ///< Greater, Less, Equal ...: None or Large
  bool recurrent = true;                        ///< GRU, LSTM: the hidden state shares the scale of output 0
  /// Also move the scale of a producer that feeds other operations too or only moves values; without it such an edge
  /// is requantized instead.
  bool force_overlap = false;
  int64_t batches = 8;  ///< of the calibration data that Best looks at, at least one
};

template <class Fields>
void describe(Fields& fields, AlignOptions& options) {
  fields("elementwise", options.elementwise);
  fields("concat", options.concat);
  fields("pooling", options.pooling);
  fields("resize", options.resize);
  fields("comparison", options.comparison);
  fields("recurrent", options.recurrent);
  fields("force_overlap", options.force_overlap);
  fields("batches", options.batches);
}

/// Aligns the operations of the table's alignment classes in topological order; a chain of them ends on the last scale,
/// unless that is finer than a sum in the chain bears. A producer whose result only this operation reads takes the
/// common scale; other operands are requantized on their way, as are those of another width.
/// Where the chip gives codes on as they are (MaxPool, Slice ...; PRelu at 16 bit and on chips without vector units),
/// input and outputs take the widest of their scales, if no tie made them equal already.
/// Throws UserError when a method does not fit its class, or there is no batch to look at.
PassReport align_scales(Graph& graph, const Dataset& data, const AlignOptions& options, const Quirks& quirks = {});

}  // namespace espq
