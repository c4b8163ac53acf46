#pragma once
#include <string_view>
#include <unordered_map>

#include "torch_frontend/call.h"

namespace espq::torch_frontend {

using Table = std::unordered_map<std::string_view, TableEntry>;

/// Padding of both ends, as ONNX writes it, from LibTorch's symmetric one.
inline Call::Integers both_ends(const Call::Integers& padding) {
  Call::Integers pads = padding;
  pads.insert(pads.end(), padding.begin(), padding.end());
  return pads;
}

/// Adds the batch dimension that LibTorch lets the user leave out in front of `axes` spatial ones, and takes it off
/// again.
class Batched {
 public:
  Batched(Call& call, std::string_view operand, size_t axes)
      : input(call.tensor(operand)), call_(call), missing_(call.rank(operand) == static_cast<int64_t>(axes) + 1) {
    if (missing_) input = call.unsqueeze(input, {0});
  }
  Variable* input;
  Variable* finish(Variable* output) const { return missing_ ? call_.squeeze(output, {0}) : output; }

 private:
  Call& call_;
  bool missing_;
};

// One per file: the operators of a family.
void add_convolutions(Table& table);
void add_products(Table& table);
void add_attention(Table& table);
void add_activations(Table& table);
void add_arithmetic(Table& table);
void add_comparisons(Table& table);
void add_shapes(Table& table);
void add_joins(Table& table);
void add_indexing(Table& table);
void add_reductions(Table& table);
void add_pooling(Table& table);
void add_resizing(Table& table);
void add_normalizations(Table& table);
void add_recurrent(Table& table);
void add_linear_maps(Table& table);

}  // namespace espq::torch_frontend
