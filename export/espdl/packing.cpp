#include "export/espdl/packing.h"

#include <ATen/ATen.h>

#include "core/support/error.h"

namespace espq {
namespace {

/// A filter seen as [N, C, S]: output channels, channels per group, spatial positions.
struct FilterSize {
  int64_t outputs, channels, positions;
};

FilterSize filter_size(const Shape& shape) {
  int64_t positions = 1;
  for (size_t axis = 2; axis < shape.size(); ++axis) positions *= shape[axis];
  return {shape[0], shape[1], positions};
}

// The two orders in which chunks of the memory lie; permutations of [N, C, S].
const std::vector<int64_t> kOutputsFirst{0, 2, 1}, kOutputsLast{1, 2, 0};
// Grouped filters of chips without vector unit.
const std::vector<int64_t> kPositionsFirst{2, 1, 0};

at::Tensor permuted_back(const at::Tensor& flat, const FilterSize& size, const std::vector<int64_t>& order) {
  const int64_t extents[] = {size.outputs, size.channels, size.positions};
  std::vector<int64_t> stored(3), inverse(3);
  for (int64_t axis = 0; axis < 3; ++axis) {
    stored[axis] = extents[order[axis]];
    inverse[order[axis]] = axis;
  }
  return flat.reshape(stored).permute(inverse);
}

at::Tensor pack_filter(const at::Tensor& filter, const FilterSize& size, bool grouped, int64_t block) {
  const at::Tensor value = filter.reshape({size.outputs, size.channels, size.positions});
  if (block == 0) return value.permute(grouped ? kPositionsFirst : kOutputsFirst).reshape({-1});
  const int64_t aligned = size.outputs / block * block;
  const at::Tensor blocks =
      value.slice(0, 0, aligned).reshape({aligned / block, block, size.channels, size.positions}).permute({0, 3, 2, 1});
  const at::Tensor rest = value.slice(0, aligned).permute(grouped ? kOutputsLast : kOutputsFirst);
  return at::cat({blocks.reshape({-1}), rest.reshape({-1})});
}

at::Tensor unpack_filter(const at::Tensor& memory, const FilterSize& size, bool grouped, int64_t block) {
  if (block == 0) return permuted_back(memory, size, grouped ? kPositionsFirst : kOutputsFirst);
  const int64_t aligned = size.outputs / block * block, split = aligned * size.channels * size.positions;
  const at::Tensor blocks = memory.slice(0, 0, split)
                                .reshape({aligned / block, size.positions, size.channels, block})
                                .permute({0, 3, 2, 1})
                                .reshape({aligned, size.channels, size.positions});
  const FilterSize rest{size.outputs - aligned, size.channels, size.positions};
  return at::cat({blocks, permuted_back(memory.slice(0, split), rest, grouped ? kOutputsLast : kOutputsFirst)});
}

}  // namespace

WeightFormat weight_format(const OperatorDefinition* definition, size_t slot, Width kernels, int64_t groups,
                           bool vector_unit) {
  const bool weight = definition && definition->linear && slot == definition->input_slot(OperandRole::Weight);
  if (!weight || kernels.is_float() || definition->linear->packing == WeightPacking::None) return {};
  const bool filter = definition->linear->packing == WeightPacking::Filter;
  return {definition->linear->packing, filter ? groups : 1, vector_unit ? vector_length(kernels.activations) : 0};
}

std::vector<int64_t> declared_dims(const WeightFormat& format, const Shape& shape) {
  if (format.packing == WeightPacking::Linear) return {1, 1, shape.at(1), shape.at(0)};
  if (format.packing != WeightPacking::Filter) return shape;
  std::vector<int64_t> dims(shape.begin() + 2, shape.end());
  const bool grouped = format.groups > 1;
  dims.push_back(shape.at(grouped ? 0 : 1));
  dims.push_back(shape.at(grouped ? 1 : 0));
  return dims;
}

Shape plain_shape(const WeightFormat& format, const std::vector<int64_t>& dims, const std::string& where) {
  const size_t rank = dims.size();
  switch (format.packing) {
    case WeightPacking::None:
      return dims;
    case WeightPacking::Matrix:
      user_check(rank >= 2, "{}: a packed matrix has at least 2 dims, not {}", where, rank);
      return dims;
    case WeightPacking::Linear:
      user_check(rank == 4 && dims[0] == 1 && dims[1] == 1,
                 "{}: a packed Gemm operand has the dims [1, 1, K, N], not [{}]", where, fmt::join(dims, ", "));
      return {dims[3], dims[2]};
    case WeightPacking::Filter:
      break;
  }
  user_check(rank == 3 || rank == 4, "{}: a packed filter has 3 or 4 dims, not {}", where, rank);
  const bool grouped = format.groups > 1;
  Shape shape{dims[rank - (grouped ? 2 : 1)], dims[rank - (grouped ? 1 : 2)]};
  shape.insert(shape.end(), dims.begin(), dims.end() - 2);
  return shape;
}

at::Tensor pack_weight(const WeightFormat& format, const at::Tensor& value) {
  if (value.numel() == 0) return value.reshape({0});
  switch (format.packing) {
    case WeightPacking::None:
      return value.reshape({-1});
    case WeightPacking::Filter:
    case WeightPacking::Linear:
      return pack_filter(value, filter_size(value.sizes().vec()), format.groups > 1, format.block);
    case WeightPacking::Matrix:
      break;
  }
  const int64_t rows = value.size(-2), columns = value.size(-1);
  std::vector<at::Tensor> parts;
  for (const at::Tensor& matrix : value.reshape({-1, rows, columns}).unbind(0))
    parts.push_back(pack_filter(matrix.t(), {columns, rows, 1}, false, format.block));
  return at::cat(parts);
}

at::Tensor unpack_weight(const WeightFormat& format, const at::Tensor& memory, const Shape& shape) {
  if (memory.numel() == 0) return memory.reshape(shape);
  switch (format.packing) {
    case WeightPacking::None:
      return memory.reshape(shape);
    case WeightPacking::Filter:
    case WeightPacking::Linear:
      return unpack_filter(memory, filter_size(shape), format.groups > 1, format.block).reshape(shape).contiguous();
    case WeightPacking::Matrix:
      break;
  }
  const int64_t rows = shape[shape.size() - 2], columns = shape.back();
  std::vector<at::Tensor> parts;
  for (const at::Tensor& packed : memory.reshape({-1, rows * columns}).unbind(0))
    parts.push_back(unpack_filter(packed, {columns, rows, 1}, false, format.block).reshape({columns, rows}).t());
  return at::stack(parts).reshape(shape).contiguous();
}

std::string layout_name(const WeightFormat& format, const Shape& shape) {
  if (format.packing == WeightPacking::None) return "UNK";
  const std::string positions = format.packing == WeightPacking::Filter && shape.size() == 3 ? "W" : "HW";
  if (format.block == 0) return format.groups > 1 ? positions + "CN" : "N" + positions + "C";
  const int64_t outputs = format.packing == WeightPacking::Matrix ? shape.back() : shape.front();
  return fmt::format("(N/{0}){1}C{0}{2}", format.block, positions, outputs % format.block ? "_UNALIGNED" : "");
}

}  // namespace espq
