#include "core/ops/arguments.h"

#include "core/support/error.h"

namespace espq {

std::vector<int64_t> to_integers(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kCPU, at::kLong).contiguous();
  const auto* data = flat.const_data_ptr<int64_t>();
  return {data, data + flat.numel()};
}

std::vector<double> to_doubles(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  const auto* data = flat.const_data_ptr<double>();
  return {data, data + flat.numel()};
}

int64_t wrap_axis(const Operation& operation, int64_t axis, int64_t rank) {
  user_check(axis >= -rank && axis < rank, "operation '{}' ({}): axis {} is outside a tensor of {} dimensions",
             operation.name(), operation.type(), axis, rank);
  return axis < 0 ? axis + rank : axis;
}

std::vector<int64_t> wrap_axes(const Operation& operation, std::vector<int64_t> axes, int64_t rank) {
  for (auto& axis : axes) axis = wrap_axis(operation, axis, rank);
  for (size_t i = 0; i < axes.size(); ++i) {
    user_check(std::find(axes.begin(), axes.begin() + i, axes[i]) == axes.begin() + i,
               "operation '{}' ({}): axis {} is given twice", operation.name(), operation.type(), axes[i]);
  }
  return axes;
}

at::ScalarType dtype_of_onnx(const Operation& operation, int64_t code) {
  switch (code) {
    case 1:
      return at::kFloat;
    case 2:
      return at::kByte;
    case 3:
      return at::kChar;
    case 4:
      return at::kUInt16;
    case 5:
      return at::kShort;
    case 6:
      return at::kInt;
    case 7:
      return at::kLong;
    case 9:
      return at::kBool;
    case 10:
      return at::kHalf;
    case 11:
      return at::kDouble;
    case 12:
      return at::kUInt32;
    case 13:
      return at::kUInt64;
    case 16:
      return at::kBFloat16;
    default:
      user_error(
          "operation '{}' ({}): ONNX data type number {} is not supported; use an integer or floating type of 8 "
          "to 64 bits or bool",
          operation.name(), operation.type(), code);
  }
}

}  // namespace espq
